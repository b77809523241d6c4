"""Pure decisions of upgrades: which class is offered, what gains by it, how much at a time.

A class is a scheme of ``core.scheme``; its name here is its ``k``. An upgrade only ever goes to a
larger ``k``: nothing is made weaker because operators left (repair keeps it as it is).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from atoll.core.scheme import (
    RS_2_4,
    RS_4_8,
    RS_10_20,
    RS_20_40,
    SEGMENT_PLAIN_BYTES_MAX,
    Scheme,
    scheme_for,
)

HOUR_MS = 3_600_000
CLASSES = (RS_2_4, RS_4_8, RS_10_20, RS_20_40)
"""From the weakest to the strongest. Replicas of tiny objects are the packer's."""


@dataclass(frozen=True, slots=True)
class UpgradeProfile:
    """How eagerly segments are upgraded. Times in milliseconds."""

    hold_ms: int
    """Operators must have been enough for so long: who came an hour ago may leave again."""
    age_ms: int
    """A segment is left alone until it is so old: what is young is often deleted or overwritten."""
    small_age_ms: int
    """The same for a small object's: the packer, which comes first, saves copying it twice."""
    survey_ms: int
    """Rest between two surveys, and between two searches through one bucket."""
    grace_ms: int
    """The old pieces stay readable for so long: downloads that began before the swap end."""
    bytes_per_hour_max: int
    """Plaintext handed out to all gateways together; about ``1 + n/k`` times as much moves."""
    segments_per_hour_max: int
    look_ms: int = 5_000
    """Between two looks at the operators."""
    unseen_ms_max: int = 15 * 60_000
    """After so long without a look nobody knows whether operators stayed: it counts anew."""
    lease_ms: int = 15 * 60_000
    """A worker that has not finished by then is taken for dead."""
    pause_ms: int = 1_000
    """Between two questions of one worker."""


PROFILES = {
    "local": UpgradeProfile(
        hold_ms=60_000,
        age_ms=60_000,
        small_age_ms=30 * 60_000,
        survey_ms=30_000,
        grace_ms=60_000,
        bytes_per_hour_max=256 << 30,
        segments_per_hour_max=1_000_000,
    ),
    "demo": UpgradeProfile(
        hold_ms=10 * 60_000,
        age_ms=10 * 60_000,
        small_age_ms=2 * HOUR_MS,
        survey_ms=60_000,
        grace_ms=60_000,
        bytes_per_hour_max=256 << 30,
        segments_per_hour_max=1_000_000,
    ),
    "wan": UpgradeProfile(
        hold_ms=72 * HOUR_MS,
        age_ms=24 * HOUR_MS,
        small_age_ms=7 * 24 * HOUR_MS,
        survey_ms=6 * HOUR_MS,
        grace_ms=HOUR_MS,
        bytes_per_hour_max=64 << 30,
        segments_per_hour_max=50_000,
        look_ms=60_000,
    ),
}
"""By the coordinator's profile."""


def operators_needed(scheme: Scheme, *, already: bool = False) -> int:
    """Return how many independent operators with room a class is offered from.

    As many as its new segments ask limits of, and as new segments get that scheme from: so a copy
    starts at full strength, and the next operator to leave does not take the class away. What is
    ``already`` possible stays so while full strength is.
    """
    least = scheme.n if already else scheme.ask
    while scheme_for(SEGMENT_PLAIN_BYTES_MAX, least).k < scheme.k:
        least += 1
    return least


@dataclass(frozen=True, slots=True)
class Since:
    """Since when a class has been possible under a policy without a break, and the last look."""

    since_ms: int
    seen_ms: int


def looked(
    before: Since | None, scheme: Scheme, operators: int, now_ms: int, profile: UpgradeProfile
) -> Since | None:
    """Return what is known of a class after a look at its operators; None: it is not possible."""
    known = before is not None and 0 <= now_ms - before.seen_ms <= profile.unseen_ms_max
    if operators < operators_needed(scheme, already=known):
        return None
    return Since(before.since_ms if before is not None and known else now_ms, now_ms)


def offered(known: Mapping[int, Since], now_ms: int, profile: UpgradeProfile) -> int:
    """Return the strongest of the classes (by ``k``) that were possible long enough; 0 for none."""
    held = [
        k
        for k, one in known.items()
        if now_ms - one.since_ms >= profile.hold_ms
        and now_ms - one.seen_ms <= profile.unseen_ms_max
    ]
    return max(held, default=0)


def ripe_before_ms(now_ms: int, profile: UpgradeProfile, *, small: bool) -> int:
    """Return before when a segment must have been stored to be copied now."""
    return now_ms - (profile.small_age_ms if small else profile.age_ms)


def gains(old_k: int, old_pieces: int, new_k: int, new_pieces: int) -> bool:
    """Say whether a copy may take a segment's place: wider, and more of its pieces may go."""
    return new_k > old_k and new_pieces - new_k > old_pieces - old_k


@dataclass(frozen=True, slots=True)
class Spent:
    """What was handed out in one hour (since 1970)."""

    hour: int = 0
    segments: int = 0
    plain_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be handed out now."""

    segments: int
    plain_bytes: int

    @property
    def any(self) -> bool:
        """Whether anything may."""
        return self.segments > 0 and self.plain_bytes > 0


def allowance(spent: Spent, now_ms: int, profile: UpgradeProfile) -> Allowance:
    """Return what is left of this hour's budget."""
    if spent.hour != now_ms // HOUR_MS:
        return Allowance(profile.segments_per_hour_max, profile.bytes_per_hour_max)
    return Allowance(
        max(0, profile.segments_per_hour_max - spent.segments),
        max(0, profile.bytes_per_hour_max - spent.plain_bytes),
    )


def with_spent(spent: Spent, now_ms: int, segments: int, plain_bytes: int) -> Spent:
    """Return the hour's sums after so much more was handed out."""
    hour = now_ms // HOUR_MS
    if spent.hour != hour:
        return Spent(hour, segments, plain_bytes)
    return Spent(hour, spent.segments + segments, spent.plain_bytes + plain_bytes)
