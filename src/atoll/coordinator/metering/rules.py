"""Pure decisions of metering: what two readings charge, which slots an epoch counts."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from atoll.coordinator.metering.model import (
    NOBODY,
    PROOFS_LABEL,
    Count,
    Line,
    NodeProofs,
    Place,
    RepairWork,
    SlotResult,
)
from atoll.economy.settlement.slots import slots_end_of as slots_end_of

MISSED = "missed"
"""The audit's word for a slot without a proof."""


def charged(
    before: Mapping[Place, Count],
    now: Mapping[Place, Count],
    prices: Mapping[int, int],
    from_ms: int,
    until_ms: int,
) -> list[Line]:
    """Return what the time between two readings charges, in the order of places.

    Only what was there at both: the smaller of two counts. A bucket that changed hands in between
    is charged to nobody. ``prices``: by alias, as posted; a node that is gone has the reference.
    """
    if until_ms <= from_ms:
        return []
    lines = []
    for place in sorted(before.keys() & now.keys(), key=lambda one: (one.alias, one.bucket)):
        old, new = before[place], now[place]
        piece_bytes = min(old.piece_bytes, new.piece_bytes)
        if piece_bytes and old.account == new.account:
            price = prices.get(place.alias, 0)
            lines.append(Line(place, new.account, piece_bytes, price, from_ms, until_ms))
    return lines


def merged(
    open_lines: Iterable[Line], fresh: Iterable[Line], read_ms: int
) -> tuple[list[Line], list[Line]]:
    """Return lines that ended at the last reading, and lines that began there.

    A line goes on while nothing about it changes, so that a bucket at rest is one line an epoch,
    and a reading of a cloud at rest writes nothing but its time.
    """
    coming = {line.place: line for line in fresh}
    ended = []
    for known in open_lines:
        if known.until_ms:
            continue
        line = coming.get(known.place)
        if line is not None and _same(known, line):
            del coming[known.place]
        else:
            ended.append(replace(known, until_ms=read_ms))
    return ended, list(coming.values())


def _same(known: Line, line: Line) -> bool:
    return (known.account, known.piece_bytes, known.price_pico) == (
        line.account,
        line.piece_bytes,
        line.price_pico,
    )


def repair_work(
    task: bytes,
    worker: int,
    rebuilt: Sequence[int],
    holders: Mapping[int, int],
    piece_bytes: int,
    receipts: Sequence[bytes],
    now_ms: int,
) -> list[RepairWork]:
    """Return a finished task by the nodes whose pieces it rebuilt.

    ``rebuilt`` are piece indexes that were recorded, ``holders`` says who held each one before. The
    receipts of the whole task stand behind each row.
    """
    counts = Counter(holders.get(index, NOBODY) for index in rebuilt)
    shown = b"".join(receipts)
    return [
        RepairWork(task, worker, failed, count * piece_bytes, now_ms, shown)
        for failed, count in sorted(counts.items())
    ]


def proofs_of(results: Sequence[SlotResult]) -> list[NodeProofs]:
    """Return each node's slots together, by alias. Evidence: the verdicts' hashes, slot by slot."""
    ordered = sorted(results, key=lambda one: (one.alias, one.slot))
    found = []
    for alias, some in groupby(ordered, key=lambda one: one.alias):
        slots = list(some)
        met = [one for one in slots if one.outcome != MISSED]
        whole = hashlib.sha256(PROOFS_LABEL)
        for one in slots:
            whole.update(one.slot.to_bytes(8, "big") + hashlib.sha256(one.verdict).digest())
        found.append(
            NodeProofs(
                alias=alias,
                slots_due=len(slots),
                slots_missed=len(slots) - len(met),
                samples=sum(one.samples for one in met),
                failed=sum(one.failed for one in met),
                evidence=whole.digest(),
            )
        )
    return found
