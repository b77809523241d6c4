"""From a status to what a person is shown. Pure: the same status gives the same words."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from atoll.console.earnings import earnings_view, euros_by_node
from atoll.console.model import (
    CloudView,
    Fact,
    Health,
    NodeView,
    RepairView,
    Sample,
    ThroughputView,
)
from atoll.core.ids import show_node
from atoll.core.messages import CloudStatus, NodeStatus, Survival
from atoll.core.messages.payouts import AllEarnings
from atoll.core.scheme import RS_2_4
from atoll.core.units import show_bytes, show_seconds

ONE_MACHINE = "One machine: no protection against its loss."
SEEN_NOW_MS = 3_000
_LOCAL_ADDRESS = re.compile(r"(?:^|//)127\.0\.(\d{1,3})\.1:")
CHART_WIDTH = 240
CHART_HEIGHT = 48
CHART_PEAK_MIN = 64 << 10
"""Bytes per second at the top of an idle chart, so that noise stays low."""


def view_of(
    status: CloudStatus, history: Sequence[Sample] = (), earnings: AllEarnings | None = None
) -> CloudView:
    """Return what to show. ``history`` holds earlier samples, oldest first, and this one."""
    euros = euros_by_node(earnings, status.time_ms) if earnings is not None else {}
    nodes = (
        replace(node_of(one, status.time_ms), earned=euros.get(one.node_id)) for one in status.nodes
    )
    return CloudView(
        health=health_of(status),
        headline=headline_of(status),
        warning=ONE_MACHINE if status.one_machine else "",
        facts=facts_of(status),
        repair=repair_of(status, history),
        throughput=throughput_of(history),
        nodes=tuple(sorted(nodes, key=_by_number)),
        time=datetime.fromtimestamp(status.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        profile=status.profile,
        earnings=earnings_view(earnings, status.time_ms) if earnings is not None else None,
    )


def sample_of(status: CloudStatus) -> Sample:
    """Return what a history keeps of a status."""
    missing = status.repair.pieces_missing
    return Sample(status.time_ms, status.put_bytes, status.get_bytes, missing)


def health_of(status: CloudStatus) -> Health:
    """Say in one word how the cloud is."""
    if status.survival.nodes_alive < (1 if status.objects else RS_2_4.durable):
        return Health.WAITING
    if status.objects and status.survival.any_nodes == 0:
        return Health.EXPOSED
    if status.repair.pieces_missing or status.repair.segments_degraded:
        return Health.REPAIRING
    return Health.HEALTHY


def headline_of(status: CloudStatus) -> str:
    """Say how many nodes may die now, and what one more would take."""
    survival = status.survival
    alive = survival.nodes_alive
    if not alive:
        return "No node is alive yet."
    if alive < RS_2_4.durable and not status.objects:
        return f"Nothing is stored yet; that takes {RS_2_4.durable} nodes, {alive} alive."
    if not status.objects:
        return f"Nothing is stored yet; {_count(alive, 'node')} ready to take it."
    if survival.any_nodes <= 0:
        return f"No node may die now: {_loss('the next', survival)}"
    begin = f"Any {survival.any_nodes} of {alive} nodes may die now"
    if survival.any_nodes >= alive or not survival.next_loss_objects:
        return f"{begin} and every object stays readable."
    return f"{begin}; {_loss(f'the {ordinal(survival.any_nodes + 1)}', survival)}"


def _loss(which: str, survival: Survival) -> str:
    objects = _count(survival.next_loss_objects, "object")
    return f"{which} would take {objects} until one returns."


def facts_of(status: CloudStatus) -> tuple[Fact, ...]:
    """Return the figures at the top."""
    capacity = sum(node.capacity_bytes for node in status.nodes)
    used = sum(node.used_bytes for node in status.nodes)
    alive = status.survival.nodes_alive
    gone = len(status.nodes) - alive
    missing = f"{gone} not alive" if gone else "all alive"
    pieces = "nothing yet"
    if status.object_bytes:
        pieces = f"as pieces × {status.stored_bytes / status.object_bytes:.2f}"
    return (
        Fact("Nodes", f"{alive} of {len(status.nodes)}", missing),
        Fact("Objects", f"{status.objects:,}", f"in {_count(status.buckets, 'bucket')}"),
        Fact("Data", show_bytes(status.object_bytes), pieces),
        Fact("Pieces", f"{status.pieces:,}", _pieces_remark(status)),
        Fact("Disk", show_bytes(used), f"of {show_bytes(capacity)} offered"),
        *_epoch_facts(status),
    )


def _epoch_facts(status: CloudStatus) -> tuple[Fact, ...]:
    """Say which epoch was closed last, and how far the chain is; nothing where there are none."""
    epochs = status.epochs
    if not epochs.epoch:
        return ()
    ago = show_seconds(max(0, status.time_ms - epochs.until_ms) / 1000)
    remark = f"{epochs.state}, ended {ago} ago"
    if epochs.epoch_final:
        remark += f"; settled up to {epochs.epoch_final}"
    if epochs.time_factor > 1:
        remark += f"; time counts {epochs.time_factor:,} times"
    return (Fact("Epoch", f"{epochs.epoch:,}", remark),)


def _pieces_remark(status: CloudStatus) -> str:
    """Say of how many segments they are, and whether nodes hold what is counted, to the byte."""
    segments = f"of {_count(status.segments, 'segment')}"
    sets = status.sets
    if not sets.nodes_compared:
        return segments
    if sets.nodes_agreed == sets.nodes_compared:
        return f"{segments}; {_count(sets.nodes_agreed, 'node')} agree to the byte"
    apart = f"{sets.nodes_agreed} of {_count(sets.nodes_compared, 'node')} agree"
    return f"{segments}; {apart}, {show_bytes(sets.differing_bytes)} apart"


def repair_of(status: CloudStatus, history: Sequence[Sample] = ()) -> RepairView:
    """Return what repair is doing; the bar counts from when something was first missing."""
    repair = status.repair
    past = "nothing rebuilt so far"
    if repair.pieces_repaired:
        read, written = show_bytes(repair.bytes_downloaded), show_bytes(repair.bytes_uploaded)
        done = _count(repair.pieces_repaired, "piece")
        past = f"{done} rebuilt so far, {read} read, {written} written"
    past += _upgrades_remark(status)
    if not repair.pieces_missing and not repair.segments_degraded:
        return RepairView(False, "Every segment is at full strength", past, 100.0)
    peak = max([repair.pieces_missing, *_missing_since_whole(history)])
    percent = 100.0 * (1 - repair.pieces_missing / peak) if peak else 0.0
    headline = (
        f"{_count(repair.pieces_missing, 'piece')} missing in "
        f"{_count(repair.segments_degraded, 'segment')}"
    )
    if repair.segments_urgent:
        headline += f", {repair.segments_urgent:,} urgent"
    if repair.frozen:
        past = "held back: too many nodes vanished at once; waiting for them to return"
    elif not repair.running:
        past = f"waiting its turn; {past}"
    return RepairView(True, headline, past, round(percent, 1))


def _upgrades_remark(status: CloudStatus) -> str:
    """Say how many segments are narrower than the network could have them, and what was done."""
    upgrades = status.upgrades
    words = []
    if upgrades.below_segments:
        waiting = _count(upgrades.below_segments, "segment")
        words.append(f"{waiting} below the scheme that so many operators allow, being copied")
    if upgrades.upgraded_segments:
        words.append(f"{_count(upgrades.upgraded_segments, 'segment')} copied into wider schemes")
    return "".join(f"; {word}" for word in words)


def _missing_since_whole(history: Sequence[Sample]) -> list[int]:
    missing: list[int] = []
    for sample in reversed(history):
        if not sample.pieces_missing:
            break
        missing.append(sample.pieces_missing)
    return missing


def rates_of(history: Sequence[Sample]) -> tuple[list[float], list[float]]:
    """Return bytes per second put and got between neighbouring samples; a restart counts as 0."""
    put: list[float] = []
    get: list[float] = []
    for before, after in itertools.pairwise(history):
        seconds = max((after.time_ms - before.time_ms) / 1000, 0.001)
        put.append(max(0, after.put_bytes - before.put_bytes) / seconds)
        get.append(max(0, after.get_bytes - before.get_bytes) / seconds)
    return put, get


def throughput_of(history: Sequence[Sample]) -> ThroughputView:
    """Return the rates now and as two lines of a chart."""
    put, get = rates_of(history)
    peak = max([CHART_PEAK_MIN, *put, *get])
    return ThroughputView(
        put=f"{show_bytes(_recent(put))}/s",
        get=f"{show_bytes(_recent(get))}/s",
        put_points=_points(put, peak),
        get_points=_points(get, peak),
        peak=f"{show_bytes(peak)}/s",
    )


def _recent(rates: Sequence[float]) -> float:
    """Nodes report by heartbeat, so one second's rate jumps: the mean of the last three."""
    last = rates[-3:]
    return sum(last) / len(last) if last else 0.0


def _points(rates: Sequence[float], peak: float, width: int = 120) -> str:
    step = CHART_WIDTH / (width - 1)
    first = CHART_WIDTH - step * (len(rates[-width:]) - 1)
    return " ".join(
        f"{first + i * step:.1f},{CHART_HEIGHT - 2 - (CHART_HEIGHT - 4) * rate / peak:.1f}"
        for i, rate in enumerate(rates[-width:])
    )


def node_of(node: NodeStatus, now_ms: int) -> NodeView:
    """Return one node's line."""
    gone_ms = max(0, now_ms - node.last_seen_ms)
    capacity = node.capacity_bytes
    place = " ".join(part for part in (node.region, node.country) if part)
    return NodeView(
        alias=node.alias,
        number=number_of(node),
        name=show_node(node.node_id),
        operator=node.operator,
        site=node.site,
        place=place,
        tier=node.tier,
        address=node.address.removeprefix("http://").removeprefix("https://"),
        state=node.state,
        seen="now" if gone_ms < SEEN_NOW_MS else f"{show_seconds(gone_ms / 1000)} ago",
        used=show_bytes(node.used_bytes),
        capacity=show_bytes(capacity),
        filled_percent=round(min(100.0, 100 * node.used_bytes / capacity), 1) if capacity else 0.0,
        pieces=node.pieces,
        errors=node.errors,
        full=node.full,
        standing=node.standing,
        page=f"/providers/{node.node_id.hex()}",
    )


def number_of(node: NodeStatus) -> int:
    """Return the number people know a node by: ``i`` for 127.0.i.1, else its alias.

    On one machine the supervisor, the folders and the operators are numbered so; aliases are given
    in the order of registration, which differs from start to start.
    """
    local = _LOCAL_ADDRESS.search(node.address)
    return int(local.group(1)) if local else node.alias


def _by_number(node: NodeView) -> tuple[int, int]:
    return node.number, node.alias


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def ordinal(number: int) -> str:
    """Return the ordinal in figures: ``1st``, ``2nd``, ``3rd``, ``11th``."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
