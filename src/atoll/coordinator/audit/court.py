"""Verdicts on their way to count: gathered by slot and node until two thirds of a panel agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of
from atoll.core.proofs.beacon import BeaconValue, draw_committee, quorum
from atoll.core.proofs.evidence import Evidence, Lie, make_evidence
from atoll.core.proofs.signed import Signed
from atoll.core.proofs.verdicts import (
    SignedVerdict,
    Verdict,
    VerdictSignature,
    read_verdict,
    signature_under,
)

SLOTS_KEPT = 3
BODIES_MAX = 32
"""Different verdicts kept for one node and slot: each needs a verifier of its own."""


@dataclass(slots=True)
class _Case:
    """One node in one slot."""

    committee: list[bytes]
    bodies: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    """Verdict to its signatures by verifier."""
    said: dict[bytes, bytes] = field(default_factory=dict)
    """Verifier to the first verdict it signed."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict that stands."""

    verdict: Verdict
    signed: SignedVerdict


class Court:
    """Gathers signatures. Holds a few slots in memory; what stands is written elsewhere."""

    def __init__(self, coordinator_key: bytes) -> None:
        """Begin with nothing."""
        self._coordinator_key = coordinator_key
        self._cases: dict[tuple[int, bytes], _Case] = {}

    def hear(
        self, signed: SignedVerdict, beacon: BeaconValue
    ) -> tuple[Ruling | None, list[Evidence]]:
        """Take signatures; return the verdict if it stands now, and lies that they show.

        Raises ``CORRUPT`` and ``UNAUTHENTICATED`` for what is no verdict of this slot.
        """
        verdict = read_verdict(signed.body)
        value = beacon.value
        if (
            verdict.coordinator_key != self._coordinator_key
            or verdict.slot != beacon.slot
            or verdict.beacon != value
        ):
            raise AtollError(Kind.CORRUPT, "hear verdict", "it is of another slot or beacon")
        node_id = node_id_of(verdict.node_key)
        key = (verdict.slot, bytes(node_id))
        case = self._cases.get(key)
        if case is None:
            case = self._cases[key] = _Case(draw_committee(value, node_id, beacon.verifiers))
        lies: list[Evidence] = []
        for one in signed.signatures[: len(case.committee)]:
            lies += self._take(case, signed.body, one)
        signatures = case.bodies.get(signed.body, {})
        if len(signatures) < quorum(len(case.committee)):
            return None, lies
        gathered = [VerdictSignature(k, s) for k, s in sorted(signatures.items())]
        return Ruling(verdict, SignedVerdict(signed.body, gathered)), lies

    def _take(self, case: _Case, body: bytes, one: VerdictSignature) -> list[Evidence]:
        known = case.bodies.get(body, {})
        if one.key not in case.committee or one.key in known:
            return []
        if not signature_under(body, one):
            return []
        said = case.said.setdefault(one.key, body)
        if said != body:
            # Neither of its two words counts.
            first = case.bodies[said].pop(one.key, b"") if said in case.bodies else b""
            if not first:
                return []
            return [
                make_evidence(
                    Lie.VERDICT, Signed(said, one.key, first), Signed(body, one.key, one.signature)
                )
            ]
        if body not in case.bodies and len(case.bodies) >= BODIES_MAX:
            return []
        case.bodies.setdefault(body, {})[one.key] = one.signature
        return []

    def forget(self, before_slot: int) -> None:
        """Forget the cases of older slots."""
        self._cases = {k: c for k, c in self._cases.items() if k[0] >= before_slot}

    def signers(self, slot: int, node_id: bytes) -> Sequence[bytes]:
        """Return the verifiers that said anything of a node in a slot."""
        case = self._cases.get((slot, bytes(node_id)))
        return sorted(case.said) if case is not None else []
