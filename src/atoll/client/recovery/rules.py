"""Decisions about recovery; pure."""

from collections.abc import Mapping, Sequence

from atoll.core.messages.retention import LockState
from atoll.core.retention import Mode, RetentionRecord


def one_piece_each(holders: Mapping[int, Sequence[int]]) -> list[tuple[int, int]]:
    """Choose a holder for as many pieces of a segment as can be, no holder twice.

    ``holders`` are the aliases that claim each index, the preferred ones first. A coordinator
    counts one piece of a segment per node; a node may have several nevertheless, where one was
    replaced and its owner's lock keeps it. Returns (index, alias) by index: a maximum matching
    (augmenting paths, H. W. Kuhn 1955), so that no piece is given up for another's convenience.
    """
    taken: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        for alias in holders[index]:
            if alias in tried:
                continue
            tried.add(alias)
            if alias not in taken or place(taken[alias], tried):
                taken[alias] = index
                return True
        return False

    for index in holders:
        place(index, set())
    return sorted((index, alias) for alias, index in taken.items())


def lock_of(told: LockState | None, records: Sequence[RetentionRecord | None]) -> LockState | None:
    """Say how an object is locked, by its manifest and by what holders keep of its segments.

    ``records`` has the newest one known of each of its segments, checked and signed by the bucket's
    own lock key; None where no holder shows one. The holders' word counts where it goes further
    than the manifest's: a lock reaches nodes first. A sequence number of 0 in the answer: the lock
    is in force, and is to be signed anew because its segments' records differ.
    """
    known = [record for record in records if record is not None]
    if not known:
        return told
    states = {(one.mode, one.until_ms, one.legal_hold, one.sequence) for one in known}
    alike = len(known) == len(records) and len(states) == 1
    newest = max(one.sequence for one in known)
    kept = LockState(
        mode=_name(max(one.mode for one in known)),
        until_ms=max(one.until_ms for one in known),
        legal_hold=any(one.legal_hold for one in known),
        # Some segments were told a change that others were not, or their records came with them.
        sequence=newest if alike else 0,
    )
    if told is None or (newest > told.sequence and not _covers(told, kept)):
        return kept
    return told


def _covers(told: LockState, other: LockState) -> bool:
    """Say whether a default lock that nobody has signed yet keeps as much as records made for it.

    Those are older by the time of the upload: their period ends a moment earlier.
    """
    return (
        told.sequence == 0
        and told.mode == other.mode
        and told.until_ms >= other.until_ms
        and not other.legal_hold
    )


def _name(mode: Mode) -> str:
    return "" if mode is Mode.NONE else mode.name.lower()
