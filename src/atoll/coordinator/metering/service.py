"""Reads meters again and again, closes epochs over what was read, and hands out their lines.

The truth is which pieces nodes are held to. A reading counts them by node and bucket, page by page
so that nobody waits for it; what two readings have in common is charged for the time between them.
What comes of a reading is written in one transaction: a coordinator that dies midway has read
nothing, and of several coordinators whoever began later goes on from the other.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.metering import rules, store
from atoll.coordinator.metering.model import (
    EPOCH_MS_MAX,
    ClosedEpoch,
    Count,
    Line,
    MeteringConfig,
    NodeProofs,
    Place,
    RepairWork,
)
from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.traffic.service import TrafficService
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.metering import ExplainReceipt, Receipt, SignedRead
from atoll.core.ports import Clock, Database
from atoll.economy.settlement.model import EgressLine, ProofLine, RepairLine, StorageLine

log = logging.getLogger("atoll.coordinator.metering")

PAGE_SEGMENTS = 100
"""Counted in one go: 4,000 pieces at 20/40, some ten milliseconds."""
PriceOf = Callable[[NodeView], int]
"""What a node asks, pico-euro per GB-month."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was counted, from when on, and what nodes asked then."""

    time_ms: int
    counts: Mapping[Place, Count]
    prices: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Metered:
    """What was measured in an epoch. Payers are customers' true ids."""

    epoch: ClosedEpoch
    storage: tuple[StorageLine, ...]
    egress: tuple[EgressLine, ...]
    repairs: tuple[RepairLine, ...]
    proofs: tuple[ProofLine, ...]


@dataclass(frozen=True, slots=True)
class SoFar:
    """What was measured since the last epoch was closed; nothing of it is fixed yet."""

    metered: Metered
    """As if the epoch ended with the last reading. Proofs of nodes whose slots are all too young
    are those of the epoch before."""
    stored: tuple[StorageLine, ...]
    """What lay where at the last reading; ``byte_ms`` is the bytes, for one millisecond."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A line and what it rests on."""

    line: Line
    node_id: bytes
    evidence: bytes


class MeteringService(Part):
    """Bytes times time, by node and bucket; proofs by node; closed into epochs."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        config: MeteringConfig,
        *,
        price_of: PriceOf,
        slot_ms: int,
        traffic: TrafficService | None = None,
    ) -> None:
        """``slot_ms``: length of the audit's slots; ``traffic``: what was read, if that counts."""
        self._traffic = traffic
        self._clock = clock
        self._database = database
        self._registry = registry
        self._price_of = price_of
        self._slot_ms = slot_ms
        self.handlers = {ExplainReceipt: self._explain}
        self.steps = [Step("read meters", self.read, config.pause_s)]

    def _prices(self) -> dict[int, int]:
        return {view.alias: self._price_of(view) for view in self._registry.nodes()}

    def _node_ids(self) -> dict[int, bytes]:
        return {view.alias: view.node_id for view in self._registry.nodes()}

    async def read(self) -> int:
        """Read the meters; return how many bytes are charged now."""
        reading = await self._count()
        return await self._database.write(partial(_take, reading=reading))

    async def _count(self) -> _Reading:
        """Count all pieces; what is counted counts as counted when that began."""
        await self._registry.fresh()
        now_ms, prices = self._clock.now_ms(), self._prices()
        accounts = await self._database.read(store.accounts)
        counts: Counter[tuple[int, bytes]] = Counter()
        serial: int | None = 0
        while serial is not None:
            serial, page = await self._database.read(
                partial(store.count_page, after=serial, limit=PAGE_SEGMENTS)
            )
            for place, piece_bytes in page.items():
                counts[place] += piece_bytes
            # Reads of SQLite run on the loop: let others have it between two pages.
            await self._clock.sleep(0)
        found = {
            Place(alias, bucket): Count(accounts[bucket], piece_bytes)
            for (alias, bucket), piece_bytes in counts.items()
            if bucket in accounts
        }
        return _Reading(now_ms, found, prices)

    async def close(self, epoch: int) -> ClosedEpoch:
        """Read the meters and fix all that was read since the last epoch as this one's.

        Closing it again returns what was closed. Raises ``CONFLICT`` for an epoch that does not
        follow the last one, or has no length yet.
        """
        reading = await self._count()
        node_ids = self._node_ids()

        def write(connection: Connection) -> ClosedEpoch:
            known = store.closed(connection, epoch)
            if known is not None:
                return known
            last = store.last_epoch(connection)
            if epoch != (last.epoch if last else 0) + 1:
                raise _conflict(f"epoch {epoch} does not follow {last.epoch if last else 0}")
            _take(connection, reading)
            # Another coordinator may have read after we began to: then its reading is the last.
            now_ms = store.begin(connection)
            lines = [
                replace(line, until_ms=line.until_ms or now_ms)
                for line in store.open_lines(connection)
            ]
            begin_ms = last.until_ms if last else min((one.from_ms for one in lines), default=0)
            if not begin_ms:
                raise _conflict("the meters were read for the first time just now")
            if now_ms <= begin_ms:
                raise _conflict("the clock stands before the end of the last epoch")
            slots_end = max(
                rules.slots_end_of(now_ms, self._slot_ms), last.slots_end if last else 0
            )
            first_slot = last.slots_end if last else begin_ms // self._slot_ms
            closed = ClosedEpoch(epoch, begin_ms, now_ms, max(slots_end, first_slot))
            proofs = rules.proofs_of(store.results(connection, first_slot, closed.slots_end))
            store.put_epoch(connection, closed, proofs)
            store.settle_repairs(connection, epoch, now_ms)
            heads = {
                alias: hashlib.sha256(signed).digest()
                for alias, signed in store.newest_heads(connection).items()
            }
            fixed = [
                replace(line, epoch=epoch, head=heads.get(line.place.alias, b"")) for line in lines
            ]
            store.settle(
                connection,
                [(line, line.evidence(node_ids.get(line.place.alias, b""))) for line in fixed],
            )
            if self._traffic is not None:
                self._traffic.settle(connection, epoch, node_ids)
            return closed

        closed = await self._database.write(write)
        if closed.until_ms - closed.from_ms > EPOCH_MS_MAX:
            log.warning("epoch %d is longer than a month", epoch)
        return closed

    async def metered(self, epoch: int) -> Metered:
        """Return what was measured in a closed epoch. Raises ``NOT_FOUND``.

        Lines of nodes that are not registered any more are left out: there is nobody to pay.
        """
        await self._registry.fresh()
        node_ids = self._node_ids()

        def load(connection: Connection) -> Metered:
            closed = store.closed(connection, epoch)
            if closed is None:
                raise AtollError(Kind.NOT_FOUND, "read meters", f"epoch {epoch} is not closed")
            storage = _storage_lines(store.lines_of(connection, epoch), node_ids)
            proofs = _proof_lines(store.proofs_of(connection, epoch), node_ids)
            repairs = _repair_lines(store.repairs_of(connection, epoch), node_ids)
            egress = self._egress_lines(connection, epoch, node_ids)
            return Metered(closed, storage, egress, repairs, proofs)

        return await self._database.read(load)

    async def so_far(self) -> SoFar:
        """Return what was measured since the last epoch was closed, up to the last reading."""
        await self._registry.fresh()
        node_ids, prices = self._node_ids(), self._prices()

        def load(connection: Connection) -> SoFar:
            read_ms, last = store.last_read(connection), store.last_epoch(connection)
            lines = store.open_lines(connection)
            first_ms = min((one.from_ms for one in lines), default=read_ms)
            begin_ms = last.until_ms if last else first_ms
            first_slot = last.slots_end if last else begin_ms // self._slot_ms
            slots_end = max(rules.slots_end_of(read_ms, self._slot_ms), first_slot)
            epoch = ClosedEpoch(
                last.epoch + 1 if last else 1, begin_ms, max(read_ms, begin_ms + 1), slots_end
            )
            proofs = {
                one.alias: one for one in (store.proofs_of(connection, last.epoch) if last else ())
            }
            for proven in rules.proofs_of(store.results(connection, first_slot, slots_end)):
                proofs[proven.alias] = proven
            ended = [replace(line, until_ms=line.until_ms or read_ms) for line in lines]
            metered = Metered(
                epoch=epoch,
                storage=_storage_lines(ended, node_ids),
                egress=self._egress_lines(connection, 0, node_ids),
                repairs=_repair_lines(store.repairs_of(connection, 0), node_ids),
                proofs=_proof_lines([proofs[alias] for alias in sorted(proofs)], node_ids),
            )
            stored = tuple(
                StorageLine(
                    node=node_ids[place.alias],
                    payer=count.account,
                    byte_ms=count.piece_bytes,
                    price_pico=prices.get(place.alias, 0),
                    price_max_pico=0,
                    evidence=b"",
                )
                for place, count in store.counted_before(connection).items()
                if place.alias in node_ids
            )
            return SoFar(metered, stored)

        return await self._database.read(load)

    def _egress_lines(
        self, connection: Connection, epoch: int, node_ids: Mapping[int, bytes]
    ) -> tuple[EgressLine, ...]:
        """Return what was read in a closed epoch, or (0) since the last one was closed."""
        lines = self._traffic.lines(connection, epoch) if self._traffic is not None else []
        return tuple(
            EgressLine(node_ids[line.alias], line.account, line.byte_count, line.evidence)
            for line in lines
            if line.alias in node_ids
        )

    def note_repair(
        self,
        connection: Connection,
        task: bytes,
        worker: int,
        rebuilt: Sequence[int],
        holders: Mapping[int, int],
        piece_bytes: int,
        receipts: Sequence[bytes],
    ) -> None:
        """Take down a finished repair task, in the transaction that settles it."""
        works = rules.repair_work(
            task, worker, rebuilt, holders, piece_bytes, receipts, self._clock.now_ms()
        )
        store.add_repairs(connection, works)

    async def last(self) -> ClosedEpoch | None:
        """Return the epoch that was closed last."""
        return await self._database.read(store.last_epoch)

    async def _explain(self, request: ExplainReceipt) -> Message:
        """Answer with the line that an evidence stands for, of whatever kind it is."""
        for kind in (self._explain_read, self._explain_repair):
            found = await kind(request.evidence)
            if found is not None:
                return found
        line = await self.explain(request.evidence)
        return Receipt(
            evidence=line.evidence,
            epoch=line.line.epoch,
            node_id=line.node_id,
            bucket=line.line.place.bucket,
            account=line.line.account,
            piece_bytes=line.line.piece_bytes,
            from_ms=line.line.from_ms,
            until_ms=line.line.until_ms,
            price_pico=line.line.price_pico,
            head=line.line.head,
        )

    async def _explain_read(self, evidence: bytes) -> Receipt | None:
        found = await self._traffic.explain(evidence) if self._traffic is not None else None
        if found is None:
            return None
        epoch, line, node_id, receipts = found
        return Receipt(
            evidence=evidence,
            epoch=epoch,
            node_id=node_id,
            account=line.account,
            piece_bytes=line.byte_count,
            kind="egress",
            reads=[
                SignedRead(
                    receipt=one.receipt,
                    node_key=one.node_key,
                    signature=one.signature,
                    byte_count=one.byte_count,
                )
                for one in receipts
            ],
        )

    async def _explain_repair(self, evidence: bytes) -> Receipt | None:
        found = await self._database.read(partial(store.repair_by_evidence, evidence=evidence))
        if found is None:
            return None
        epoch, work = found
        await self._registry.fresh()
        node_ids = self._node_ids()
        return Receipt(
            evidence=evidence,
            epoch=epoch,
            node_id=node_ids.get(work.worker, b""),
            account=b"",
            piece_bytes=work.piece_bytes,
            kind="repair",
            until_ms=work.done_ms,
            failed=node_ids.get(work.failed, b""),
            task=work.task,
            pieces=work.receipts,
        )

    async def explain(self, evidence: bytes) -> Explained:
        """Return the line that an evidence in a document stands for. Raises ``NOT_FOUND``."""
        await self._registry.fresh()
        line = await self._database.read(partial(store.by_evidence, evidence=evidence))
        if line is None or not evidence:
            raise AtollError(
                Kind.NOT_FOUND, "explain receipt", "no line was metered with this evidence"
            )
        return Explained(line, self._node_ids().get(line.place.alias, b""), evidence)


def _storage_lines(lines: Iterable[Line], node_ids: Mapping[int, bytes]) -> tuple[StorageLine, ...]:
    return tuple(
        StorageLine(
            node=node_ids[line.place.alias],
            payer=line.account,
            byte_ms=line.byte_ms,
            price_pico=line.price_pico,
            price_max_pico=0,
            evidence=line.evidence(node_ids[line.place.alias]),
        )
        for line in lines
        if line.place.alias in node_ids
    )


def _proof_lines(
    proofs: Iterable[NodeProofs], node_ids: Mapping[int, bytes]
) -> tuple[ProofLine, ...]:
    return tuple(
        ProofLine(
            node=node_ids[one.alias],
            slots_due=one.slots_due,
            slots_missed=one.slots_missed,
            samples=one.samples,
            failed=one.failed,
            evidence=one.evidence,
        )
        for one in proofs
        if one.alias in node_ids
    )


def _repair_lines(
    works: Iterable[RepairWork], node_ids: Mapping[int, bytes]
) -> tuple[RepairLine, ...]:
    return tuple(
        RepairLine(
            worker=node_ids[work.worker],
            failed=node_ids.get(work.failed, b""),
            byte_count=work.piece_bytes,
            evidence=work.evidence(),
        )
        for work in works
        if work.worker in node_ids
    )


def _take(connection: Connection, reading: _Reading) -> int:
    """Take over a reading within a transaction; return the bytes that are charged now."""
    read_ms = store.begin(connection)
    if reading.time_ms <= read_ms:
        # A clock that was set back, or another coordinator's later reading: nothing is lost.
        return 0
    before = store.counted_before(connection)
    fresh: list[Line] = []
    if read_ms:
        fresh = rules.charged(before, reading.counts, reading.prices, read_ms, reading.time_ms)
    ended, new = rules.merged(store.open_lines(connection), fresh, read_ms)
    store.end(connection, ended)
    store.add(connection, new)
    store.keep_counts(connection, before, reading.counts, reading.time_ms)
    return sum(line.piece_bytes for line in fresh)


def _conflict(message: str) -> AtollError:
    return AtollError(Kind.CONFLICT, "close epoch", message)
