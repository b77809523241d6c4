"""Pictures of a long simulation: three panels of one SVG, written by hand."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atoll.sim.scale import Day, ScaleResult

WIDTH, PANEL, GAP = 960, 190, 64
LEFT, RIGHT, TOP = 76, 208, 88
PLOT = WIDTH - LEFT - RIGHT
INK, FAINT, BACK = "#1d2b36", "#d5dde2", "#ffffff"
LEGEND_STEP = 18


@dataclass(frozen=True, slots=True)
class Series:
    """One coloured area or line."""

    name: str
    colour: str
    values: Sequence[float]


def picture(result: ScaleResult) -> str:
    """Return the SVG: health of segments, repair traffic, states of nodes, day by day."""
    config = result.config
    days = result.days
    segments, nodes = config.segments, config.nodes
    frozen = [i for i, day in enumerate(days) if day.frozen_hours]

    def share(get: Callable[[Day], int], whole: int) -> list[float]:
        return [100 * get(day) / whole for day in days]

    month = 30 * 100
    traffic = [month * day.traffic for day in days]
    panels = [
        _panel(
            "Health of segments (% of all)",
            [
                Series("full strength", "#2a9d8f", share(lambda d: d.full, segments)),
                Series("above threshold", "#a8d5a2", share(lambda d: d.above, segments)),
                Series("due for repair", "#f4a261", share(lambda d: d.due, segments)),
                Series("one from loss", "#c1121f", share(lambda d: d.critical, segments)),
            ],
            100.0,
            frozen,
            stacked=True,
        ),
        _panel(
            "Repair traffic (% of user data a month, by the day)",
            [
                Series("moved", "#264653", traffic),
                Series("model, at threshold", "#e76f51", [_model(result)] * len(days)),
            ],
            _round_up(max(1.0, *traffic, _model(result))),
            frozen,
            stacked=False,
        ),
        _panel(
            "Nodes not there (% of all)",
            [
                Series("silent", "#e9c46a", share(lambda d: d.suspect, nodes)),
                Series("dead", "#6d597a", share(lambda d: d.dead, nodes)),
            ],
            _round_up(max(1.0, *(100 * (d.suspect + d.dead) / nodes for d in days))),
            frozen,
            stacked=True,
        ),
    ]
    height = TOP + len(panels) * (PANEL + GAP)
    body = "".join(
        f'<g transform="translate({LEFT},{TOP + place * (PANEL + GAP)})">{panel}</g>'
        for place, panel in enumerate(panels)
    )
    title = (
        f"{nodes:,} nodes, {100 * config.churn_month:g} % lost a month, {config.scheme.name}: "
        f"{len(days)} days, {result.lost} of {segments:,} segments lost"
    )
    remark = f"seed {config.seed}; grey: repair frozen because many nodes vanished at once"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="{INK}">'
        f'<rect width="{WIDTH}" height="{height}" fill="{BACK}"/>'
        f'<text x="{LEFT}" y="26" font-size="17" font-weight="bold">{title}</text>'
        f'<text x="{LEFT}" y="45">{remark}</text>{body}</svg>\n'
    )


def _round_up(value: float) -> float:
    """Return the next figure that four even steps divide well: 1, 2, 4, 6 or 8 times a power."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def _model(result: ScaleResult) -> float:
    assert result.model is not None
    return 100 * result.model.traffic_month


def _panel(
    title: str, series: Sequence[Series], most: float, frozen: Sequence[int], *, stacked: bool
) -> str:
    count = len(series[0].values)
    parts = [f'<text x="0" y="-9" font-weight="bold">{title}</text>']
    for day in frozen:
        width = max(1.0, PLOT / count)
        parts.append(
            f'<rect x="{_x(day, count):.1f}" y="0" width="{width:.1f}" height="{PANEL}" '
            'fill="#b8bec4"/>'
        )
    parts += [_rule(part * most / 4, most) for part in range(5)]
    below = [0.0] * count
    for one in series:
        above = [b + v for b, v in zip(below, one.values, strict=True)]
        if stacked:
            parts.append(_area(below, above, most, one.colour))
            below = above
        else:
            points = _points(one.values, most)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{one.colour}" '
                'stroke-width="1.6"/>'
            )
    parts += [_label(place, one) for place, one in enumerate(series)]
    parts += [_month(day, count) for day in range(0, count + 1, max(1, 30 * (count // 360 or 1)))]
    return "".join(parts)


def _x(day: float, count: int) -> float:
    return PLOT * day / max(1, count - 1)


def _y(value: float, most: float) -> float:
    return PANEL * (1 - value / most)


def _points(values: Sequence[float], most: float) -> str:
    count = len(values)
    return " ".join(f"{_x(i, count):.1f},{_y(v, most):.1f}" for i, v in enumerate(values))


def _area(below: Sequence[float], above: Sequence[float], most: float, colour: str) -> str:
    count = len(below)
    back = " ".join(
        f"{_x(i, count):.1f},{_y(below[i], most):.1f}" for i in range(count - 1, -1, -1)
    )
    return f'<polygon points="{_points(above, most)} {back}" fill="{colour}"/>'


def _rule(value: float, most: float) -> str:
    y = _y(value, most)
    text = f"{value:.0f}" if most >= 20 else f"{value:.1f}"
    return (
        f'<line x1="0" x2="{PLOT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>'
        f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _label(place: int, one: Series) -> str:
    y = 10 + place * LEGEND_STEP
    return (
        f'<rect x="{PLOT + 18}" y="{y - 9}" width="11" height="11" fill="{one.colour}"/>'
        f'<text x="{PLOT + 36}" y="{y}">{one.name}</text>'
    )


def _month(day: int, count: int) -> str:
    x = _x(day, count)
    if x > PLOT + 1:
        return ""
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{PANEL}" y2="{PANEL + 5}" stroke="{INK}"/>'
        f'<text x="{x:.1f}" y="{PANEL + 19}" text-anchor="middle">day {day}</text>'
    )
