"""What a change of an object's lock must be, and when holders are told again."""

from dataclasses import dataclass

from atoll.coordinator.metadata.store.locks import LockRow
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.retention import LockState
from atoll.core.retention import RETENTION_MS_MAX, Mode, RetentionRecord

MODES = {"": Mode.NONE, "governance": Mode.GOVERNANCE, "compliance": Mode.COMPLIANCE}
NAMES = {mode: name for name, mode in MODES.items()}
DAYS_MAX = 36_500


@dataclass(frozen=True, slots=True)
class RetentionProfile:
    """How eagerly holders are told."""

    poll_s: float
    retry_ms_min: int
    retry_ms_max: int
    sweep_s: float
    """Pause between pages of the walk over all records, which finds holders that are new."""


PROFILES = {
    "local": RetentionProfile(0.5, 1_000, 30_000, 5.0),
    "demo": RetentionProfile(0.5, 1_000, 30_000, 5.0),
    "wan": RetentionProfile(5.0, 30_000, 3_600_000, 60.0),
}


def mode_named(name: str) -> Mode:
    """Return a mode by its name. Raises ``BAD_REQUEST``."""
    mode = MODES.get(name)
    if mode is None:
        raise AtollError(
            Kind.BAD_REQUEST, "lock object", "a mode is governance, compliance or empty"
        )
    return mode


def check_days(mode: Mode, days: int) -> None:
    """Raise ``BAD_REQUEST`` for an impossible default."""
    if not (mode is Mode.NONE and days == 0) and not 1 <= days <= DAYS_MAX:
        raise AtollError(
            Kind.BAD_REQUEST, "set default lock", f"a default lasts 1 to {DAYS_MAX} days"
        )


def check_change(old: LockRow | None, state: LockState, now_ms: int) -> None:
    """Raise for a change of an object's lock that must not be.

    ``RETAINED`` where compliance would be shortened, ``CONFLICT`` for a sequence number that is not
    higher, ``BAD_REQUEST`` for an impossible state.
    """
    mode = mode_named(state.mode)
    if (mode is Mode.NONE) != (state.until_ms == 0) or state.until_ms < 0:
        raise AtollError(Kind.BAD_REQUEST, "lock object", "a period needs a mode and an end")
    if state.until_ms > now_ms + RETENTION_MS_MAX:
        raise AtollError(Kind.BAD_REQUEST, "lock object", "a period ends within a hundred years")
    if old is None:
        return
    if state.sequence <= old.sequence:
        raise AtollError(Kind.CONFLICT, "lock object", "another changed the lock meanwhile")
    if old.mode is Mode.COMPLIANCE and (
        mode is not Mode.COMPLIANCE or state.until_ms < old.until_ms
    ):
        raise AtollError(
            Kind.RETAINED,
            "lock object",
            "compliance retention can only be extended, by nobody shortened",
        )


def says(record: RetentionRecord, state: LockState) -> bool:
    """Whether a record says what the object's state says."""
    return (NAMES[record.mode], record.until_ms, record.legal_hold, record.sequence) == (
        state.mode,
        state.until_ms,
        state.legal_hold,
        state.sequence,
    )


def retry_ms(attempts: int, profile: RetentionProfile) -> int:
    """Return the pause before holders that did not confirm are told again."""
    return min(profile.retry_ms_max, profile.retry_ms_min << min(attempts, 16))
