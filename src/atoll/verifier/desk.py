"""One coordinator as a verifier sees it: its slots, beacons, fellow verifiers, and cases.

Pure bookkeeping: what is awaited (the disk, the network) is awaited by ``service``.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import NodeId
from atoll.core.messages.proofs import VerifierPlace, VerifierState
from atoll.core.ports import Address
from atoll.core.proofs.beacon import (
    BeaconValue,
    ChainCheck,
    ChainCommit,
    Reveal,
    chain_value,
    check_beacon,
    commit_chain,
    draw_committee,
    make_reveal,
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

CHAIN_SLOTS = 8_192
CHAIN_LEAD_SLOTS = 2
"""A first chain begins so many slots after it was drawn."""
CHAIN_RENEW_SLOTS = 16
"""The next chain is announced so long before the end of the one in use."""
SLOTS_OPEN = 2
"""Proofs are taken for the current slot and the one before."""
SLOTS_HEARD = 4
EVIDENCE_MAX = 1_000
CASES_MAX = 100_000
"""Nodes judged or heard of in the slots at hand."""
EARLY_MS_MAX = 2_000
"""A value is not revealed earlier than this before its slot, by our own clock."""


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
        self.state: VerifierState | None = None
        self.chain: Signed | None = None
        self.commit: ChainCommit | None = None
        self.next_ms = 0
        self.beacons: OrderedDict[int, tuple[Signed, BeaconValue]] = OrderedDict()
        self.cases: dict[tuple[int, bytes], Case] = {}
        self.evidence: OrderedDict[bytes, Evidence] = OrderedDict()
        self.untold: list[Evidence] = []
        self.liars: set[bytes] = set()
        self._checks: dict[bytes, ChainCheck] = {}

    # --- chains and beacons -----------------------------------------------------------------

    def _secret(self, first_slot: int) -> bytes:
        """Return a chain's secret: it follows from our key, so nothing more need be kept."""
        text = self.key + first_slot.to_bytes(8, "big")
        return digest_of(self.identity.sign(b"proof-chain-secret/1", text))

    def ready_chain(self, slot: int) -> Signed:
        """Return the chain to announce: the one in use, or the next where that ends soon."""
        if self.commit is not None and self.chain is not None:
            end = self.commit.first_slot + self.commit.length
            if slot < end - CHAIN_RENEW_SLOTS:
                return self.chain
            if end > slot:
                return self._commit(end)
        return self._commit(slot + CHAIN_LEAD_SLOTS)

    def _commit(self, first_slot: int) -> Signed:
        secret = self._secret(first_slot)
        return commit_chain(self.identity, self.key, secret, first_slot, CHAIN_SLOTS)

    def adopt(self, state: VerifierState) -> None:
        """Take a coordinator's answer. Raises ``UNAUTHENTICATED``, ``CORRUPT``."""
        self.state = state
        own: list[tuple[ChainCommit, Signed]] = []
        for body in state.chains:
            digest = digest_of(body)
            if digest not in self._checks:
                signed = decode_statement(body, Signed)
                self._checks[digest] = ChainCheck(read_chain(signed))
            commit = self._checks[digest].commit
            if commit.verifier_key == self.identity.public_key:
                own.append((commit, decode_statement(body, Signed)))
        usable = [c for c in own if c[0].first_slot + c[0].length > state.slot]
        if usable:
            self.commit, self.chain = min(usable, key=lambda pair: pair[0].first_slot)
        elif own:
            self.commit, self.chain = None, None
        self.liars |= set(state.excluded)
        if state.beacon:
            self.take_beacon(decode_statement(state.beacon, Signed))
        before = state.slot - SLOTS_HEARD
        self.cases = {key: case for key, case in self.cases.items() if key[0] > before}

    def reveal_due(self, now_ms: int) -> Reveal | None:
        """Return our value for the slot that the coordinator asks for, if its time has come."""
        state, commit = self.state, self.commit
        if state is None or commit is None or not state.reveal_slot:
            return None
        slot = state.reveal_slot
        if now_ms < slot * state.slot_ms - EARLY_MS_MAX:
            # Whoever asks early wants to know what he must not know yet.
            return None
        if not commit.first_slot <= slot < commit.first_slot + commit.length:
            return None
        return make_reveal(
            self.identity, slot, chain_value(self._secret(commit.first_slot), commit, slot)
        )

    def take_beacon(self, signed: Signed) -> BeaconValue:
        """Check a slot's beacon: signed, of this coordinator, every value of its chain.

        A second, different one for a slot is evidence. Raises ``UNAUTHENTICATED``, ``CORRUPT``.
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
                and check.accepts(reveal.slot, reveal.value)
                for check in self._checks.values()
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
        if state is None or not state.slot_ms:
            raise AtollError(Kind.OVERLOADED, "take proof", "this verifier is not ready yet")
        slot = now_ms // state.slot_ms
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
