"""What a thief does who has a cloud's root key, its coordinator's key and its database.

He speaks to the nodes directly, in valid messages under valid signatures: no order of his is
malformed. What a node refuses him it refuses because of what its owner locked.
"""

import hashlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
from typing_extensions import Buffer

from atoll.cli.places import COORDINATOR_SEED, DATABASE, GATEWAY_SEED
from atoll.cli.rooms import root_key
from atoll.cli.wire import identity_of
from atoll.client.keys import Keyring
from atoll.client.lock_keys import lock_keys
from atoll.client.retention import tell_holder
from atoll.coordinator.metadata.model import unpack_pieces
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId, piece_id_of
from atoll.core.merkle import PieceHasher
from atoll.core.messages.retention import RETENTION_ITEMS_MAX, RetentionItem
from atoll.core.orders import Action, OrderLimit, sign_orders
from atoll.core.pieces import (
    Header,
    crc32c,
    encode_header,
    encode_trailer,
    record_bytes,
    sign_trailer,
)
from atoll.core.ports import Address
from atoll.core.retention import Mode, RetentionRecord, parse_record, sign_record
from atoll.core.scheme import Layout
from atoll.runtime.clock import SystemClock
from atoll.runtime.rng import SystemRng
from atoll.runtime.transport import HttpPieceTransport

CALL_S_MAX = 30.0
ORDER_MS = 10 * 60_000
ORDERS_AT_ONCE = 500
"""Orders of one request."""
OVERWRITES_PER_NODE_MAX = 40
"""Pieces that he tries to write over, at each node."""
EMPTIED = (
    "object_lock",
    "segment_lock",
    "default_lock",
    "object",
    "composition",
    "segment",
    "piece",
    "upload",
    "part",
    "pack",
    "packed",
)
"""Tables whose rows he deletes: all that says which pieces anybody wants."""
TAKEN = ""
"""A node's word for an order that it carried out."""


@dataclass(frozen=True, slots=True)
class Loot:
    """A piece that the stolen database knows of."""

    account: bytes
    bucket: bytes
    segment: bytes
    serial: int
    layout: Layout
    index: int
    alias: int
    record: bytes
    """The newest record that locks it; empty where it is not locked."""

    @property
    def piece(self) -> bytes:
        """Its id."""
        return bytes(piece_id_of(SegmentId(self.segment), self.index))


@dataclass(frozen=True, slots=True)
class Mark:
    """A node that he can reach."""

    node_id: bytes
    address: Address


class Thief:
    """He holds what lies in a cloud's folder, the nodes' own folders left out."""

    def __init__(self, folder: Path, marks: Mapping[int, Mark]) -> None:
        """Copy all keys of ``folder``; ``marks`` are the nodes by alias."""
        self._folder = folder
        self._marks = marks
        self._coordinator = identity_of(folder, COORDINATOR_SEED)
        self._gateway = identity_of(folder, GATEWAY_SEED)
        self._keyring = Keyring(root_key(folder), SystemRng())
        self._transport = HttpPieceTransport()

    async def close(self) -> None:
        """Close his connections."""
        await self._transport.close()

    # --- the database ---

    def read_database(self) -> list[Loot]:
        """Return every piece that the coordinator's database knows of."""
        question = (
            "SELECT s.segment, s.serial, s.k, s.n, s.unit_bytes, s.plain_bytes, s.pieces, b.bucket,"
            " b.account, l.record FROM segment s JOIN bucket b ON b.bucket = s.bucket"
            " LEFT JOIN segment_lock l ON l.segment = s.segment"
        )
        with closing(sqlite3.connect(self._folder / DATABASE)) as database:
            rows = database.execute(question).fetchall()
        return [
            Loot(
                account,
                bucket,
                segment,
                serial,
                Layout(plain, k, n, unit),
                at.index,
                at.alias,
                record or b"",
            )
            for segment, serial, k, n, unit, plain, pieces, bucket, account, record in rows
            for at in unpack_pieces(pieces)
        ]

    def empty_database(self) -> int:
        """Delete all rows that say which pieces anybody wants; return how many."""
        with closing(sqlite3.connect(self._folder / DATABASE)) as database, database:
            return sum(database.execute(f"DELETE FROM {name}").rowcount for name in EMPTIED)  # noqa: S608

    # --- the coordinator's key ---

    async def delete(self, loot: Sequence[Loot]) -> Counter[str]:
        """Order pieces deleted, at their nodes; return the nodes' words."""
        said: Counter[str] = Counter()
        for mark, some in self._by_mark(loot):
            for start in range(0, len(some), ORDERS_AT_ONCE):
                page = some[start : start + ORDERS_AT_ONCE]
                limits = [self._limit(Action.DELETE, mark, one, 0) for one in page]
                body = msgspec.msgpack.encode(sign_orders(self._coordinator, limits))
                reply = await self._transport.call(
                    mark.address, "POST", "/v1/delete", {}, body, CALL_S_MAX
                )
                said.update(msgspec.msgpack.decode(reply.body, type=list[str]))
        return said

    async def overwrite(self, loot: Sequence[Loot]) -> Counter[str]:
        """Send other bytes under the ids of pieces, as a ransom's encryption would; count words."""
        said: Counter[str] = Counter()
        for mark, some in self._by_mark(loot):
            for one in some[:OVERWRITES_PER_NODE_MAX]:
                record = self._forged(one)
                limit = self._limit(Action.PUT, mark, one, len(record))
                (order,) = sign_orders(self._coordinator, [limit])
                said[await self._put(mark, one, order, record)] += 1
        return said

    async def _put(self, mark: Mark, one: Loot, order: bytes, record: bytes) -> str:
        async def body() -> AsyncIterator[Buffer]:
            yield record

        try:
            await self._transport.put_piece(
                mark.address, one.piece, order, body(), len(record), CALL_S_MAX
            )
        except AtollError as refused:
            return refused.kind.value
        return TAKEN

    def _forged(self, one: Loot) -> bytes:
        """Return a record under a piece's id that holds as such: other bytes, signed by him."""
        layout = one.layout
        header = Header(
            segment_id=SegmentId(one.segment),
            index=one.index,
            k=layout.k,
            n=layout.n,
            unit_bytes=layout.unit_bytes,
            plain_bytes=layout.plain_bytes,
            data_bytes=layout.piece_bytes,
            payer_tag=PayerTag(bytes(16)),
        )
        data = hashlib.shake_128(one.piece).digest(header.data_bytes)
        hasher = PieceHasher()
        hasher.update(data)
        roots = [hashlib.sha256(one.piece + bytes((n,))).digest() for n in range(header.n)]
        roots[one.index] = hasher.root()
        before = encode_header(header) + data
        trailer = sign_trailer(self._gateway, header, roots)
        record = before + encode_trailer(header, trailer, crc32c(before))
        assert len(record) == record_bytes(header)
        return record

    def _limit(self, action: Action, mark: Mark, one: Loot, byte_cap: int) -> OrderLimit:
        now_ms = SystemClock().now_ms()
        return OrderLimit(
            action=action,
            node_id=NodeId(mark.node_id),
            segment_id=SegmentId(one.segment),
            segment_serial=one.serial,
            index=one.index,
            byte_cap=byte_cap,
            issued_ms=now_ms,
            expires_ms=now_ms + ORDER_MS,
            serial=OrderSerial(SystemRng().bytes(16)),
            payer_tag=PayerTag(bytes(16)),
            gateway_key=self._gateway.public_key,
        )

    # --- the root key ---

    async def unlock(self, loot: Sequence[Loot]) -> Counter[str]:
        """Tell every holder of a locked piece, under the owner's own lock key, that it is free.

        Each gets a record without a period, one that ends in a second, one that only the owner
        keeps up (governance), and one under a lock key of the thief's own.
        """
        said: Counter[str] = Counter()
        for mark, some in self._by_mark([one for one in loot if one.record]):
            items = [item for one in some for item in self._forged_locks(one)]
            for start in range(0, len(items), RETENTION_ITEMS_MAX):
                page = items[start : start + RETENTION_ITEMS_MAX]
                told = await tell_holder(
                    self._transport, mark.address, mark.node_id, page, CALL_S_MAX
                )
                said.update(one.kind for one in told)
        return said

    def _forged_locks(self, one: Loot) -> list[RetentionItem]:
        kept = parse_record(one.record)
        owners = lock_keys(self._keyring, one.account, one.bucket)
        his = Identity(hashlib.sha256(b"thief" + one.bucket).digest())
        now_ms, sequence = SystemClock().now_ms(), kept.sequence + 1

        def record(key: Identity, mode: Mode, until_ms: int) -> bytes:
            return sign_record(
                key,
                RetentionRecord(kept.segment_id, key.public_key, mode, until_ms, False, sequence),
            )

        return [
            RetentionItem(one.index, record(owners.lock, Mode.NONE, 0), owners.grant),
            RetentionItem(one.index, record(owners.lock, Mode.COMPLIANCE, now_ms), owners.grant),
            RetentionItem(
                one.index, record(owners.lock, Mode.GOVERNANCE, kept.until_ms), owners.grant
            ),
            RetentionItem(one.index, record(his, Mode.COMPLIANCE, now_ms), owners.grant),
        ]

    def _by_mark(self, loot: Sequence[Loot]) -> list[tuple[Mark, list[Loot]]]:
        by_alias: dict[int, list[Loot]] = defaultdict(list)
        for one in loot:
            by_alias[one.alias].append(one)
        return [(self._marks[alias], some) for alias, some in sorted(by_alias.items())]
