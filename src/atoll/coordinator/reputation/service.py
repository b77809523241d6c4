"""Reputation as it runs: what is seen of nodes comes in, standings come out.

One process (``judges=True``, the coordinator with its loops) keeps every node's record in memory,
judges, and writes what changed at most once a second. Others read the standings, and hand what
their gateways saw to the judge through the database.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.model import NodeState, NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.reputation import store
from atoll.coordinator.reputation.axes import (
    SPEED_READS_MIN,
    Surroundings,
    closed,
    looked,
    measured,
    tested,
    usual_speed,
    was_online,
)
from atoll.coordinator.reputation.mass import Failing, mass_failure
from atoll.coordinator.reputation.messages import health_of, standing_of
from atoll.coordinator.reputation.model import (
    LIMITS,
    PIECE_ID_BYTES,
    Axis,
    Event,
    FailedSample,
    Judgement,
    Limits,
    Record,
    SampleNote,
    Speed,
    Standing,
    Windows,
)
from atoll.coordinator.reputation.rules import judged, judgement_of
from atoll.coordinator.reputation.transfers import Complaints, checked_report
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of, show_node
from atoll.core.messages import Done, Message, decode, encode
from atoll.core.messages.reputation import (
    AskHealth,
    GetNodeHealth,
    ListStandings,
    MassFailure,
    NodeHealth,
    ReportTransfers,
    StandingList,
)
from atoll.core.ports import Clock, Database

log = logging.getLogger("atoll.coordinator.reputation")

FLUSH_INTERVAL_S = 1.0
SLOTS_WAITING_MAX = 64
"""Slots whose samples wait for their judgement; the oldest is judged when there are more."""
REPORTS_AT_ONCE = 100
EVIDENCE_KEPT = 5
"""References of the latest failed samples, for the line that disqualifies."""
FORGIVEN_PER_NODE_MAX = store.FORGIVEN_KEPT_MAX
LIST_MAX = 1000
OWN_READS_KEPT_MAX = 1024
"""Nodes whose latest read by ourselves is remembered."""
SILENT_READS = frozenset({"slow", "refused: unreachable", "refused: timeout"})
"""Reasons of failed reads that may be our own line's fault."""
UNANSWERED = "unanswered"
"""Reason of a sample whose whole answer did not come in time."""


@dataclass(slots=True)
class _Slot:
    """Samples of one slot that wait until a mass failure would have shown."""

    since: float
    passed: dict[int, int] = field(default_factory=dict)
    failed: dict[int, list[FailedSample]] = field(default_factory=dict)
    excuse: str = ""


class ReputationService(Part):
    """What is thought of nodes."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        profile: str,
        *,
        judges: bool,
        limits: Limits | None = None,
    ) -> None:
        """``limits`` in place of the profile's are for tests."""
        self._clock = clock
        self._database = database
        self._registry = registry
        self._profile = profile
        self._limits = limits or LIMITS[profile]
        self._judges = judges
        self._records: dict[int, Record] = {}
        self._judgements: dict[int, Judgement] = {}
        self._forgiven: dict[int, OrderedDict[bytes, int]] = {}
        self._slots: OrderedDict[int, _Slot] = OrderedDict()
        self._complaints = Complaints()
        self._own_reads: OrderedDict[int, tuple[int, bool]] = OrderedDict()
        self._evidence: dict[int, deque[str]] = {}
        self._touched: set[int] = set()
        self._dirty: set[int] = set()
        self._events: list[Event] = []
        self._notes: list[SampleNote] = []
        self._new_forgiven: list[tuple[int, bytes, int]] = []
        self._masses: list[MassFailure] = []
        self._version = 0
        self._some_vetted = False
        self._first_ms: int | None = None
        self._loaded_ms: int | None = None
        self._refreshed = float("-inf")
        self._flushed = float("-inf")
        self._looked = float("-inf")
        self.handlers = {
            ReportTransfers: self._report_transfers,
            GetNodeHealth: self._get_node_health,
            ListStandings: self._list_standings,
        }
        self.node_handlers = {AskHealth: self._ask_health}
        self.steps = (Step("judge reputations", self.tick, self._limits.tick_ms / 1000),)

    # --- what others read -------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Grows whenever a judgement changed."""
        return self._version

    @property
    def limits(self) -> Limits:
        """The figures of the rules in force."""
        return self._limits

    def standing(self, alias: int) -> Standing:
        """Return a node's standing."""
        return self.judgement(alias).standing

    def judgement(self, alias: int) -> Judgement:
        """Return what placement and repair need to know of a node."""
        found = self._judgements.get(alias)
        if found is not None:
            return found
        view = self._registry.node(alias)
        founding = view is not None and self._founding(view)
        standing = Standing.VETTED if view is None or founding else Standing.UNVETTED
        return Judgement(alias, standing, vetted=standing is Standing.VETTED)

    async def fresh(self) -> None:
        """Take over what the judging process wrote, if what is here is older than a second."""
        if self._judges or self._clock.monotonic() - self._refreshed < FLUSH_INTERVAL_S:
            return
        self._refreshed = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        since_ms = self._loaded_ms or 0
        for judgement in await self._database.read(lambda c: store.changed_judgements(c, since_ms)):
            self._put_judgement(judgement)
        self._loaded_ms = now_ms

    # --- what others saw --------------------------------------------------------------------

    def observe_possession(
        self, alias: int, passed: int, failed: Sequence[FailedSample], *, slot: int | None = None
    ) -> None:
        """Take the verdict on a node's samples of one slot (by default that of the failures).

        They count after ``Limits.settle_ms``, unless too many operators failed in the same slot.
        """
        if slot is None:
            slot = failed[0].slot if failed else self._clock.now_ms() // self._limits.window_ms
        waiting = self._slot(slot)
        waiting.passed[alias] = waiting.passed.get(alias, 0) + max(0, passed)
        if failed:
            waiting.failed.setdefault(alias, []).extend(failed)

    def excuse_slot(self, slot: int, reason: str) -> None:
        """Let nothing of a slot count against anybody: beacon, verifiers or we were at fault."""
        self._slot(slot).excuse = reason

    def observe_online(self, alias: int, online: bool, at_ms: int) -> None:
        """Note that a node was, or was not, where it should be (a due proof that never came)."""
        record = self._records.get(alias)
        if record is not None and at_ms // self._limits.window_ms >= record.windows.current:
            self._put(replace(record, windows=looked(record.windows, online)))

    def observe_retrieval(
        self, alias: int, ok: bool, *, piece: bytes = b"", reason: str = "", evidence: str = ""
    ) -> None:
        """Take the result of a whole-piece read by verifiers or by ourselves."""
        record = self._records.get(alias)
        if record is None:
            return
        now_ms = self._clock.now_ms()
        excuse = self._excuse_read(alias, ok, reason, now_ms)
        if not excuse:
            self._read(record, int(ok), int(not ok), now_ms)
        if not ok:
            slot = now_ms // self._limits.window_ms
            self._notes.append(
                SampleNote(alias, Axis.RETRIEVAL, now_ms, slot, piece, reason, evidence, excuse)
            )

    def _excuse_read(self, alias: int, ok: bool, reason: str, now_ms: int) -> str:
        """Return why a failed read of our own does not count, or nothing.

        One that met silence does not where many of the latest did: then our own line is at fault.
        """
        silent = not ok and reason in SILENT_READS
        self._own_reads[alias] = (now_ms, silent)
        self._own_reads.move_to_end(alias)
        while len(self._own_reads) > OWN_READS_KEPT_MAX:
            self._own_reads.popitem(last=False)
        if not silent:
            return ""
        since_ms = now_ms - self._limits.capacity_forget_ms
        latest = [
            Failing(self._operator(one), failed)
            for one, (at_ms, failed) in self._own_reads.items()
            if at_ms >= since_ms and self._vouched(one)
        ]
        mass = mass_failure(latest, self._limits.mass_share, self._limits.mass_operators)
        if mass is None:
            return ""
        number = now_ms // self._limits.window_ms
        self._note_mass(Axis.RETRIEVAL, number, mass, "our own reads met silence at many")
        return f"mass failure: {mass[0]} of {mass[1]} operators were silent to our own reads"

    def observe_transfer(
        self, alias: int, ok: bool, latency_ms: float, transferred_bytes: int, region: str = ""
    ) -> None:
        """Take the result of one transfer of our own (repair, a gateway in this process)."""
        record = self._records.get(alias)
        if record is None:
            return
        if ok and latency_ms > 0:
            rate = transferred_bytes * 1000 / latency_ms
            speed = Speed(region, latency_ms, latency_ms, rate, 1)
            record = replace(record, speeds=measured(record.speeds, speed))
        self._read(record, int(ok), int(not ok), self._clock.now_ms())

    def amnesty(self, alias: int, pieces: Sequence[bytes], reason: str) -> None:
        """Note pieces that a node itself says it lost: later samples of them do not count."""
        record = self._records.get(alias)
        if record is None or not self._judges:
            return
        now_ms = self._clock.now_ms()
        known = self._forgiven.setdefault(alias, OrderedDict())
        new = [p for p in dict.fromkeys(pieces) if len(p) == PIECE_ID_BYTES and p not in known]
        if not new:
            return
        for piece in new:
            known[piece] = now_ms
            self._new_forgiven.append((alias, piece, now_ms))
        while len(known) > FORGIVEN_PER_NODE_MAX:
            known.popitem(last=False)
        self._put(replace(record, amnesties=record.amnesties + len(new)))
        self._events.append(
            Event(
                alias=alias,
                at_ms=now_ms,
                kind="amnesty",
                before=record.standing.value,
                after=record.standing.value,
                axis=Axis.POSSESSION,
                rule="what a node reports as lost before it is asked for costs no standing, only "
                "its repair",
                figure=f"{len(new):,} pieces: {reason}",
                threshold="none",
            )
        )

    # --- judging ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the records."""
        records = await self._database.read(store.all_records)
        for record in records:
            self._records[record.alias] = record
            self._put_judgement(judgement_of(record))
        for alias, piece, at_ms in await self._database.read(store.all_forgiven):
            self._forgiven.setdefault(alias, OrderedDict())[piece] = at_ms

    async def stop(self) -> None:
        """Judge what waits, and write it."""
        for slot in list(self._slots):
            self._settle(slot)
        self._judge()
        await self.flush()

    async def tick(self) -> None:
        """Look at the nodes, judge what changed, write it if it is time."""
        if await self._database.read(store.reports_wait):
            take = REPORTS_AT_ONCE
            for body in await self._database.write(lambda c: store.take_reports(c, take)):
                self._take_report(decode(body, ReportTransfers))
        now = self._clock.monotonic()
        self._meet()
        if now - self._looked >= self._limits.look_ms / 1000 * 0.999:
            self._looked = now
            self._close_windows()
            self._look()
        for slot, waiting in list(self._slots.items()):
            if now - waiting.since >= self._limits.settle_ms / 1000:
                self._settle(slot)
        news = self._judge()
        if news or now - self._flushed >= FLUSH_INTERVAL_S:
            await self.flush()

    async def flush(self) -> None:
        """Write what changed."""
        self._flushed = self._clock.monotonic()
        aliases, self._dirty = self._dirty, set()
        events, self._events = self._events, []
        notes, self._notes = self._notes, []
        forgiven, self._new_forgiven = self._new_forgiven, []
        masses, self._masses = self._masses, []
        if not (aliases or events or notes or forgiven or masses):
            return
        changes = store.Changes(
            records=[self._records[alias] for alias in sorted(aliases)],
            events=events,
            notes=notes,
            forgiven=forgiven,
            masses=masses,
        )
        now_ms = self._clock.now_ms()
        try:
            await self._database.write(lambda c: store.save(c, changes, now_ms))
        except BaseException:
            self._dirty |= aliases
            self._events[:0] = events
            self._notes[:0] = notes
            self._new_forgiven[:0] = forgiven
            self._masses[:0] = masses
            raise

    def _meet(self) -> None:
        """Open a record for every node that has none, and see who leaves."""
        for view in self._registry.nodes():
            record = self._records.get(view.alias)
            if record is None:
                now_ms = self._clock.now_ms()
                window = now_ms // self._limits.window_ms
                self._put(
                    Record(
                        alias=view.alias,
                        node_id=view.node_id,
                        registered_ms=view.registered_ms,
                        since_ms=now_ms,
                        clean_ms=view.registered_ms,
                        windows=Windows(current=window),
                    )
                )
            elif view.facts.exiting is not (record.standing is Standing.EXITING):
                self._touched.add(view.alias)

    def _look(self) -> None:
        """Note who is there. Hours outside a node's calendar are not looked at."""
        now_ms = self._clock.now_ms()
        for view in self._registry.nodes():
            record = self._records[view.alias]
            here = view.state is NodeState.ALIVE
            if view.state is NodeState.AWAY or (
                not here and self._registry.excused(view.alias, now_ms)
            ):
                continue
            self._records[view.alias] = replace(record, windows=looked(record.windows, here))

    def _close_windows(self) -> None:
        """Close the open window of every node; many absent at once are forgiven."""
        number = self._clock.now_ms() // self._limits.window_ms
        ending = [r for r in self._records.values() if r.windows.current < number]
        if not ending:
            return
        verdicts = {r.alias: was_online(r.windows, self._limits) for r in ending}
        failing = [
            Failing(self._operator(alias), online is False)
            for alias, online in verdicts.items()
            if online is not None and self._vouched(alias)
        ]
        mass = mass_failure(failing, self._limits.mass_share, self._limits.mass_operators)
        if mass is not None:
            self._note_mass(Axis.AVAILABILITY, number - 1, mass, "absent in the same window")
        for record in ending:
            online = verdicts[record.alias]
            if online is False and mass is not None:
                online = None
            self._put(replace(record, windows=closed(record.windows, number, online)))

    def _settle(self, number: int) -> None:
        """Judge the samples of a slot."""
        slot = self._slots.pop(number)
        silent = self._mass_of(slot, number, only=UNANSWERED)
        wrong = "" if silent else self._mass_of(slot, number, only="")
        now_ms = self._clock.now_ms()
        for alias in sorted(slot.passed.keys() | slot.failed.keys()):
            record = self._records.get(alias)
            if record is None:
                continue
            wrong_count = missing = 0
            for sample in slot.failed.get(alias, ()):
                excuse = slot.excuse or wrong or (silent if sample.reason == UNANSWERED else "")
                excuse = excuse or self._excused(alias, sample)
                missing += not excuse and sample.reason == UNANSWERED
                wrong_count += not excuse and sample.reason != UNANSWERED
                self._note_sample(alias, sample, number, excuse)
            if record.standing is Standing.DISQUALIFIED:
                continue  # the figure that decided stays
            test, passed = self._limits.possession, slot.passed.get(alias, 0)
            self._put(
                replace(
                    record,
                    possession=tested(record.possession, test, passed, wrong_count, now_ms),
                    answers=tested(record.answers, test, passed, missing, now_ms),
                )
            )

    def _mass_of(self, slot: _Slot, number: int, *, only: str) -> str:
        """Return why a slot's failures do not count, or nothing.

        Answers that did not come are forgiven when many are missing; wrong ones only when most
        operators gave some: then the fault is in what we all run.
        """
        failing = [
            Failing(
                self._operator(alias),
                any(not only or sample.reason == only for sample in slot.failed.get(alias, ())),
            )
            for alias in slot.passed.keys() | slot.failed.keys()
            if self._vouched(alias)
        ]
        share = self._limits.mass_share if only else 0.5
        mass = mass_failure(failing, share, self._limits.mass_operators)
        if mass is None:
            return ""
        reason = f"mass failure: {mass[0]} of {mass[1]} operators in slot {number}"
        self._note_mass(Axis.POSSESSION, number, mass, only or "wrong answers of most operators")
        return reason

    def _excused(self, alias: int, sample: FailedSample) -> str:
        known = self._forgiven.get(alias)
        reported_ms = known.get(sample.piece) if known is not None else None
        due_ms = sample.at_ms or self._clock.now_ms()
        if reported_ms is None or reported_ms > due_ms:
            return ""
        return "the node had reported this loss itself"

    def _note_sample(self, alias: int, sample: FailedSample, number: int, excuse: str) -> None:
        at_ms = sample.at_ms or self._clock.now_ms()
        self._notes.append(
            SampleNote(
                alias=alias,
                axis=Axis.ANSWERS if sample.reason == UNANSWERED else Axis.POSSESSION,
                at_ms=at_ms,
                slot=number,
                piece=sample.piece,
                reason=sample.reason,
                evidence=sample.evidence,
                forgiven=excuse,
            )
        )
        if not excuse and sample.evidence:
            kept = self._evidence.setdefault(alias, deque(maxlen=EVIDENCE_KEPT))
            if sample.evidence not in kept:
                kept.append(sample.evidence)

    def _judge(self) -> bool:
        """Judge the nodes of which there is news; say whether a standing changed."""
        touched, self._touched = sorted(self._touched), set()
        peers: dict[str, float] = {}
        news = False
        for alias in touched:
            record, view = self._records[alias], self._registry.node(alias)
            if view is None:
                continue
            if not peers:
                peers = self._peers()
            after, events = judged(record, self._limits, self._about(view, peers))
            if after is not record:
                self._records[alias] = after
                self._dirty.add(alias)
            self._put_judgement(judgement_of(after))
            for event in events:
                self._events.append(event)
                if event.kind == "standing":
                    news = True
                    log.info(
                        "node %s is %s: %s %s against %s",
                        show_node(record.node_id),
                        event.after,
                        event.axis.value,
                        event.figure,
                        event.threshold,
                    )
        return news

    def _about(self, view: NodeView, peers: Mapping[str, float]) -> Surroundings:
        return Surroundings(
            now_ms=self._clock.now_ms(),
            tier=view.facts.tier,
            exiting=view.facts.exiting,
            founding=self._founding(view),
            peers_p95_ms=peers.get(view.facts.tier, 0.0),
            evidence=" ".join(self._evidence.get(view.alias, ())),
        )

    def _peers(self) -> dict[str, float]:
        """Return the median p95 of each tier."""
        by_tier: dict[str, list[float]] = {"": []}
        for record in self._records.values():
            speed, view = usual_speed(record.speeds), self._registry.node(record.alias)
            if speed is not None and view is not None and speed.reads >= SPEED_READS_MIN:
                by_tier.setdefault(view.facts.tier, []).append(speed.p95_ms)
        return {tier: median(values) if values else 0.0 for tier, values in by_tier.items()}

    def _founding(self, view: NodeView) -> bool:
        if not self._limits.founding_ms:
            return False
        if self._first_ms is None:
            # Rows of nodes are never removed: the first stays the first.
            self._first_ms = min(other.registered_ms for other in self._registry.nodes())
        return view.registered_ms - self._first_ms <= self._limits.founding_ms

    def _vouched(self, alias: int) -> bool:
        """Say whether a node may speak for a mass: fresh keys cost nothing.

        In a cloud where nobody is vetted yet all may: there is nobody to prefer.
        """
        record = self._records.get(alias)
        return record is not None and (record.vetted_ms > 0 or not self._some_vetted)

    def _operator(self, alias: int) -> str:
        view = self._registry.node(alias)
        return view.facts.operator if view is not None else ""

    def _note_mass(self, axis: Axis, number: int, mass: tuple[int, int], reason: str) -> None:
        log.warning("%s: %d of %d operators failed at once: forgiven", axis.value, *mass)
        self._masses.append(
            MassFailure(
                axis=axis.value,
                number=number,
                at_ms=self._clock.now_ms(),
                operators_failed=mass[0],
                operators=mass[1],
                reason=reason,
            )
        )

    def _slot(self, number: int) -> _Slot:
        slot = self._slots.get(number)
        if slot is None:
            while len(self._slots) >= SLOTS_WAITING_MAX:
                self._settle(next(iter(self._slots)))
            slot = self._slots[number] = _Slot(self._clock.monotonic())
        return slot

    def _read(self, record: Record, passed: int, failed: int, now_ms: int) -> None:
        score = tested(record.retrieval, self._limits.retrieval, passed, failed, now_ms)
        self._put(replace(record, retrieval=score))

    def _put(self, record: Record) -> None:
        self._records[record.alias] = record
        self._touched.add(record.alias)
        self._dirty.add(record.alias)

    def _put_judgement(self, judgement: Judgement) -> None:
        self._some_vetted = self._some_vetted or judgement.vetted
        old = self._judgements.get(judgement.alias)
        if old != judgement:
            self._judgements[judgement.alias] = judgement
            if old is None or _matters(old, judgement):
                self._version += 1

    # --- gateways ---------------------------------------------------------------------------

    async def _report_transfers(self, request: ReportTransfers) -> Message:
        checked_report(request)
        if self._judges:
            self._take_report(request)
        else:
            now_ms = self._clock.now_ms()
            body = encode(request)
            await self._database.write(lambda c: store.add_report(c, body, now_ms))
        return Done()

    def _take_report(self, report: ReportTransfers) -> None:
        now, now_ms = self._clock.monotonic(), self._clock.now_ms()
        limits = self._limits
        alone = mass_failure(
            [Failing(str(n.alias), n.refused + n.silent > 0) for n in report.nodes],
            limits.mass_share,
            limits.mass_operators,
        )
        for node in report.nodes:
            record = self._records.get(node.alias)
            if record is None:
                continue
            failed = 0
            if alone is None:
                alive = self._is_alive(node.alias)
                failed = self._complaints.counted(node, report.reporter, now, alive=alive)
            passed = self._complaints.believed(node.reads, report.reporter)
            speed = Speed(report.region, node.p50_ms, node.p95_ms, node.bytes_per_s, node.reads)
            self._put(
                replace(
                    record,
                    speeds=measured(record.speeds, speed),
                    retrieval=tested(record.retrieval, limits.retrieval, passed, failed, now_ms),
                    capacity=tested(record.capacity, limits.capacity, node.puts, node.full, now_ms)
                    if node.puts or node.full
                    else record.capacity,
                )
            )

    def _is_alive(self, alias: int) -> bool:
        view = self._registry.node(alias)
        return view is not None and view.state is NodeState.ALIVE

    # --- questions --------------------------------------------------------------------------

    async def _ask_health(self, _: AskHealth, prover: bytes, __: int) -> Message:
        alias = self._registry.alias_of(node_id_of(prover))
        if alias is not None:
            return await self.health(alias)
        raise AtollError(
            Kind.NOT_FOUND,
            "ask health",
            "no node with this key is registered here",
            hint="start the node first: it registers by itself",
        )

    async def _get_node_health(self, request: GetNodeHealth) -> Message:
        return await self.health(request.alias)

    async def health(self, alias: int) -> NodeHealth:
        """Return all that is thought of a node. Raises ``NOT_FOUND``."""
        view = self._registry.node(alias)
        record = self._records.get(alias)
        if record is None and view is not None:
            record = await self._database.read(lambda c: store.read_record(c, alias))
        if view is None or record is None:
            raise AtollError(Kind.NOT_FOUND, "ask health", f"no node {alias} is known here")
        events = await self._database.read(lambda c: store.events_of(c, alias))
        notes = await self._database.read(lambda c: store.notes_of(c, alias))
        about = self._about(view, self._peers())
        return health_of(record, view, self._limits, about, events, notes)

    async def _list_standings(self, request: ListStandings) -> Message:
        return await self.listing(request.after, request.limit)

    async def listing(self, after: int = 0, limit: int = LIST_MAX) -> StandingList:
        """Return the standings of nodes above an alias."""
        limit = max(1, min(limit, LIST_MAX))
        if self._judges:
            order = sorted(alias for alias in self._records if alias > after)[: limit + 1]
            records = [self._records[alias] for alias in order]
        else:
            records = await self._database.read(
                lambda c: store.page_of_records(c, after, limit + 1)
            )
        masses = await self._database.read(store.masses)
        pairs = [(record, self._registry.node(record.alias)) for record in records[:limit]]
        return StandingList(
            time_ms=self._clock.now_ms(),
            profile=self._profile,
            nodes=[standing_of(record, view) for record, view in pairs if view is not None],
            more=len(records) > limit,
            forgiven=masses,
        )


def _matters(old: Judgement, new: Judgement) -> bool:
    """Say whether placement should look at its nodes anew."""
    return (
        old.standing is not new.standing
        or old.forfeit is not new.forfeit
        or old.vetted is not new.vetted
        or abs(old.success - new.success) > 0.02
        or abs(old.latency_ms - new.latency_ms) > max(5.0, 0.25 * old.latency_ms)
    )
