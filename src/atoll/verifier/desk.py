"""One coordinator as a verifier sees it: its slots, beacons, fellow verifiers, and cases.

Pure bookkeeping: what is awaited (the disk, the network) is awaited by ``service``.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import NodeId
from atoll.core.messages.proofs import VerifierPlace, VerifierState
from atoll.core.ports import Address
from atoll.core.proofs.beacon import (
    CHAIN_SLOTS,
    VERIFIERS_MAX,
    BeaconValue,
    ChainCheck,
    Reveal,
    chain_value,
    check_beacon,
    commit_chain,
    draw_committee,
    make_reveal,
    period_of,
    read_chain,
)
from atoll.core.proofs.evidence import Evidence, Lie, check_evidence, make_evidence
from atoll.core.proofs.signed import Signed, decode_statement, digest_of, encode_statement
from atoll.core.proofs.verdicts import (
    Judged,
    SignedVerdict,
    VerdictSignature,
    read_verdict,
    signature_under,
)

MEMORY_FILE = "verifier.memory"
CHAIN_RENEW_SLOTS = 16
"""The next period's chain is announced so long before that begins."""
CHAINS_MAX = 8 * VERIFIERS_MAX
"""Chains that a coordinator may name."""
SLOTS_OPEN = 2
"""Proofs are taken for the current slot and the one before."""
SLOTS_HEARD = 4
EVIDENCE_MAX = 1_000
CASES_MAX = 100_000
"""Nodes judged or heard of in the slots at hand."""
SLOT_MS_MIN, SLOT_MS_MAX = 1_000, 24 * 3_600_000
"""Lengths of a slot that a coordinator may have."""
COORDINATOR_SKEW_MS_MAX = 60_000
"""Its slot is that of our own clock, or so near (but the next slot is always near)."""
PAUSE_MS_MIN = 100


@dataclass(slots=True)
class Case:
    """What verifiers said of one node in one slot."""

    bodies: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    said: dict[bytes, bytes] = field(default_factory=dict)
    told: int = 0
    """Signatures that the coordinator was told."""


class Desk:
    """State towards one coordinator."""

    def __init__(self, address: Address, identity: Identity) -> None:
        """Know nothing but where it is."""
        self.address = address
        self.identity = identity
        self.key = b""
        self.slot_ms = 0
        """Length of a slot as first told (``pin``); 0: not told yet."""
        self.state: VerifierState | None = None
        self._own: dict[int, Signed] = {}
        """Our chains of the period at hand and the next: the same whenever they are made."""
        self.next_ms = 0
        self.rest_ms = 0
        """Not asked before, whatever there is to tell: it was refused."""
        self.beacons: OrderedDict[int, tuple[Signed, BeaconValue]] = OrderedDict()
        self.cases: dict[tuple[int, bytes], Case] = {}
        self.evidence: OrderedDict[bytes, Evidence] = OrderedDict()
        self.untold: list[Evidence] = []
        self.liars: set[bytes] = set()
        self._revealed: Reveal | None = None
        """Made last: a value costs up to 8,192 hashes."""
        self._checks: dict[bytes, ChainCheck] = {}
        """By digest, the chains that the coordinator names now."""
        self._seen: dict[bytes, int] = {}
        """By digest, the slot in which a chain was named first; -1 for those of the beginning."""

    # --- who it is --------------------------------------------------------------------------

    def pin(self, key: bytes, slot_ms: int) -> None:
        """Take a coordinator's key and length of a slot: for good, once they were taken.

        Slots are numbered from the Unix epoch, so their length alone says when a value may be
        revealed: who could change it could ask for values of slots to come. Raises ``FORBIDDEN``
        for others than at first, ``BAD_REQUEST`` for slots of no sane length.
        """
        if self.key not in (b"", key):
            raise self._refused("shows another key than at first")
        if self.slot_ms not in (0, slot_ms):
            raise self._refused(f"says slots of {slot_ms} ms, not of {self.slot_ms} ms as at first")
        if not SLOT_MS_MIN <= slot_ms <= SLOT_MS_MAX:
            raise AtollError(
                Kind.BAD_REQUEST,
                "ask coordinator",
                f"a slot lasts {SLOT_MS_MIN} to {SLOT_MS_MAX} ms, not {slot_ms}",
                about=str(self.address),
            )
        self.key, self.slot_ms = key, slot_ms

    def _refused(self, what: str) -> AtollError:
        return AtollError(
            Kind.FORBIDDEN,
            "ask coordinator",
            f"the coordinator {what}",
            hint=f"if that is meant, stop the verifier and remove {MEMORY_FILE}",
            about=str(self.address),
        )

    def slot_at(self, now_ms: int) -> int:
        """Return the slot that our own clock is in."""
        return now_ms // self.slot_ms

    # --- chains and beacons -----------------------------------------------------------------

    def _secret(self, period: int) -> bytes:
        """Return a chain's secret: it follows from our key, so nothing need be kept.

        Not from anything that a coordinator says: whatever it denies or forgets, a period has one
        chain.
        """
        text = self.key + period.to_bytes(8, "big")
        return digest_of(self.identity.sign(b"proof-chain-secret/1", text))

    def _chain(self, period: int) -> Signed:
        chain = self._own.get(period)
        if chain is None:
            chain = commit_chain(self.identity, self.key, self._secret(period), period)
            self._own = {kept: one for kept, one in self._own.items() if abs(kept - period) <= 1}
            self._own[period] = chain
        return chain

    def _is_known(self, chain: Signed) -> bool:
        return digest_of(encode_statement(chain)) in self._checks

    def ready_chain(self, slot: int) -> Signed:
        """Return the chain to announce: the period's, or the next one where that ends soon."""
        chain = self._chain(period_of(slot))
        if slot % CHAIN_SLOTS >= CHAIN_SLOTS - CHAIN_RENEW_SLOTS and self._is_known(chain):
            return self._chain(period_of(slot) + 1)
        return chain

    def adopt(self, state: VerifierState, now_ms: int) -> None:
        """Take an answer of the coordinator that was pinned.

        Raises ``UNAUTHENTICATED``, ``CORRUPT``, ``CLOCK_SKEW`` where its slot is not ours, and what
        ``pin`` raises.
        """
        self.pin(state.coordinator_key, state.slot_ms)
        slot = self.slot_at(now_ms)
        apart = abs(state.slot - slot)
        if apart > 1 and apart * self.slot_ms > COORDINATOR_SKEW_MS_MAX:
            raise AtollError(
                Kind.CLOCK_SKEW,
                "ask coordinator",
                f"its slot is {state.slot}; by our clock it is {slot}",
                hint="set the clocks of both machines (NTP)",
                about=str(self.address),
            )
        self._name_chains(state.chains, -1 if self.state is None else slot)
        self.state = state
        self.liars |= set(state.excluded)
        if state.beacon:
            self.take_beacon(decode_statement(state.beacon, Signed))
        before = slot - SLOTS_HEARD
        self.cases = {key: case for key, case in self.cases.items() if key[0] > before}

    def _name_chains(self, bodies: Sequence[bytes], slot: int) -> None:
        if len(bodies) > CHAINS_MAX:
            raise AtollError(Kind.CORRUPT, "ask coordinator", "it names too many chains")
        checks: dict[bytes, ChainCheck] = {}
        for body in bodies:
            digest = digest_of(body)
            known = self._checks.get(digest)
            checks[digest] = known or ChainCheck(read_chain(decode_statement(body, Signed)))
        self._seen = {digest: self._seen.get(digest, slot) for digest in checks}
        self._checks = checks

    def reveal_due(self, now_ms: int) -> Reveal | None:
        """Return our value for the slot that the coordinator asks for, if its time has come.

        By our own clock alone: whoever asks early wants to know what he must not know yet, and
        nobody needs values of slots that are over.
        """
        state = self.state
        if state is None or not state.reveal_slot:
            return None
        slot, now = state.reveal_slot, self.slot_at(now_ms)
        if not now - SLOTS_OPEN < slot <= now:
            return None
        period = period_of(slot)
        if not self._is_known(self._chain(period)):
            return None
        if self._revealed is None or self._revealed.slot != slot:
            value = chain_value(self._secret(period), slot)
            self._revealed = make_reveal(self.identity, self.key, slot, value)
        return self._revealed

    def pause_ms(self, now_ms: int) -> int:
        """Return when to ask again: at once with a value that is due, or when it will be."""
        if self.state is None or self.reveal_due(now_ms) is not None:
            return 0
        pause_ms = max(PAUSE_MS_MIN, self.state.pause_ms)
        begins_in_ms = self.state.reveal_slot * self.slot_ms - now_ms
        # Where our clock is behind the coordinator's, it asks before our slot has begun.
        return min(pause_ms, begins_in_ms) if begins_in_ms > 0 else pause_ms

    def take_beacon(self, signed: Signed) -> BeaconValue:
        """Check a slot's beacon: signed, of this coordinator, every value of its chain.

        A chain that was named in the slot itself does not count: who made it may have seen the
        others' values. A second, different one for a slot is evidence. Raises
        ``UNAUTHENTICATED``, ``CORRUPT``.
        """
        known = self.beacons.get(self._slot_of(signed))
        if known is not None and known[0].body == signed.body:
            return known[1]
        value = check_beacon(signed, self.key)
        if known is not None:
            self.note(make_evidence(Lie.BEACON, known[0], signed))
            raise AtollError(Kind.CORRUPT, "check beacon", "the coordinator made two for this slot")
        for reveal in value.reveals:
            if not any(
                check.commit.verifier_key == reveal.verifier_key
                and self._seen[digest] < reveal.slot
                and check.accepts(reveal.slot, reveal.value)
                for digest, check in self._checks.items()
            ):
                raise AtollError(Kind.CORRUPT, "check beacon", "a value is of no known chain")
        self.beacons[value.slot] = (signed, value)
        while len(self.beacons) > SLOTS_HEARD:
            self.beacons.popitem(last=False)
        return value

    def _slot_of(self, signed: Signed) -> int:
        return decode_statement(signed.body, BeaconValue).slot

    # --- cases ------------------------------------------------------------------------------

    def may_judge(self, node_id: NodeId, beacon: BeaconValue, now_ms: int) -> None:
        """Raise unless we are of the committee and the slot is open."""
        state = self.state
        if state is None:
            raise AtollError(Kind.OVERLOADED, "take proof", "this verifier is not ready yet")
        slot = self.slot_at(now_ms)
        if not slot - SLOTS_OPEN < beacon.slot <= slot + 1:
            raise AtollError(Kind.EXPIRED, "take proof", f"slot {beacon.slot} is over")
        if self.identity.public_key not in draw_committee(beacon.value, node_id, beacon.verifiers):
            raise AtollError(Kind.FORBIDDEN, "take proof", "others were drawn to judge this")

    def hear(self, signed: SignedVerdict) -> None:
        """Take verdicts of fellow verifiers; two different ones of the same are evidence.

        Raises ``CORRUPT``.
        """
        verdict = read_verdict(signed.body)
        beacon = self.beacons.get(verdict.slot)
        if beacon is None or verdict.coordinator_key != self.key:
            return
        committee = draw_committee(beacon[1].value, verdict.node_id, beacon[1].verifiers)
        key = (verdict.slot, verdict.node_key)
        case = self.cases.get(key)
        if case is None:
            if len(self.cases) >= CASES_MAX:
                return
            case = self.cases[key] = Case()
        for one in signed.signatures[: len(committee)]:
            known = case.bodies.get(signed.body, {})
            if one.key not in committee or one.key in known:
                continue
            if not signature_under(signed.body, one):
                continue
            said = case.said.setdefault(one.key, signed.body)
            if said != signed.body:
                first = case.bodies.get(said, {}).get(one.key, b"")
                self.note(
                    make_evidence(
                        Lie.VERDICT,
                        Signed(said, one.key, first),
                        Signed(signed.body, one.key, one.signature),
                    )
                )
                continue
            case.bodies.setdefault(signed.body, {})[one.key] = one.signature

    def own(self, judged: Judged, verdict: Signed) -> None:
        """Take our own verdict."""
        signature = VerdictSignature(verdict.key, verdict.signature)
        self.hear(SignedVerdict(verdict.body, [signature]))

    def compare(self, judged: Judged) -> None:
        """Hold what others said of a proof that we judged against what we found in it."""
        ours = encode_statement(judged.verdict)
        case = self.cases.get((judged.verdict.slot, judged.verdict.node_key), Case())
        for body, signatures in case.bodies.items():
            if body == ours or read_verdict(body).proof != judged.verdict.proof:
                continue
            for key, signature in signatures.items():
                if key not in self.liars:
                    lie = Signed(body, key, signature)
                    self.note(make_evidence(Lie.FALSE_VERDICT, lie, judged.proof))

    def untold_verdicts(self, limit: int) -> list[tuple[Case, SignedVerdict, int]]:
        """Return verdicts with signatures that the coordinator has not heard, with their count."""
        found: list[tuple[Case, SignedVerdict, int]] = []
        for case in self.cases.values():
            count = sum(len(signatures) for signatures in case.bodies.values())
            if count <= case.told:
                continue
            for body, signatures in case.bodies.items():
                gathered = [VerdictSignature(k, s) for k, s in sorted(signatures.items())]
                found.append((case, SignedVerdict(body, gathered), count))
            if len(found) >= limit:
                break
        return found

    def note(self, evidence: Evidence) -> bool:
        """Keep evidence that holds; say whether it is new. Raises where nothing is proven."""
        accused = check_evidence(evidence)
        digest = digest_of(encode_statement(evidence))
        if digest in self.evidence or len(self.evidence) >= EVIDENCE_MAX:
            return False
        self.evidence[digest] = evidence
        self.untold.append(evidence)
        self.liars.add(accused.key)
        return True

    def fellows(self) -> list[VerifierPlace]:
        """Return the other verifiers."""
        places = self.state.verifiers if self.state is not None else []
        return [place for place in places if place.key != self.identity.public_key]
