"""From observations to a standing: the lifecycle of a node, pure.

Only what anybody can check takes a node's name for good: possession, by signed verdicts on wrong
answers. All else (absence, proofs that do not come, refused reads) suspends, with a remedy and a
deadline, and ends by itself.
"""

from collections.abc import Mapping
from dataclasses import replace

from atoll.coordinator.reputation.axes import (
    AxisView,
    Surroundings,
    online_min,
    span,
    usual_speed,
    views,
)
from atoll.coordinator.reputation.model import (
    Axis,
    Event,
    Judgement,
    Level,
    Limits,
    Record,
    Score,
    Standing,
    Windows,
)
from atoll.core.units import show_seconds

RETRIEVAL_SUCCESS_PRIOR = 20
"""Reads that a node is credited with before its own count tells much."""

MEANINGS: Mapping[Standing, str] = {
    Standing.UNVETTED: "gets at most one piece in twenty, and never two of a segment, as long as "
    "vetted nodes have room; no verdict is spoken in its favour yet",
    Standing.VETTED: "gets pieces by its room and speed",
    Standing.TRUSTED: "gets a quarter more new pieces than others of its room and speed",
    Standing.SUSPECT: "gets half as many new pieces; keeps and serves what it has, is paid for "
    "what it proves",
    Standing.SUSPENDED: "gets no new pieces; keeps and serves what it has until the deadline, is "
    "paid for what it proves; afterwards its pieces are rebuilt elsewhere until it has remedied",
    Standing.EXITING: "gets no new pieces; what it has moves elsewhere, then it leaves with all "
    "that is held for it",
    Standing.DISQUALIFIED: "for good: its pieces count as lost and are rebuilt elsewhere, what was "
    "held for it pays for that; the same key stays disqualified",
}
"""What a standing means for placement and income."""


def judgement_of(record: Record) -> Judgement:
    """Return what placement and repair need to know."""
    usual = usual_speed(record.speeds)
    reads = record.retrieval
    prior = RETRIEVAL_SUCCESS_PRIOR
    return Judgement(
        alias=record.alias,
        standing=record.standing,
        since_ms=record.since_ms,
        forfeit=record.standing is Standing.DISQUALIFIED or record.overdue,
        vetted=record.vetted_ms > 0,
        success=(reads.passed + prior) / (reads.count + prior),
        latency_ms=usual.p50_ms if usual is not None else 0.0,
    )


def judged(record: Record, limits: Limits, about: Surroundings) -> tuple[Record, tuple[Event, ...]]:
    """Judge a node now; return its record and what is new about it, in words."""
    if record.standing is Standing.DISQUALIFIED:
        return record, ()
    record = _forgetting(record, limits, about.now_ms)
    found = {view.axis: view for view in views(record, limits, about)}
    if any(view.level in (Level.SUSPECT, Level.BREACH) for view in found.values()):
        record = replace(record, clean_ms=about.now_ms)
    record, warnings = _warned(record, found, about.now_ms)
    before = record
    record, view = _next(record, limits, about, found)
    if record.standing is before.standing and record.overdue is before.overdue:
        return record, warnings
    # One line for one piece of news, and a new suspension's remedy is that of the suspension.
    warnings = tuple(event for event in warnings if event.axis is not view.axis)
    if record.standing is Standing.SUSPENDED:
        now = {view.axis: view for view in views(record, limits, about)}
        view = replace(view, remedy=now[record.cause].remedy)
        record = replace(record, levels=_levels(now))
    after = f"{record.standing.value}{', overdue' if record.overdue else ''}"
    event = Event(
        alias=record.alias,
        at_ms=about.now_ms,
        kind="standing",
        before=before.standing.value,
        after=after,
        axis=view.axis,
        rule=view.rule,
        figure=view.figure,
        threshold=view.threshold,
        evidence=about.evidence if view.axis is Axis.POSSESSION else "",
        deadline_ms=record.deadline_ms,
        remedy=view.remedy,
    )
    return record, (*warnings, event)


def _forgetting(record: Record, limits: Limits, now_ms: int) -> Record:
    """Forget refusals for want of room after a while: a node at half weight is asked less."""
    latest_ms = record.capacity.at_ms
    if latest_ms and now_ms - latest_ms >= limits.capacity_forget_ms and record.capacity.score > 0:
        return replace(record, capacity=Score(at_ms=latest_ms))
    return record


def _levels(found: Mapping[Axis, AxisView]) -> tuple[tuple[str, str], ...]:
    quiet = (Level.FINE, Level.UNKNOWN)
    return tuple(
        (axis.value, view.level.value) for axis, view in found.items() if view.level not in quiet
    )


def _warned(
    record: Record, found: Mapping[Axis, AxisView], now_ms: int
) -> tuple[Record, tuple[Event, ...]]:
    """Tell of each axis that became better or worse, once."""
    levels = _levels(found)
    if levels == record.levels:
        return record, ()
    old, new = dict(record.levels), dict(levels)
    events = tuple(
        Event(
            alias=record.alias,
            at_ms=now_ms,
            kind="warning" if axis.value in new else "well",
            before=old.get(axis.value, Level.FINE.value),
            after=new.get(axis.value, Level.FINE.value),
            axis=axis,
            rule=view.rule,
            figure=view.figure,
            threshold=view.threshold,
            deadline_ms=view.deadline_ms,
            remedy=view.remedy,
        )
        for axis, view in found.items()
        if old.get(axis.value) != new.get(axis.value)
    )
    return replace(record, levels=levels), events


def _next(
    record: Record, limits: Limits, about: Surroundings, found: Mapping[Axis, AxisView]
) -> tuple[Record, AxisView]:
    """Return the record in its next standing, and the view that is the reason."""
    now_ms = about.now_ms
    possession = found[Axis.POSSESSION]
    if possession.level is Level.BREACH:
        gone = _moved(record, Standing.DISQUALIFIED, Axis.POSSESSION, now_ms)
        return replace(gone, deadline_ms=0, overdue=False), possession
    if record.standing is Standing.SUSPENDED:
        if not _remedied(record, limits, about):
            overdue = now_ms >= record.deadline_ms
            return replace(record, overdue=overdue), found[record.cause]
        return _released(record, limits, about, found)
    for axis in (Axis.AVAILABILITY, Axis.ANSWERS, Axis.RETRIEVAL):
        if found[axis].level is Level.BREACH:
            return _suspended(record, axis, limits, now_ms), found[axis]
    return _lifecycle(record, limits, about, found)


def _moved(record: Record, standing: Standing, cause: Axis, now_ms: int) -> Record:
    if record.standing is standing:
        return record
    return replace(record, standing=standing, since_ms=now_ms, cause=cause)


def _suspended(record: Record, axis: Axis, limits: Limits, now_ms: int) -> Record:
    moved = _moved(record, Standing.SUSPENDED, axis, now_ms)
    moved = replace(moved, deadline_ms=now_ms + limits.grace_ms, clean_ms=now_ms)
    if axis is Axis.AVAILABILITY:
        # The remedy is measured from now on: nobody can make up for last month.
        return replace(moved, windows=Windows(current=record.windows.current))
    return moved


def _remedied(record: Record, limits: Limits, about: Surroundings) -> bool:
    if record.cause is Axis.AVAILABILITY:
        count, share = record.windows.latest(limits.recovery_windows)
        return count >= limits.recovery_windows and share >= online_min(about.tier) - 1e-9
    score = record.answers if record.cause is Axis.ANSWERS else record.retrieval
    return score.score <= 0


def _released(
    record: Record, limits: Limits, about: Surroundings, found: Mapping[Axis, AxisView]
) -> tuple[Record, AxisView]:
    reason = replace(found[record.cause], rule="the suspension's remedy is done")
    free = replace(record, deadline_ms=0, overdue=False)
    if record.cause is Axis.AVAILABILITY:
        # What it has remedied must not suspend it again.
        free = replace(free, windows=record.windows.only_latest(limits.recovery_windows))
    after, _ = _lifecycle(free, limits, about, found)
    return after, reason


def _lifecycle(
    record: Record, limits: Limits, about: Surroundings, found: Mapping[Axis, AxisView]
) -> tuple[Record, AxisView]:
    """Decide between unvetted, vetted, trusted, suspect and exiting."""
    now_ms = about.now_ms
    doubts = [view for view in found.values() if view.level is Level.SUSPECT]
    if not record.vetted_ms and not doubts and _is_vetted(record, limits, about):
        record = replace(record, vetted_ms=max(1, now_ms))
    reason = vetting_view(record, limits, about)
    if about.exiting:
        leave = replace(reason, rule="the node asked to leave", remedy="")
        return _moved(record, Standing.EXITING, Axis.LIFECYCLE, now_ms), leave
    if not record.vetted_ms:
        # Suspicion would be better than this: who is not vetted cannot become suspect.
        return _moved(record, Standing.UNVETTED, Axis.LIFECYCLE, now_ms), reason
    if doubts:
        return _moved(record, Standing.SUSPECT, doubts[0].axis, now_ms), doubts[0]
    calm_ms = now_ms - max(record.vetted_ms, record.clean_ms)
    if calm_ms >= limits.trusted_ms and record.possession.passed >= limits.trusted_samples:
        return _moved(record, Standing.TRUSTED, Axis.LIFECYCLE, now_ms), _trust_view(
            record, limits, calm_ms
        )
    return _moved(record, Standing.VETTED, Axis.LIFECYCLE, now_ms), reason


def _is_vetted(record: Record, limits: Limits, about: Surroundings) -> bool:
    return about.founding or (
        about.now_ms - record.registered_ms >= limits.vetting_ms
        and record.possession.passed >= limits.vetting_samples
    )


def vetting_view(record: Record, limits: Limits, about: Surroundings) -> AxisView:
    """Say how far a node is vetted."""
    age_ms = max(0, about.now_ms - record.registered_ms)
    left_ms = max(0, limits.vetting_ms - age_ms)
    left = max(0, limits.vetting_samples - record.possession.passed)
    done = record.vetted_ms > 0
    wait = show_seconds(left_ms / 1000)
    return AxisView(
        Axis.LIFECYCLE,
        Level.FINE if done else Level.UNKNOWN,
        "one of the first nodes of this cloud"
        if about.founding
        else f"vetted after {limits.vetting_samples:,} passed samples and "
        f"{span(limits.vetting_ms)}",
        f"{record.possession.passed:,} passed samples in {show_seconds(age_ms / 1000)}",
        f"{limits.vetting_samples:,} samples, {span(limits.vetting_ms)}",
        "" if done else f"{left:,} samples and {wait} to go",
        "since registration",
        "" if done else "stay online and keep what is given",
        0 if done else about.now_ms + left_ms,
    )


def _trust_view(record: Record, limits: Limits, calm_ms: int) -> AxisView:
    return AxisView(
        Axis.LIFECYCLE,
        Level.FINE,
        f"trusted after {span(limits.trusted_ms)} without suspicion and "
        f"{limits.trusted_samples:,} passed samples",
        f"{show_seconds(calm_ms / 1000)}, {record.possession.passed:,} passed samples",
        f"{span(limits.trusted_ms)}, {limits.trusted_samples:,} samples",
        "",
        "since vetting or the latest suspicion",
    )
