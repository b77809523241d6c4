"""Each axis by itself: how observations change it, and how it stands against its rule. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from atoll.coordinator.reputation.model import (
    SHARE_ONLINE_MIN,
    WINDOWS_KEPT,
    Axis,
    Level,
    Limits,
    Record,
    Score,
    SequentialTest,
    Speed,
    Standing,
    Windows,
)
from atoll.core.units import show_bytes

WARNING_SHARE = 0.5
"""An early warning comes when half of what the tier allows to be absent is used up,"""
SUSPECT_SHARE = 0.25
"""and suspicion when a quarter of it is left."""
SPEED_SMOOTHING_MAX = 0.25
SPEED_READS_FULL = 64
"""A batch of so many reads has the full weight."""
REGIONS_MAX = 8
"""Regions of gateways kept per node; the one with the fewest reads gives way."""
SLOW_FACTOR = 4.0
"""So many times the median of the nodes of its tier is slow,"""
SLOW_MS_MIN = 1_000.0
"""but nothing below this is."""
SPEED_READS_MIN = 50
_MASK = (1 << WINDOWS_KEPT) - 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else a judgement needs to know of a node."""

    now_ms: int
    tier: str
    exiting: bool = False
    founding: bool = False
    """It was among the first nodes of this cloud."""
    peers_p95_ms: float = 0.0
    """Median over the nodes of its tier; 0 where too few are measured."""
    evidence: str = ""
    """References to the verdicts behind the latest failed samples."""


@dataclass(frozen=True, slots=True)
class AxisView:
    """One axis in words and figures."""

    axis: Axis
    level: Level
    rule: str
    figure: str
    threshold: str
    margin: str
    window: str
    remedy: str = ""
    deadline_ms: int = 0
    used: float = 0.0
    """How much of the way to the threshold is gone; 1 is a breach."""


# --- what is seen ---------------------------------------------------------------------------------


def tested(score: Score, test: SequentialTest, passed: int, failed: int, at_ms: int) -> Score:
    """Add a batch of samples, its failures spread evenly; stops at ``out`` as the test does."""
    value = score.score
    share, rest = divmod(passed, failed + 1)
    for place in range(failed + 1):
        passes = share + (place < rest)
        value = max(test.clean, value + passes * test.pass_step)
        if place < failed:
            value += test.fail_step
        if value >= test.out:
            value = test.out
            break
    return Score(value, score.passed + passed, score.failed + failed, max(score.at_ms, at_ms))


def looked(windows: Windows, here: bool) -> Windows:
    """Note that a node was looked at in the open window."""
    return replace(windows, seen=windows.seen + 1, here=windows.here + here)


def was_online(windows: Windows, limits: Limits) -> bool | None:
    """Say whether the open window would count as online; None where it does not count."""
    if windows.seen < limits.looks_share * limits.window_ms / limits.look_ms:
        return None
    return windows.here >= limits.here_share * windows.seen


def closed(windows: Windows, number: int, online: bool | None) -> Windows:
    """Close the open window with its verdict, and open window ``number``."""
    passed = number - windows.current
    if passed <= 0:
        return windows
    if passed >= WINDOWS_KEPT:
        return Windows(current=number)
    counted = windows.counted << 1 | (online is not None)
    there = windows.online << 1 | bool(online)
    shift = passed - 1
    return Windows(number, counted << shift & _MASK, there << shift & _MASK)


def measured(speeds: tuple[Speed, ...], new: Speed) -> tuple[Speed, ...]:
    """Smooth a batch of one region into what is known (exponentially, by its number of reads)."""
    if new.reads <= 0:
        return speeds
    kept = {speed.region: speed for speed in speeds}
    old = kept.get(new.region)
    if old is None:
        kept[new.region] = new
    else:
        part = SPEED_SMOOTHING_MAX * min(1.0, new.reads / SPEED_READS_FULL)
        kept[new.region] = Speed(
            new.region,
            _towards(old.p50_ms, new.p50_ms, part),
            _towards(old.p95_ms, new.p95_ms, part),
            _towards(old.bytes_per_s, new.bytes_per_s, part),
            old.reads + new.reads,
        )
    order = sorted(kept.values(), key=lambda one: (-one.reads, one.region))
    return tuple(order[:REGIONS_MAX])


def _towards(old: float, new: float, part: float) -> float:
    """Smooth a figure; 0 is an unknown one."""
    return old + part * (new - old) if old and new else old or new


# --- how it stands --------------------------------------------------------------------------------


def views(record: Record, limits: Limits, about: Surroundings) -> tuple[AxisView, ...]:
    """Return how every axis stands."""
    return (
        possession_view(record, limits),
        answers_view(record, limits),
        availability_view(record, limits, about),
        retrieval_view(record, limits),
        capacity_view(record, limits),
        speed_view(record, about),
    )


def _score_level(score: Score, test: SequentialTest) -> Level:
    if score.score >= test.out:
        return Level.BREACH
    if score.score >= test.out / 2:
        return Level.SUSPECT
    if score.score > 0:
        return Level.WARNING
    return Level.FINE if score.count else Level.UNKNOWN


def _score_words(score: Score, test: SequentialTest, noun: str) -> tuple[str, str, str, str]:
    """Return rule, figure, threshold and margin of a sequential test."""
    rule = (
        f"sequential test: {_percent(test.honest)} failing is honest, {_percent(test.faulty)} is "
        f"not; each failure adds {test.fail_step:.2f}, each success takes {-test.pass_step:.5f}"
    )
    figure = f"{score.score:+.2f} ({score.failed:,} of {score.count:,} {noun} failed)"
    if not score.count:
        figure = f"no {noun} yet"
    more = max(0, ceil((test.out - score.score) / test.fail_step - 1e-9))
    return rule, figure, f"{test.out:+.2f}", f"{more} more failures in a row"


def _used(score: Score, test: SequentialTest) -> float:
    return (score.score - test.clean) / (test.out - test.clean) if score.count else 0.0


def possession_view(record: Record, limits: Limits) -> AxisView:
    """Say how possession stands: samples of the pieces that the node must keep."""
    test, score = limits.possession, record.possession
    rule, figure, threshold, margin = _score_words(score, test, "samples")
    level = _score_level(score, test)
    remedy = ""
    if level is Level.BREACH:
        remedy = "none: what a node promised to keep is gone; a new key starts unvetted"
    elif level in (Level.WARNING, Level.SUSPECT):
        passes = ceil(score.score / -test.pass_step)
        remedy = (
            f"check the disk; report what is lost before it is asked for (that costs nothing); "
            f"{passes:,} passed samples bring the figure to 0"
        )
    return AxisView(
        Axis.POSSESSION,
        level,
        rule,
        figure,
        threshold,
        margin,
        "since registration",
        remedy,
        used=_used(score, test),
    )


def _recovering(record: Record, axis: Axis) -> bool:
    """Say whether a node is suspended for this axis: then that is in breach until remedied."""
    return record.standing is Standing.SUSPENDED and record.cause is axis


def answers_view(record: Record, limits: Limits) -> AxisView:
    """Say whether proofs come at all: a whole answer that is missing is one failure."""
    test, score = limits.possession, record.answers
    rule, figure, threshold, margin = _score_words(score, test, "samples")
    recovering = _recovering(record, Axis.ANSWERS)
    level = Level.BREACH if recovering else _score_level(score, test)
    remedy = ""
    if level in (Level.WARNING, Level.SUSPECT, Level.BREACH):
        passes = ceil(score.score / -test.pass_step)
        remedy = (
            "let the node send its proofs (it pushes them to the verifiers; look at its log); "
            f"{passes:,} passed samples bring the figure to 0"
        )
    return AxisView(
        Axis.ANSWERS,
        level,
        f"{rule}; a slot left unanswered is one failure",
        figure,
        threshold,
        margin,
        "since registration",
        remedy,
        record.deadline_ms if recovering else 0,
        _used(score, test),
    )


def retrieval_view(record: Record, limits: Limits) -> AxisView:
    """Say how retrieval stands: reads that the node refused or answered wrongly or too late."""
    test, score = limits.retrieval, record.retrieval
    rule, figure, threshold, margin = _score_words(score, test, "reads")
    recovering = _recovering(record, Axis.RETRIEVAL)
    level = Level.BREACH if recovering else _score_level(score, test)
    remedy = ""
    if level in (Level.WARNING, Level.SUSPECT, Level.BREACH):
        passes = ceil(score.score / -test.pass_step)
        remedy = f"serve what is asked for: {passes:,} reads in a row bring the figure to 0"
    deadline_ms = record.deadline_ms if recovering else 0
    return AxisView(
        Axis.RETRIEVAL,
        level,
        rule,
        figure,
        threshold,
        margin,
        "since registration",
        remedy,
        deadline_ms,
        _used(score, test),
    )


def capacity_view(record: Record, limits: Limits) -> AxisView:
    """Say how far the node's word about its free space is true. Never worse than suspect."""
    test, score = limits.capacity, record.capacity
    rule, figure, threshold, margin = _score_words(score, test, "new pieces")
    level = _score_level(score, test)
    milder = {
        Level.BREACH: Level.SUSPECT,
        Level.SUSPECT: Level.WARNING,
        Level.WARNING: Level.FINE,
    }
    level = milder.get(level, level)
    remedy = ""
    if level in (Level.WARNING, Level.SUSPECT):
        remedy = (
            "offer no more than the disk holds (capacity of the node's settings); refusals are "
            f"forgotten {span(limits.capacity_forget_ms)} after the latest"
        )
    return AxisView(
        Axis.CAPACITY,
        level,
        rule,
        figure,
        threshold,
        margin,
        "since the latest reset",
        remedy,
        used=_used(score, test),
    )


def online_min(tier: str) -> float:
    """Return the share of counted windows in which a node of this tier must be online."""
    return SHARE_ONLINE_MIN.get(tier, SHARE_ONLINE_MIN["home"])


def availability_view(record: Record, limits: Limits, about: Surroundings) -> AxisView:
    """Say how availability stands: hours online of those that count."""
    windows, least = record.windows, online_min(about.tier)
    recovering = _recovering(record, Axis.AVAILABILITY)
    needed = limits.recovery_windows if recovering else limits.windows_min
    share, count = windows.share, windows.count
    if recovering:
        # What counts is the latest stretch: who was away for long need not be as long back.
        count, share = windows.latest(needed)
    level = Level.UNKNOWN
    if count >= needed:
        bounds = (
            (Level.BREACH, least),
            (Level.SUSPECT, least + SUSPECT_SHARE * (1 - least)),
            (Level.WARNING, least + WARNING_SHARE * (1 - least)),
        )
        level = next((one for one, bound in bounds if share < bound - 1e-9), Level.FINE)
    absent = count - round(share * count)
    left = max(0, floor((1 - least) * max(count, needed) + 1e-9) - absent)
    length = span(limits.window_ms)
    remedy, deadline_ms, margin = "", 0, f"{left} more windows may be missed"
    used = absent / max(1, absent + left)
    if recovering:
        level, used = Level.BREACH, 1.0
        margin = f"at least {max(1, needed - count)} more windows until it ends"
        remedy = (
            f"be online in {_percent(least)} of the latest {needed} windows since the suspension "
            f"({_percent(share)} of {count} so far)"
        )
        deadline_ms = record.deadline_ms
    elif level in (Level.WARNING, Level.SUSPECT):
        remedy = "stay online, or declare the hours in which the node is off (its calendar)"
        deadline_ms = about.now_ms + (left + 1) * limits.window_ms
    return AxisView(
        Axis.AVAILABILITY,
        level,
        f"online in {_percent(least)} of windows of {length} (tier {about.tier}); hours outside "
        "the declared calendar, and those in which many or we ourselves were away, do not count",
        f"{_percent(share)} of {count} windows",
        _percent(least),
        margin,
        f"{WINDOWS_KEPT} windows of {length}; judged from {needed} on",
        remedy,
        deadline_ms,
        used,
    )


def speed_view(record: Record, about: Surroundings) -> AxisView:
    """Say how quick the node is beside others of its tier. Only ever a warning."""
    best = usual_speed(record.speeds)
    bound = max(SLOW_MS_MIN, SLOW_FACTOR * about.peers_p95_ms)
    level, figure, margin = Level.UNKNOWN, "not measured yet", ""
    if best is not None:
        figure = "long reads only"
        if best.p95_ms:
            figure = f"p50 {best.p50_ms:.1f} ms, p95 {best.p95_ms:.1f} ms"
            margin = f"{max(0.0, bound - best.p95_ms):.0f} ms"
        if best.bytes_per_s:
            figure += f", {show_bytes(round(best.bytes_per_s))}/s"
        figure += f" from {best.region or 'here'}"
        if best.p95_ms and best.reads >= SPEED_READS_MIN:
            level = Level.WARNING if best.p95_ms > bound else Level.FINE
    return AxisView(
        Axis.SPEED,
        level,
        f"p95 of reads at most {SLOW_FACTOR:.0f} times the median of tier {about.tier}, and "
        f"{SLOW_MS_MIN:.0f} ms always; slow nodes are drawn less often",
        figure,
        f"{bound:.0f} ms",
        margin,
        "smoothed over some hundred reads",
        "look at disk and line; a lower bandwidth setting is better than slow answers"
        if level is Level.WARNING
        else "",
        used=best.p95_ms / bound if best is not None else 0.0,
    )


def usual_speed(speeds: Sequence[Speed]) -> Speed | None:
    """Return the speed towards the region that reads most; None where nothing is known."""
    return speeds[0] if speeds else None


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %"


def span(milliseconds: int) -> str:
    """Write a span of time of the rules: ``5 s``, ``1 h``, ``21 d``; whole in its largest unit."""
    for unit, length_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if milliseconds >= length_ms and milliseconds % length_ms == 0:
            return f"{milliseconds // length_ms} {unit}"
    return f"{milliseconds / 1000:g} s"
