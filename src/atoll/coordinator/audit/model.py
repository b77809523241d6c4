"""Nouns of the audit: its times by profile, verifiers as known, results."""

from dataclasses import dataclass, field

import msgspec

from atoll.core.messages.proofs import VerifierPlace
from atoll.core.proofs.beacon import ChainCheck, Reveal
from atoll.core.proofs.samples import SAMPLES_MORE, SAMPLES_PER_SLOT
from atoll.core.proofs.signed import Signed

HOUR_MS = 3_600_000
PASSED, FAILED, MISSED = "passed", "failed", "missed"
"""Outcomes of a slot for a node."""
GOOD, EXCLUDED = "good", "excluded"
"""What a verifier is."""


@dataclass(frozen=True, slots=True)
class ProofTimes:
    """How often what is proven. Times in milliseconds."""

    name: str
    slot_ms: int
    epoch_slots: int
    """A head is agreed anew after so many slots."""
    results_slots: int
    """Results, beacons and heads are kept for so many slots."""
    read_slots: int
    """Mean number of slots between two whole-piece reads of a node; 0: none."""
    samples: int = SAMPLES_PER_SLOT
    samples_more: int = SAMPLES_MORE
    misses_forgiven: int = 2
    """So many missed slots in a row are only noted; further ones count as failed samples."""

    def __post_init__(self) -> None:
        if self.slot_ms < 1_000 or self.epoch_slots < 1 or self.samples < 1:
            raise ValueError(f"times that cannot be: {self}")

    @property
    def patience_ms(self) -> int:
        """A slot's verdicts are waited for so long after its end."""
        return self.slot_ms // 2

    @property
    def gathering_ms(self) -> int:
        """The beacon waits so long for the last reveals."""
        return self.slot_ms // 5


PROFILES = {
    times.name: times
    for times in (
        ProofTimes("local", 10_000, 6, results_slots=360, read_slots=24),
        ProofTimes("demo", 4_000, 5, results_slots=900, read_slots=24),
        ProofTimes("wan", HOUR_MS, 24, results_slots=31 * 24, read_slots=24),
    )
}
"""By timer profile."""


class VerifierRow(msgspec.Struct, frozen=True, array_like=True):
    """A verifier as its row says."""

    place: VerifierPlace
    chains: list[Signed]
    """In the order in which they were shown; one for a period."""
    status: str


@dataclass(slots=True)
class Verifier:
    """A verifier as this process knows it."""

    row: VerifierRow
    checks: list[ChainCheck]
    seen_ms: int = 0
    """Of its latest word, by our clock; 0: not since this process runs."""
    since: dict[int, int] = field(default_factory=dict)
    """By period, the slot in which this process took a chain; absent for those of before."""
    reveals: dict[int, Reveal] = field(default_factory=dict)
    """Of the last slots."""

    @property
    def key(self) -> bytes:
        """Its key."""
        return self.row.place.key


@dataclass(frozen=True, slots=True)
class Result:
    """What a slot brought for one node."""

    slot: int
    alias: int
    outcome: str
    samples: int
    failed: int
    """Of them, by the verdict: also of pieces that were given up since the head was agreed, which
    the outcome does not count. A node proves those from its trash."""
    pieces: tuple[bytes, ...]
    """Ids of pieces that failed."""
    verdict: bytes
    """Encoded ``SignedVerdict``; empty where the proof was missed."""
