"""A coordinator with its database and a provider's machine: both sides of a comparison, for real.

Only the network between them is missing: messages are encoded, counted and decoded.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from tests.unit.node.machine import PAYER, TINY, UPLOADER, Machine, put

from atoll.coordinator.metadata.migrate import migrate_connection
from atoll.coordinator.metadata.store import segments as metadata
from atoll.coordinator.registry.service import RegistryConfig, RegistryService
from atoll.coordinator.sets import store
from atoll.coordinator.sets.rules import SetTimers
from atoll.coordinator.sets.service import SetsService
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.merkle import piece_root
from atoll.core.messages import (
    Message,
    NodeFacts,
    NodeRequest,
    Register,
    SegmentRecord,
    SignedFacts,
    StoredPiece,
    decode,
    encode,
)
from atoll.core.pieces import Header, crc32c, encode_header, encode_trailer, sign_trailer
from atoll.core.ports import Address
from atoll.node.link import Link
from atoll.node.orders import issuer_of_key
from atoll.node.service import FACTS_PURPOSE
from atoll.node.sets.service import SetKeeper
from atoll.node.store.model import HeldPiece, State
from atoll.node.store.store import PieceStore
from atoll.node.store.volume import Admission
from atoll.sim.clock import SimClock
from atoll.sim.database import DatabaseServer
from atoll.sim.incarnation import Incarnation

Result = TypeVar("Result")
COORDINATOR = Identity(b"coordinator".ljust(32, b"."))
PROVIDER = Identity(b"provider".ljust(32, b"."))
BUCKET = b"b" * 16
AGE_MS = 60_000
HOUR_MS = 3600 * 1000
ISSUER = issuer_of_key(COORDINATOR.public_key)


class OwnDatabase:
    """``core.ports.Database`` over one connection, at once."""

    dialect = "sqlite"

    def __init__(self, server: DatabaseServer) -> None:
        self.server = server

    async def read(self, function: Callable[[Connection], Result]) -> Result:
        return self.server.run(function, write=False)

    async def write(self, function: Callable[[Connection], Result]) -> Result:
        return self.server.run(function, write=True)

    async def close(self) -> None:
        """Stay open: the test closes."""


class Pair:
    """A node and its coordinator."""

    def __init__(self, seed: str = "sets", *, skew_ms: int = 0) -> None:
        self.machine = Machine(seed, TINY)
        self.machine.clock_ahead_ms = skew_ms
        self.random = random.Random(seed)
        self.server = DatabaseServer(migrate_connection)
        self.life = Incarnation("coordinator", 0, self.machine.loop, self.machine.trace)
        self.clock = SimClock(self.life)
        self.database = OwnDatabase(self.server)
        self.registry = RegistryService(
            self.clock, self.database, COORDINATOR.public_key, RegistryConfig(), judges=False
        )
        self.lost: list[bytes] = []
        self.service = SetsService(
            self.clock,
            self.database,
            self.registry,
            SetTimers(again_ms=10_000, surplus_age_ms=AGE_MS),
            lost=self._strike,
        )
        self.link = Link(Address("127.0.0.1", 1), key=COORDINATOR.public_key, registered=True)
        self.said: list[Message] = []
        """Requests and answers, in order."""
        self.wire_bytes = 0
        self.serial = 0
        self.alias = self._register(PROVIDER)
        self.boot()

    # --- processes ---

    def boot(self) -> None:
        """Start the node's process."""
        self.machine.boot()
        self.keeper = SetKeeper(
            self.machine.store,
            self.machine.disk,
            self.machine.compute,
            self.machine.clock,
            self.machine.rng,
            links=[self.link],
            ask=self.ask,
            skew_ms=60_000,
        )
        self.machine.run(self.keeper.start())

    def crash(self) -> None:
        """The node loses power and comes back."""
        self.machine.crash()
        self.boot()

    @property
    def node(self) -> PieceStore:
        return self.machine.store

    def end(self) -> None:
        self.machine.end()
        self.life.crash()
        self.life.bury()
        self.server.close()

    def _register(self, identity: Identity) -> int:
        facts = encode(
            NodeFacts(
                public_key=identity.public_key,
                operator="o",
                site="s",
                region="eu",
                country="DE",
                tier="home",
                host="127.0.0.1",
                port=1,
                fingerprint=b"",
                capacity_bytes=1 << 30,
                price_micro=0,
                version="0",
            )
        )
        request = Register(
            signed_facts=SignedFacts(facts=facts, signature=identity.sign(FACTS_PURPOSE, facts))
        )
        now_ms = self.clock.now_ms()
        work = self.registry.register(request, identity.public_key, now_ms)
        return self.machine.loop.run_until_complete(work).alias

    async def ask(self, link: Link, message: Message, answer: type[Any]) -> Any:
        """Carry a node's request to the coordinator and its answer back."""
        assert link is self.link
        packed = encode(message)
        request = decode(packed, NodeRequest)
        handler = self.service.node_handlers[type(request)]
        reply = encode(await handler(request, PROVIDER.public_key, self.clock.now_ms()))
        self.wire_bytes += len(packed) + len(reply)
        decoded = decode(reply, answer)
        self.said += [message, decoded]
        return decoded

    async def _strike(self, alias: int, pieces: Sequence[bytes]) -> None:
        """Do what repair does: the piece is no longer the node's."""
        assert alias == self.alias
        self.lost += pieces
        for segment in self.segments():
            for piece in segment.pieces:
                if piece_id_of(SegmentId(segment.segment), piece.index) in pieces:
                    self.write(
                        partial(
                            metadata.replace_pieces,
                            old=segment,
                            pieces=[],
                            now_ms=self.clock.now_ms(),
                            collect=False,
                        )
                    )

    # --- the coordinator's side ---

    def write(self, function: Callable[[Connection], Result]) -> Result:
        return self.server.run(function, write=True)

    def read(self, function: Callable[[Connection], Result]) -> Result:
        return self.server.run(function, write=False)

    def segments(self) -> list[Any]:
        return self.read(lambda c: metadata.segments_after(c, 0, 100_000))

    def counted(self) -> dict[int, int]:
        """Serial to index of what the coordinator holds the node to."""
        return {
            segment.serial: piece.index
            for segment in self.segments()
            for piece in segment.pieces
            if piece.alias == self.alias
        }

    def next_serial(self, step: int = 1) -> int:
        self.serial += step
        return self.serial

    def commit(self, serial: int, index: int = 0, size: int = 100) -> None:
        """Commit a segment whose piece the node (it is said) holds."""
        record = SegmentRecord(
            segment=segment_of(serial),
            serial=serial,
            plain_bytes=size,
            k=1,
            n=4,
            unit_bytes=size + 16,
            root=hashlib.sha256(b"root%d" % serial).digest(),
            wrapped_key=b"k",
            pieces=[StoredPiece(index=index, alias=self.alias)],
        )
        self.write(
            lambda c: metadata.insert_segments(
                c, BUCKET, record.segment, 0, [record], 1, self.clock.now_ms()
            )
        )

    def delete(self, serial: int) -> None:
        """Delete the object that the segment was for; its piece becomes garbage."""
        whole = (segment_of(serial), 0, metadata.POSITION_END)
        now_ms = self.clock.now_ms()
        self.write(lambda c: metadata.collect_streams(c, [whole], now_ms))

    def garbage(self) -> int:
        return sum(self.read(metadata.garbage_counts).values())

    # --- the node's side ---

    def upload(self, serial: int, index: int = 0, size: int = 100, *, until_ms: int = 0) -> bytes:
        """A gateway stores a piece under an order issued now; return its id."""
        header = Header(
            SegmentId(segment_of(serial)), index, 1, 4, size + 16, size, size + 16, PAYER
        )
        data = bytes(size + 16)
        roots = [bytes(32)] * 4
        roots[index] = piece_root(data)
        head = encode_header(header)
        trailer = encode_trailer(header, sign_trailer(UPLOADER, header, roots), crc32c(head + data))
        record = head + data + trailer
        now_ms = self.clock.now_ms()
        admission = Admission(
            piece=header.piece_id,
            segment=header.segment_id,
            serial=self.random.randbytes(16),
            issued_ms=now_ms,
            expires_ms=now_ms + HOUR_MS,
            retention_until_ms=until_ms,
            issuer=ISSUER,
            segment_serial=serial,
        )

        class Whole:
            def __init__(self) -> None:
                self.record = record

        self.machine.run(put(self.node, Whole(), admission))  # type: ignore[arg-type]
        return header.piece_id

    def delete_there(self, serial: int, index: int = 0) -> None:
        """The node obeys a signed deletion, wherever that came from."""
        now_ms = self.clock.now_ms()
        admission = Admission(
            piece=piece_id_of(SegmentId(segment_of(serial)), index),
            segment=segment_of(serial),
            serial=self.random.randbytes(16),
            issued_ms=now_ms,
            expires_ms=now_ms + HOUR_MS,
            retention_until_ms=0,
            issuer=ISSUER,
            segment_serial=serial,
        )
        self.machine.run(self.node.delete(admission))

    def forget(self, serial: int, index: int = 0) -> None:
        """The node loses a piece without noticing: a disk that lied about a sync."""
        piece = piece_id_of(SegmentId(segment_of(serial)), index)
        index_of_node = self.node.volume.index
        index_of_node.apply([], [])
        row = index_of_node.get(piece)
        assert row is not None
        with self.node.volume.logs.reading(self.node.volume.log_of(row)) as file:
            file.write_at(row.offset, [bytes(8)])
        index_of_node._db.execute("DELETE FROM piece WHERE piece = ?", (piece,))
        index_of_node._account(row, -1, 0, set())

    def held(self, state: State = State.LIVE) -> list[HeldPiece]:
        found: list[HeldPiece] = []
        while page := self.node.held(ISSUER, found[-1].segment_serial if found else 0, 100):
            found += page
        return [one for one in found if one.state == state]

    # --- both ---

    def compare(self) -> Any:
        """One comparison; return the report."""
        self.machine.run(self.keeper.compare(self.link))
        return self.said[-2]

    def pass_age(self) -> None:
        """Let what is uploaded now be old, and clocks be no excuse."""
        self.machine.pass_time(AGE_MS / 1000 + 61)

    def settle(self) -> Any:
        """Compare until a report finds nothing to do (three times at most)."""
        for _ in range(4):
            self.pass_age()
            report = self.compare()
        return report

    def check_equal(self) -> None:
        """Both sides agree, to the piece and to the byte; what is locked is beside it."""
        live = {(one.segment_serial, one.index): one for one in self.held()}
        now_ms = self.clock.now_ms()
        free = {place for place, one in live.items() if one.retention_ms <= now_ms}
        counted = self.counted()
        assert free <= set(counted.items()) <= set(live)
        mine = self.read(lambda c: store.counted(c, self.alias))
        weight = sum(live[place].data_bytes for place in counted.items())
        assert (mine.pieces, mine.piece_bytes) == (len(counted), weight)
        assert self.read(lambda c: store.told_sum(c, self.alias)) == mine


def segment_of(serial: int) -> bytes:
    return hashlib.sha256(b"segment%d" % serial).digest()[:16]
