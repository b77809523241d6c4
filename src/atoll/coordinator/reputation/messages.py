"""Records as messages show them. Pure."""

from collections.abc import Sequence

from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.reputation.axes import AxisView, Surroundings, usual_speed, views
from atoll.coordinator.reputation.model import Event, Limits, Record, SampleNote
from atoll.coordinator.reputation.rules import MEANINGS, judgement_of, vetting_view
from atoll.core.messages.reputation import (
    AxisHealth,
    FailedCheck,
    NodeHealth,
    NodeStanding,
    RegionSpeed,
    StandingEvent,
)


def health_of(
    record: Record,
    view: NodeView,
    limits: Limits,
    about: Surroundings,
    events: Sequence[Event],
    notes: Sequence[SampleNote],
) -> NodeHealth:
    """Return all that is known of a node."""
    axes = (*views(record, limits, about), vetting_view(record, limits, about))
    facts = view.facts
    return NodeHealth(
        time_ms=about.now_ms,
        alias=record.alias,
        node_id=record.node_id,
        operator=facts.operator,
        region=facts.region,
        country=facts.country,
        tier=facts.tier,
        state=view.state.value,
        last_seen_ms=view.last_seen_ms,
        registered_ms=record.registered_ms,
        standing=record.standing.value,
        since_ms=record.since_ms,
        meaning=MEANINGS[record.standing],
        deadline_ms=record.deadline_ms,
        axes=[_axis(axis) for axis in axes],
        speeds=[
            RegionSpeed(
                region=speed.region,
                p50_ms=speed.p50_ms,
                p95_ms=speed.p95_ms,
                bytes_per_s=speed.bytes_per_s,
                reads=speed.reads,
            )
            for speed in record.speeds
        ],
        failed=[_check(note) for note in notes],
        history=[_event(event) for event in events],
        samples_passed=record.possession.passed,
        samples_failed=record.possession.failed,
        last_proof_ms=record.possession.at_ms,
        profile=limits.name,
    )


def _axis(view: AxisView) -> AxisHealth:
    return AxisHealth(
        axis=view.axis.value,
        level=view.level.value,
        rule=view.rule,
        figure=view.figure,
        threshold=view.threshold,
        margin=view.margin,
        window=view.window,
        remedy=view.remedy,
        deadline_ms=view.deadline_ms,
        used=round(min(1.0, max(0.0, view.used)), 4),
    )


def _check(note: SampleNote) -> FailedCheck:
    return FailedCheck(
        axis=note.axis.value,
        at_ms=note.at_ms,
        slot=note.slot,
        piece=note.piece,
        reason=note.reason,
        evidence=note.evidence,
        forgiven=note.forgiven,
    )


def _event(event: Event) -> StandingEvent:
    return StandingEvent(
        at_ms=event.at_ms,
        kind=event.kind,
        before=event.before,
        after=event.after,
        axis=event.axis.value,
        rule=event.rule,
        figure=event.figure,
        threshold=event.threshold,
        evidence=event.evidence,
        deadline_ms=event.deadline_ms,
        remedy=event.remedy,
    )


def standing_of(record: Record, view: NodeView) -> NodeStanding:
    """Return a node's standing in short."""
    facts, speed = view.facts, usual_speed(record.speeds)
    return NodeStanding(
        alias=record.alias,
        node_id=record.node_id,
        operator=facts.operator,
        region=facts.region,
        country=facts.country,
        tier=facts.tier,
        state=view.state.value,
        standing=record.standing.value,
        since_ms=record.since_ms,
        deadline_ms=record.deadline_ms,
        possession=record.possession.score,
        online_share=record.windows.share,
        windows=record.windows.count,
        success=judgement_of(record).success,
        p50_ms=speed.p50_ms if speed is not None else 0.0,
        p95_ms=speed.p95_ms if speed is not None else 0.0,
        samples_passed=record.possession.passed,
        samples_failed=record.possession.failed,
        last_proof_ms=record.possession.at_ms,
        warnings=[f"{axis} {level}" for axis, level in record.levels],
    )
