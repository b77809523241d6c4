"""Whole-piece reads in disguise: who proves but does not serve is found out.

Now and then a whole piece is read as a customer reads it: an ordinary GET order, the key and payer
tag of a gateway that is in use, the same transport, at a moment nobody can foretell. What comes is
held against the committed root. A node that would serve customers and refuse us has to tell us
apart; what it has for that is the address we ask from (docs/threat-model.md).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from atoll.coordinator.audit import store
from atoll.coordinator.placement.model import Candidate, NodeState
from atoll.coordinator.placement.service import OrderItem, PlacementService
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.merkle import PieceHasher, segment_root
from atoll.core.orders import Action
from atoll.core.pieces import trailer_bytes
from atoll.core.ports import Clock, Compute, Database, PiecePart, PieceTransport, Rng
from atoll.core.proofs.sums import Entry
from atoll.core.scheme import Layout

log = logging.getLogger("atoll.coordinator.audit")
ORDER_MS = 15 * 60 * 1000
"""As the orders of customers."""
LEASE = "disguised reads"
LEASE_MS = 60_000
CHUNK_BYTES = 256 << 10
START_S_MAX = 10.0
"""Until the first byte, and at most between two."""
BYTES_PER_S_MIN = 256 << 10
"""A whole piece that comes more slowly than this counts as refused."""
READS_AT_ONCE_MAX = 4
"""In one step, of all nodes together; where more are due, chance decides which."""


class Retrievals(Protocol):
    """What is told to the reputation (``ReputationService``)."""

    def observe_retrieval(
        self, alias: int, ok: bool, *, piece: bytes = b"", reason: str = "", evidence: str = ""
    ) -> None:
        """One whole-piece read."""


@dataclass(frozen=True, slots=True)
class _Target:
    node: Candidate
    entry: Entry
    layout: Layout

    @property
    def piece(self) -> bytes:
        return piece_id_of(SegmentId(self.entry.segment), self.entry.index)


class DisguisedReads:
    """Reads a piece of each node about once in ``read_slots`` slots."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Rng,
        database: Database,
        transport: PieceTransport,
        compute: Compute,
        placement: PlacementService,
        retrievals: Retrievals,
        customers: Sequence[bytes],
        period_ms: int,
    ) -> None:
        """``customers`` are keys of gateways that customers use; ``period_ms`` 0 reads nothing."""
        self._clock = clock
        self._rng = rng
        self._database = database
        self._transport = transport
        self._compute = compute
        self._placement = placement
        self._retrievals = retrievals
        self._customers = list(customers)
        self._period_ms = period_ms
        self._last_ms: int | None = None
        self._owner = rng.bytes(16)
        self._leased_until_ms = 0
        self.reads = 0
        self.refused = 0

    async def step(self) -> None:
        """Draw for each node whether its time has come; read what was drawn."""
        now_ms = self._clock.now_ms()
        last_ms, self._last_ms = self._last_ms, now_ms
        if not self._period_ms or not self._customers or not await self._is_ours(now_ms):
            return
        if last_ms is None:
            return
        # Without memory: whenever the last read was, the next is as likely in any moment.
        chance = min(1.0, max(0, now_ms - last_ms) / self._period_ms)
        drawn = [
            node
            for _, node in sorted(self._placement.nodes().items())
            if node.state is NodeState.ALIVE and self._rng.uniform() < chance
        ]
        # Chance cuts as well: the first by alias would leave the last of many never read.
        for node in self._rng.sample(drawn, min(len(drawn), READS_AT_ONCE_MAX)):
            await self.read(node)

    async def _is_ours(self, now_ms: int) -> bool:
        """Say whether it is this process that reads; of several over one database one does."""
        if now_ms + LEASE_MS // 2 >= self._leased_until_ms:
            until_ms = now_ms + LEASE_MS
            ours = await self._database.write(
                lambda c: store.take_lease(c, LEASE, self._owner, until_ms, now_ms)
            )
            self._leased_until_ms = until_ms if ours else 0
        return self._leased_until_ms > now_ms

    async def read(self, node: Candidate) -> bool | None:
        """Read a piece of a node; say whether it was served rightly. None: it has none."""
        target = await self._choose(node)
        if target is None:
            return None
        self.reads += 1
        reason = await self._judge(target)
        if reason is None:
            return None
        if reason:
            held = await self._database.read(
                lambda c: store.holds(c, node.alias, [(target.entry.segment, target.entry.index)])
            )
            if not held[0]:
                return None
            self.refused += 1
            log.warning("node %d: piece %s: %s", node.alias, target.piece.hex()[:10], reason)
        self._retrievals.observe_retrieval(
            node.alias, not reason, piece=target.piece, reason=reason
        )
        return not reason

    async def _choose(self, node: Candidate) -> _Target | None:
        last = await self._database.read(lambda c: store.last_serial(c, node.alias))
        if not last:
            return None
        serial = self._rng.below(last) + 1
        found = await self._database.read(lambda c: store.piece_at(c, node.alias, serial))
        if found is None:
            return None
        entry, layout, _ = found
        return _Target(node, entry, layout)

    async def _judge(self, target: _Target) -> str | None:
        """Read and check; return what was wrong, in a word, or nothing.

        None where the node could not be reached: that is a matter of its availability.
        """
        began = self._clock.monotonic()
        try:
            root = await self._root_of(target)
            seconds = self._clock.monotonic() - began
            trailer = await self._transport.get_piece(
                target.node.address,
                target.piece,
                self._order(target, target.entry.piece_bytes),
                PiecePart.TRAILER,
                0,
                trailer_bytes(target.layout.n),
                START_S_MAX,
            )
        except AtollError as error:
            if error.kind is Kind.UNREACHABLE:
                return None
            slow = error.kind in (Kind.TIMEOUT, Kind.OVERLOADED)
            return "slow" if slow else f"refused: {error.kind.value}"
        if not _fits(target, root, trailer):
            return "wrong"
        limit_s = START_S_MAX + target.entry.piece_bytes / BYTES_PER_S_MIN
        return "slow" if seconds > limit_s else ""

    async def _root_of(self, target: _Target) -> bytes:
        length = target.entry.piece_bytes
        stream = await self._transport.open_piece(
            target.node.address,
            target.piece,
            self._order(target, length),
            0,
            length,
            START_S_MAX,
        )
        hasher = PieceHasher()
        buffer = memoryview(bytearray(min(CHUNK_BYTES, length)))
        try:
            done = 0
            while done < length:
                part = buffer[: min(len(buffer), length - done)]
                await stream.read_into(part)
                await self._compute.run(hasher.update, part)
                done += len(part)
        finally:
            await stream.close()
        return hasher.root()

    def _order(self, target: _Target, length: int) -> bytes:
        """Return an order like those that gateways get for their customers' reads."""
        customer = self._customers[self._rng.below(len(self._customers))]
        segment, serial = SegmentId(target.entry.segment), target.entry.serial
        (grant,) = self._placement.sign(
            Action.GET,
            [OrderItem(target.node, segment, target.entry.index, serial)],
            byte_cap=2 * length,
            life_ms=ORDER_MS,
            gateway_key=customer,
            payer=self._placement.payer_tag(customer),
        )
        return grant.order


def _fits(target: _Target, root: bytes, trailer: bytes) -> bool:
    """Say whether these are the bytes and the roots that the segment's root commits."""
    n, layout, entry = target.layout.n, target.layout, target.entry
    if len(trailer) < 32 * n:
        return False
    roots = [trailer[i : i + 32] for i in range(0, 32 * n, 32)]
    made = segment_root(entry.segment, layout.k, n, layout.unit_bytes, layout.plain_bytes, roots)
    return roots[entry.index] == root and made == entry.segment_root
