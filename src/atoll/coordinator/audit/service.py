"""The audit as it runs: heads are agreed, slots open and close, verdicts get their consequences.

The coordinator draws nothing and judges nothing here: draws follow from the beacon, verdicts come
from verifiers. It freezes sets, keeps the books, strikes what was proven lost, and tells the
reputation what happened.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import Protocol

from atoll.coordinator.audit import store
from atoll.coordinator.audit.court import SLOTS_KEPT, Court, Ruling
from atoll.coordinator.audit.model import (
    FAILED,
    MISSED,
    PASSED,
    ProofTimes,
    Result,
    Verifier,
)
from atoll.coordinator.audit.panel import Panel
from atoll.coordinator.audit.reads import DisguisedReads
from atoll.coordinator.audit.rules import followed, samples_due
from atoll.coordinator.audit.show import ProofPages
from atoll.coordinator.audit.trees import PAGE_ROWS, Freezer, FrozenSet
from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.model import NodeState, NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.reputation.model import FailedSample as Failure
from atoll.coordinator.reputation.model import Score
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, node_id_of, piece_id_of
from atoll.core.messages import Message
from atoll.core.messages.proofs import (
    ENTRIES_MAX,
    MISSING_MAX,
    RANGES_MAX,
    RESULTS_MAX,
    VERDICTS_MAX,
    AgreeHead,
    EntryInfo,
    GetProofEntries,
    GetProofRanges,
    GetProofs,
    HeadAnswer,
    ProofEntries,
    ProofRanges,
    ProofState,
    ProofSync,
    RangeInfo,
    VerifierPlace,
    VerifierState,
    VerifierSync,
)
from atoll.core.ports import Clock, Database
from atoll.core.proofs.beacon import Reveal, quorum
from atoll.core.proofs.evidence import Evidence
from atoll.core.proofs.heads import (
    KnownHead,
    SignedHead,
    TreeHead,
    check_head,
    head_of,
    sign_head,
)
from atoll.core.proofs.samples import Fault
from atoll.core.proofs.signed import Signed, decode_statement, digest_of, encode_statement
from atoll.core.proofs.sums import Entry, RangeTop
from atoll.core.proofs.verdicts import FailedSample, SignedVerdict, Verdict

log = logging.getLogger("atoll.coordinator.audit")
STEP_S = 0.5
READ_LOOK_S = 5.0
UNANSWERED = "unanswered"
"""Reason of a missed proof, as the reputation knows it."""
FAILED_SLOTS = 1_000
"""So long it is remembered which pieces failed."""
SUSPICION_SLOTS = 48
"""After a restart the follow-up of failures that are so many slots old goes on."""


class Judges(Protocol):
    """What the audit tells the reputation (``ReputationService``)."""

    def observe_possession(
        self, alias: int, passed: int, failed: Sequence[Failure], *, slot: int | None = None
    ) -> None:
        """Samples of one slot."""

    def excuse_slot(self, slot: int, reason: str) -> None:
        """Nothing of a slot counts."""


Strike = Callable[[int, Sequence[bytes]], Awaitable[None]]
"""Strikes pieces of a node as lost; they will be rebuilt."""
Forgive = Callable[[int, Sequence[bytes], str], None]
"""Notes pieces that a node itself said it misses."""


class AuditService(Part):
    """Answers nodes and verifiers about proofs."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        identity: Identity,
        registry: RegistryService,
        times: ProofTimes,
        verifiers: frozenset[bytes],
        judges: Judges,
        strike: Strike,
        forgive: Forgive,
        reads: DisguisedReads | None = None,
    ) -> None:
        """``verifiers`` are the trusted keys; without any there are no proofs."""
        self._clock = clock
        self._database = database
        self._identity = identity
        self._registry = registry
        self.times = times
        self._judges = judges
        self._strike = strike
        self._forgive = forgive
        self.panel = Panel(clock, database, identity, times, verifiers)
        self._freezer = Freezer(clock, database)
        self._court = Court(identity.public_key)
        self._heads: dict[int, KnownHead] = {}
        self._older: dict[int, KnownHead] = {}
        """The head before, still good for the slot in which the newer one was agreed."""
        self._sets: dict[tuple[int, bytes], FrozenSet] = {}
        """What agreed heads were made of, by node and root: which piece a drawn leaf is of."""
        self._failed: dict[tuple[int, bytes], int] = {}
        """Pieces that failed, by node and id: the slot in which they first did."""
        self._suspicion: dict[int, Score] = {}
        self._ruled: set[tuple[int, int]] = set()
        """Slots and nodes whose result this process wrote: the others' are read when it closes."""
        self._due: dict[int, dict[int, int]] = {}
        """Slot to the samples asked of each node in it."""
        self._closed = -1
        self._forgotten = -1
        self._running = False
        pages = ProofPages(clock, database, registry, times, identity.public_key)
        self.handlers = {GetProofs: pages.get_proofs}
        self.node_handlers = {
            ProofSync: self._proof_sync,
            GetProofRanges: self._get_ranges,
            GetProofEntries: self._get_entries,
            AgreeHead: self._agree,
            VerifierSync: self._verifier_sync,
        }
        self.reads = reads
        self.steps = [Step("audit", self.step, STEP_S)]
        if reads is not None:
            self.steps.append(Step("read pieces", reads.step, READ_LOOK_S))

    async def start(self) -> None:
        """Load heads, verifiers and what was under suspicion."""
        await self.panel.load()
        for alias, _, body in await self._database.read(store.all_heads):
            signed = decode_statement(body, SignedHead)
            if signed.node_signature and alias not in self._heads:
                self._heads[alias] = check_head(signed)
        slot = self.panel.slot_now()
        recent = await self._database.read(
            lambda c: store.read_results(c, 0, slot + 1, RESULTS_MAX, failed=True)
        )
        for result in recent:
            if result.slot >= slot - SUSPICION_SLOTS and result.outcome == FAILED:
                self._suspicion[result.alias] = Score()
        self._closed = slot
        self._running = True

    async def step(self) -> None:
        """Open and close slots."""
        slot = self.panel.slot_now()
        await self.panel.combine(slot)
        now_ms = self._clock.now_ms()
        last = (
            slot - 1 if now_ms - slot * self.times.slot_ms >= self.times.patience_ms else slot - 2
        )
        if self._closed < slot - 2 - SLOTS_KEPT:
            # Nobody ran for a while (or the clock jumped): nobody is to blame.
            self._closed = slot - 2
        while self._closed < last:
            await self._close(self._closed + 1)
            self._closed += 1
        if slot % self.times.epoch_slots == 0 and slot != self._forgotten:
            self._forgotten = slot
            before = slot - self.times.results_slots
            await self._database.write(lambda c: store.forget(c, before))

    # --- nodes ------------------------------------------------------------------------------

    def _node_of(self, prover: bytes) -> NodeView:
        alias = self._registry.alias_of(node_id_of(prover))
        view = self._registry.node(alias) if alias is not None else None
        if view is None:
            raise AtollError(Kind.NOT_FOUND, "hear node", "this node is not registered here")
        return view

    def _require_running(self) -> None:
        if not self._running:
            raise AtollError(
                Kind.OVERLOADED,
                "audit",
                "this process does not audit",
                hint="ask the coordinator that runs the loops",
            )

    async def _proof_sync(self, _: Message, prover: bytes, __: int) -> Message:
        self._require_running()
        view = self._node_of(prover)
        slot = self.panel.slot_now()
        await self.panel.combine(slot)
        known = await self._newest_head(view.alias, slot)
        beacon = self.panel.signed_beacon(slot)
        samples = (
            self._samples_due(view.alias, slot) if beacon and self._in_time(known, slot) else 0
        )
        return ProofState(
            time_ms=self._clock.now_ms(),
            epoch=slot // self.times.epoch_slots * self.times.epoch_slots,
            head_epoch=known.head.epoch if known is not None else -1,
            slot=slot,
            slot_ms=self.times.slot_ms if self.panel.active() else 0,
            beacon=encode_statement(beacon[0]) if beacon is not None else b"",
            samples=samples,
            verifiers=self.panel.places() if samples else [],
            pause_ms=self._pause_ms(view.alias, slot, bool(beacon)),
        )

    async def _newest_head(self, alias: int, slot: int) -> KnownHead | None:
        """Return a node's head; also one that another process agreed on."""
        known = self._heads.get(alias)
        epoch = known.head.epoch if known is not None else -1
        if epoch < slot // self.times.epoch_slots * self.times.epoch_slots:
            body = await self._database.read(lambda c: store.newer_head(c, alias, epoch))
            if body is not None:
                self._take_head(alias, body)
        return self._heads.get(alias)

    def _take_head(self, alias: int, body: bytes) -> None:
        """Take a head from the database, if both signed it and it is newer."""
        signed = decode_statement(body, SignedHead)
        if signed.node_signature:
            self._agreed(alias, check_head(signed))

    def _agreed(self, alias: int, known: KnownHead) -> None:
        before = self._heads.get(alias)
        if before is not None and before.head.epoch >= known.head.epoch:
            return
        if before is not None:
            self._older[alias] = before
        self._heads[alias] = known
        roots = {known.head.root, before.head.root if before is not None else b""}
        self._sets = {
            key: kept for key, kept in self._sets.items() if key[0] != alias or key[1] in roots
        }

    def _in_time(self, known: KnownHead | None, slot: int) -> bool:
        return (
            known is not None
            and known.head.leaves > 0
            and known.head.frozen_ms < slot * self.times.slot_ms
        )

    def _samples_due(self, alias: int, slot: int) -> int:
        due = self._due.setdefault(slot, {})
        if alias not in due:
            due[alias] = samples_due(self._suspicion.get(alias), self.times)
        return due[alias]

    def _pause_ms(self, alias: int, slot: int, beacon: bool) -> int:
        """Return when to ask again: soon while the beacon is awaited, else in the next slot."""
        slot_ms = self.times.slot_ms
        if not beacon:
            return max(200, slot_ms // 12)
        # Spread, so that not all nodes read and ask at once.
        spread = alias * 7919 % 97 * slot_ms // 4 // 97
        return (slot + 1) * slot_ms - self._clock.now_ms() + slot_ms // 10 + spread

    async def _get_ranges(self, request: GetProofRanges, prover: bytes, _: int) -> Message:
        self._require_running()
        view = self._node_of(prover)
        if request.after < 0:
            proposal = await self._freezer.freeze(view.alias, self.panel.slot_now())
        else:
            proposal = self._freezer.proposal(view.alias)
        numbers = [n for n in sorted(proposal.tops) if n > request.after]
        page = numbers[:RANGES_MAX]
        return ProofRanges(
            epoch=proposal.epoch,
            ranges=[_range_info(proposal.tops[number]) for number in page],
            more=len(numbers) > len(page),
            frozen_ms=proposal.frozen_ms,
        )

    async def _get_entries(self, request: GetProofEntries, prover: bytes, _: int) -> Message:
        self._require_running()
        view = self._node_of(prover)
        if not 0 <= request.range < 1 << 47:
            raise AtollError(Kind.BAD_REQUEST, "get entries", "no such range")
        proposal = self._freezer.proposal(view.alias, request.epoch)
        first = request.after_serial < request.range << 16
        if first or proposal.opened != request.range:
            await self._freezer.open_range(view.alias, proposal, request.range)
        rest = [e for e in proposal.entries if e.serial > request.after_serial]
        page = rest[:ENTRIES_MAX]
        while len(page) < len(rest) and rest[len(page)].serial == page[-1].serial:
            page.append(rest[len(page)])
        more = len(page) < len(rest)
        top = proposal.tops.get(request.range)
        return ProofEntries(
            entries=[_entry_info(entry) for entry in page],
            more=more,
            top=_range_info(top) if top is not None and not more else None,
        )

    async def _agree(self, request: AgreeHead, prover: bytes, _: int) -> Message:
        self._require_running()
        view = self._node_of(prover)
        if request.signature:
            return await self._countersigned(view, request)
        proposal = self._freezer.proposal(view.alias, request.epoch)
        if len(request.missing) > MISSING_MAX:
            raise AtollError(
                Kind.TOO_LARGE, "agree on tree head", "too many missing pieces at once"
            )
        if request.missing:
            missing = {(one.serial, one.index) for one in request.missing}
            await self._strike_missing(
                view.alias, await self._freezer.exclude(view.alias, proposal, missing)
            )
        tree = proposal.tree()
        if tree.root != request.root:
            return HeadAnswer(head=b"")
        head = head_of(
            tree,
            view.facts.public_key,
            self._identity.public_key,
            proposal.epoch,
            proposal.frozen_ms,
        )
        body = encode_statement(sign_head(self._identity, head))
        # One head for an epoch, whichever process was asked first.
        kept = await self._database.write(
            lambda c: store.keep_head(c, view.alias, head.epoch, body)
        )
        self._sets[view.alias, head.root] = proposal.frozen()
        return HeadAnswer(head=kept)

    async def _strike_missing(self, alias: int, entries: Sequence[Entry]) -> None:
        pieces = [piece_id_of(SegmentId(entry.segment), entry.index) for entry in entries]
        if pieces:
            log.warning("node %d says itself that it misses %d pieces", alias, len(pieces))
            self._forgive(alias, pieces, "missing when its tree head was agreed")
            await self._strike(alias, pieces)

    async def _countersigned(self, view: NodeView, request: AgreeHead) -> Message:
        body = await self._database.read(lambda c: store.read_head(c, view.alias, request.epoch))
        if body is None:
            raise AtollError(Kind.NOT_FOUND, "agree on tree head", "no head of this epoch is known")
        ours = decode_statement(body, SignedHead)
        signed = SignedHead(ours.body, ours.coordinator_signature, request.signature)
        known = check_head(signed)
        encoded = encode_statement(signed)
        await self._database.write(
            lambda c: store.agree_head(c, view.alias, request.epoch, encoded)
        )
        self._agreed(view.alias, known)
        self._freezer.done(view.alias)
        return HeadAnswer(head=encoded)

    # --- verifiers --------------------------------------------------------------------------

    async def _verifier_sync(self, request: VerifierSync, prover: bytes, _: int) -> Message:
        self._require_running()
        place = VerifierPlace(
            key=prover,
            host=request.host,
            port=request.port,
            fingerprint=request.fingerprint,
            operator=request.operator,
        )
        chain_known = True
        verifier: Verifier | None
        if not request.chain:
            # It asks which of its chains we know before it draws one.
            self.panel.require_trusted(prover)
            return self._verifier_state(prover, True)
        try:
            verifier = await self.panel.meet(place, decode_statement(request.chain, Signed))
        except AtollError as error:
            if error.kind is not Kind.CONFLICT:
                raise
            verifier, chain_known = self.panel.verifier(prover), False
        if verifier is not None and request.reveal and prover not in self.panel.excluded():
            lie = await self.panel.reveal(verifier, decode_statement(request.reveal, Reveal))
            if lie is not None:
                await self.panel.accuse(lie)
        if verifier is not None:
            await self.panel.note(verifier)
        for body in request.verdicts[:VERDICTS_MAX]:
            await self._hear_verdict(body)
        for body in request.evidence[:VERDICTS_MAX]:
            try:
                await self.panel.accuse(decode_statement(body, Evidence))
            except AtollError as error:
                log.info("evidence of verifier %s: %s", prover.hex()[:16], error)
        return self._verifier_state(prover, chain_known)

    def _verifier_state(self, key: bytes, chain_known: bool) -> VerifierState:
        slot, now_ms = self.panel.slot_now(), self._clock.now_ms()
        beacon = self.panel.signed_beacon(slot)
        verifier = self.panel.verifier(key)
        revealed = verifier is not None and slot in verifier.reveals
        slot_ms = self.times.slot_ms
        next_ms = (slot + 1) * slot_ms - now_ms
        return VerifierState(
            time_ms=now_ms,
            coordinator_key=self._identity.public_key,
            slot=slot,
            slot_ms=slot_ms,
            reveal_slot=0 if revealed or beacon is not None else slot,
            beacon=encode_statement(beacon[0]) if beacon is not None else b"",
            verifiers=self.panel.places(),
            chains=[encode_statement(chain) for chain in self.panel.chains()],
            excluded=self.panel.excluded(),
            pause_ms=min(max(200, slot_ms // 8), next_ms + 50),
            chain_known=chain_known,
        )

    async def _hear_verdict(self, body: bytes) -> None:
        try:
            signed = decode_statement(body, SignedVerdict)
            verdict = decode_statement(signed.body, Verdict)
            found = self.panel.signed_beacon(verdict.slot)
            if found is None or verdict.slot <= self._closed:
                return
            ruling, lies = self._court.hear(signed, found[1])
        except AtollError as error:
            log.info("verdict: %s", error)
            return
        for lie in lies:
            await self.panel.accuse(lie)
        if ruling is not None:
            await self._rule(ruling)

    # --- consequences -----------------------------------------------------------------------

    def _head_named(self, alias: int, verdict: Verdict) -> TreeHead | None:
        """Return the head a verdict speaks of: the node's newest, or the one before."""
        for known in (self._heads.get(alias), self._older.get(alias)):
            if (
                known is not None
                and known.head.root == verdict.root
                and known.head.epoch == verdict.epoch
            ):
                return known.head
        return None

    async def _rule(self, ruling: Ruling) -> None:
        """Let a verdict that stands have its consequences, once."""
        verdict = ruling.verdict
        alias = self._registry.alias_of(verdict.node_id)
        if alias is None:
            return
        await self._newest_head(alias, verdict.slot)
        if self._head_named(alias, verdict) is None:
            return
        # Another process may have asked the node for them.
        if verdict.samples < self._samples_due(alias, verdict.slot):
            return
        failures, neutral = await self._failures(alias, verdict, ruling.signed.body)
        pieces = tuple(dict.fromkeys(one.piece for one in failures if one.piece))
        result = Result(
            slot=verdict.slot,
            alias=alias,
            outcome=FAILED if failures else PASSED,
            samples=verdict.samples,
            # As the verifiers signed it: pay follows from this figure, and they compare it.
            failed=len(verdict.failed),
            pieces=pieces,
            verdict=encode_statement(ruling.signed),
        )
        if not await self._database.write(lambda c: store.add_result(c, result)):
            return
        self._ruled.add((verdict.slot, alias))
        passed = verdict.samples - len(failures) - neutral
        self._judges.observe_possession(alias, passed, failures, slot=verdict.slot)
        self._follow_up(alias, passed, len(failures))
        if pieces:
            log.warning(
                "node %d failed %d of %d samples in slot %d: pieces %s",
                alias,
                len(failures),
                verdict.samples,
                verdict.slot,
                ", ".join(piece.hex()[:10] for piece in pieces[:8]),
            )
            await self._strike(alias, pieces)

    def _follow_up(self, alias: int, passed: int, failed: int) -> None:
        score = followed(self._suspicion.get(alias), passed, failed, self._clock.now_ms())
        if score is not None:
            self._suspicion[alias] = score
        else:
            self._suspicion.pop(alias, None)

    async def _failures(
        self, alias: int, verdict: Verdict, body: bytes
    ) -> tuple[list[Failure], int]:
        """Return failed samples that count, by piece, and how many concern pieces given up."""
        found: list[Failure] = []
        neutral = 0
        reference = f"verdict:{digest_of(body).hex()}"
        before = await self._failed_before(alias, verdict.slot) if verdict.failed else {}
        for failed in verdict.failed:
            known, name = await self._piece_of(alias, verdict, failed)
            if name and (alias, name) not in self._failed and name in before:
                self._failed[alias, name] = before[name]
            if known and (alias, name) not in self._failed:
                held = bool(name) and await self._holds(alias, verdict, failed)
                if not held:
                    # Deleted or moved since the head was agreed: nothing is owed.
                    neutral += 1
                    continue
            # What failed once goes on to count while the head stands: a loss that is reported
            # only after it was found is not forgiven.
            first = self._failed.setdefault((alias, name), verdict.slot) if name else verdict.slot
            reason = "missing" if failed.fault == Fault.ADMITTED.value else "wrong"
            at_ms = first * self.times.slot_ms
            found.append(Failure(name, verdict.slot, at_ms, reason, reference))
        return found, neutral

    async def _failed_before(self, alias: int, slot: int) -> dict[bytes, int]:
        """Return the pieces that failed in slots before, whoever heard of it, by their first."""
        results = await self._database.read(
            lambda c: store.read_results(c, alias, slot, RESULTS_MAX, failed=True)
        )
        recent = [one for one in results if one.slot >= slot - FAILED_SLOTS]
        return {piece: one.slot for one in recent for piece in one.pieces}

    async def _piece_of(
        self, alias: int, verdict: Verdict, failed: FailedSample
    ) -> tuple[bool, bytes]:
        """Say whether a failed sample's piece is known, and return its id (empty: it is gone)."""
        piece = await self._named(alias, verdict, failed)
        if piece is None:
            return (alias, verdict.root) in self._sets, b""
        return True, piece_id_of(SegmentId(piece[0]), piece[1])

    async def _named(
        self, alias: int, verdict: Verdict, failed: FailedSample
    ) -> tuple[bytes, int] | None:
        if failed.segment:
            return failed.segment, failed.index
        frozen = self._sets.get((alias, verdict.root))
        key = frozen.find(failed.position) if frozen is not None else None
        if key is None:
            return None
        return await self._database.read(partial(store.named, serial=key[0], index=key[1]))

    async def _holds(self, alias: int, verdict: Verdict, failed: FailedSample) -> bool:
        piece = await self._named(alias, verdict, failed)
        if piece is None:
            return False
        held = await self._database.read(partial(store.holds, alias=alias, pieces=[piece]))
        return held[0]

    async def _close(self, slot: int) -> None:
        """Note who owed a proof and gave none."""
        due = self._due.pop(slot, {})
        for old in [number for number in self._due if number < slot]:
            del self._due[old]
        self._court.forget(slot - 1)
        oldest = slot - FAILED_SLOTS
        self._failed = {key: first for key, first in self._failed.items() if first >= oldest}
        beacon = self.panel.signed_beacon(slot)
        if beacon is None:
            return
        results = [
            result
            for result in await self._database.read(
                lambda c: store.read_results(c, 0, slot + 1, PAGE_ROWS)
            )
            if result.slot == slot
        ]
        self._follow_others(slot, results)
        done = {result.alias for result in results}
        since = slot - 2 * self.times.epoch_slots
        for alias, epoch, body in await self._database.read(
            partial(store.heads_since, epoch=since)
        ):
            known = self._heads.get(alias)
            if known is None or known.head.epoch < epoch:
                self._take_head(alias, body)
        owed = [
            view
            for view in self._registry.nodes()
            if view.alias not in done and self._owes(view, slot, due)
        ]
        active = len(self.panel.active())
        if owed and active < quorum(len(beacon[1].verifiers)):
            self._judges.excuse_slot(slot, "too few verifiers were there")
            return
        for view in owed:
            await self._missed(view.alias, slot, len(beacon[1].verifiers))

    def _follow_others(self, slot: int, results: Sequence[Result]) -> None:
        """Go on with the follow-up of nodes whose verdicts other processes heard."""
        for one in results:
            if one.samples and (slot, one.alias) not in self._ruled:
                failed = one.failed if one.outcome == FAILED else 0
                self._follow_up(one.alias, one.samples - one.failed, failed)
        self._ruled = {key for key in self._ruled if key[0] > slot}

    def _owes(self, view: NodeView, slot: int, due: dict[int, int]) -> bool:
        """Say whether a node had to prove in a slot: it was there, and there was something."""
        known = self._heads.get(view.alias)
        there = view.state is NodeState.ALIVE and view.state_since_ms < slot * self.times.slot_ms
        return there and (view.alias in due or self._in_time(known, slot))

    async def _missed(self, alias: int, slot: int, verifiers: int) -> None:
        result = Result(slot, alias, MISSED, 0, 0, (), b"")
        if not await self._database.write(lambda c: store.add_result(c, result)):
            return
        limit = self.times.misses_forgiven + 1
        latest = await self._database.read(lambda c: store.read_results(c, alias, slot + 1, limit))
        misses = len(list(takewhile(lambda one: one.outcome == MISSED, latest)))
        log.info("node %d gave no proof in slot %d (%d in a row lately)", alias, slot, misses)
        failure = Failure(b"", slot, slot * self.times.slot_ms, UNANSWERED)
        counted = [failure] if misses > self.times.misses_forgiven else []
        if counted:
            self._judges.observe_possession(alias, 0, counted, slot=slot)


def _range_info(top: RangeTop) -> RangeInfo:
    return RangeInfo(
        range=top.range,
        entries=top.entries,
        leaves=top.leaves,
        piece_bytes=top.piece_bytes,
        digest=top.digest,
    )


def _entry_info(entry: Entry) -> EntryInfo:
    return EntryInfo(
        serial=entry.serial,
        segment=entry.segment,
        index=entry.index,
        segment_root=entry.segment_root,
        piece_bytes=entry.piece_bytes,
    )
