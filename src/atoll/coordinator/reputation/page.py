"""The public pages: every provider's standing, figures and history, for anybody. Pure.

What is shown is what is judged: nothing of a customer, no address of a provider, no site.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec

from atoll.core.ids import show_node
from atoll.core.messages import Message
from atoll.core.messages.reputation import (
    AxisHealth,
    FailedCheck,
    MassFailure,
    NodeHealth,
    NodeStanding,
    StandingEvent,
    StandingList,
)
from atoll.core.units import show_bytes, show_seconds

FAILED_SHOWN_MAX = 100
HISTORY_SHOWN_MAX = 100
FORGIVEN_SHOWN_MAX = 20
_WORDS = {
    "possession": "Possession",
    "answers": "Proofs answered",
    "availability": "Availability",
    "retrieval": "Retrieval",
    "capacity": "Capacity told truly",
    "speed": "Speed",
    "lifecycle": "Vetting",
}


def plain(message: Message) -> Any:
    """Return a message as JSON objects; byte strings in hex."""
    return _hexed(msgspec.to_builtins(message, builtin_types=(bytes,)))


def _hexed(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_hexed(one) for one in value]
    if isinstance(value, dict):
        return {key: _hexed(one) for key, one in value.items() if key != "type"}
    return value


# --- one provider ---------------------------------------------------------------------------------


def provider_page(health: NodeHealth) -> bytes:
    """Return the page of one provider."""
    name, node_id = show_node(health.node_id), health.node_id.hex()
    place = " ".join(part for part in (health.region, health.country) if part)
    deadline = ""
    if health.deadline_ms:
        deadline = f'<p class="deadline">Deadline {_when(health.deadline_ms, health.time_ms)}</p>'
    proof = _ago(health.last_proof_ms, health.time_ms) if health.last_proof_ms else "none yet"
    facts = (
        ("State", health.state, f"seen {_ago(health.last_seen_ms, health.time_ms)}"),
        ("Samples passed", f"{health.samples_passed:,}", f"{health.samples_failed:,} failed"),
        ("Latest proof", proof, "judged by verifiers"),
        ("Here since", _day(health.registered_ms), f"standing since {_day(health.since_ms)}"),
    )
    body = f"""
<section class="card hero {escape(health.standing)}">
  <div><p class="standing"><span class="dot"></span>{escape(health.standing)}</p>
  <h1>{escape(health.operator)}</h1>
  <p class="quiet">{escape(place)} · tier {escape(health.tier)} · <code>{name}</code></p></div>
  <div class="meaning"><p>{escape(health.meaning[:1].upper() + health.meaning[1:])}.</p>{deadline}
  </div>
</section>
<dl class="facts">{"".join(_fact(*fact) for fact in facts)}</dl>
<section class="axes">{"".join(_axis(axis, health.time_ms) for axis in health.axes)}</section>
{_speeds(health)}
{_history(health.history, health.time_ms)}
{_failed(health.failed, health.time_ms)}
<footer><a href="/providers">All providers</a> <a href="/v1/providers/{node_id}">JSON</a>
<span>rules of profile {escape(health.profile)} · {_stamp(health.time_ms)} UTC</span></footer>"""
    return _document(f"{health.operator} · {health.standing}", body)


def _fact(label: str, value: str, remark: str) -> str:
    value = escape(value[:1].upper() + value[1:])
    return (
        f'<div class="card fact"><dt>{label}</dt><dd class="value">{value}</dd>'
        f'<dd class="quiet">{escape(remark)}</dd></div>'
    )


def _axis(axis: AxisHealth, now_ms: int) -> str:
    deadline = f" by {_when(axis.deadline_ms, now_ms)}" if axis.deadline_ms else ""
    remedy = ""
    if axis.remedy:
        remedy = f'<p class="remedy"><strong>Remedy{deadline}:</strong> {escape(axis.remedy)}</p>'
    margin = f" · {escape(axis.margin)}" if axis.margin else ""
    bar = ""
    if axis.axis != "lifecycle":
        bar = (
            '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" '
            f'aria-label="{100 * axis.used:.0f} percent of the way to the threshold">'
            '<rect class="ground" width="100" height="4"/>'
            f'<rect class="fill" width="{100 * axis.used:.1f}" height="4"/></svg>'
        )
    return f"""
<article class="card axis {escape(axis.level)}">
  <div class="head"><h2>{_WORDS.get(axis.axis, escape(axis.axis))}</h2>
  <span class="tag">{escape(axis.level)}</span></div>
  <p class="figure">{escape(axis.figure)}</p>{bar}
  <p class="quiet">threshold {escape(axis.threshold)}{margin}</p>
  <p class="rule">{escape(axis.rule)}. <span class="quiet">{escape(axis.window)}.</span></p>{remedy}
</article>"""


def _speeds(health: NodeHealth) -> str:
    if not health.speeds:
        return ""
    rows = "".join(
        f"<tr><td>{escape(speed.region or 'here')}</td><td>{_ms(speed.p50_ms)}</td>"
        f"<td>{_ms(speed.p95_ms)}</td>"
        f"<td>{show_bytes(round(speed.bytes_per_s)) + '/s' if speed.bytes_per_s else '—'}</td>"
        f"<td>{speed.reads:,}</td></tr>"
        for speed in health.speeds
    )
    return _table("Speed by region", ("Seen from", "p50", "p95", "Rate", "Reads"), rows)


def _ms(figure: float) -> str:
    return f"{figure:.1f} ms" if figure else "—"


def _history(events: Sequence[StandingEvent], now_ms: int) -> str:
    if not events:
        return '<section class="card"><h2>History</h2><p class="quiet">Nothing yet.</p></section>'
    rows = "".join(_event(event, now_ms) for event in events[:HISTORY_SHOWN_MAX])
    return _table("History", ("When (UTC)", "What", "Figure against threshold", "Rule"), rows)


def _event(event: StandingEvent, now_ms: int) -> str:
    change = event.after if event.before == event.after else f"{event.before} → {event.after}"
    what = f"{escape(event.axis)}: {escape(change)}"
    if event.kind == "standing":
        what = f"<strong>{escape(change)}</strong>"
    elif event.kind == "amnesty":
        what = "amnesty"
    more = ""
    if event.remedy:
        until = f" by {_when(event.deadline_ms, now_ms)}" if event.deadline_ms else ""
        more += f'<br><span class="quiet">remedy{until}: {escape(event.remedy)}</span>'
    if event.evidence:
        more += f'<br><span class="quiet">evidence: <code>{escape(event.evidence)}</code></span>'
    return (
        f"<tr><td>{_stamp(event.at_ms)}</td><td>{what}</td>"
        f"<td>{escape(event.figure)} / {escape(event.threshold)}</td>"
        f'<td class="wrap">{escape(event.rule)}{more}</td></tr>'
    )


def _failed(checks: Sequence[FailedCheck], now_ms: int) -> str:
    if not checks:
        return ""
    rows = "".join(
        f"<tr><td>{_stamp(check.at_ms)}</td><td>{escape(check.axis)}</td><td>{check.slot}</td>"
        f"<td><code>{check.piece.hex() or '—'}</code></td><td>{escape(check.reason)}</td>"
        f'<td class="wrap">{escape(check.forgiven or check.evidence or "—")}</td></tr>'
        for check in checks[:FAILED_SHOWN_MAX]
    )
    more = len(checks) - FAILED_SHOWN_MAX
    note = f" (latest {FAILED_SHOWN_MAX} of {len(checks)})" if more > 0 else ""
    titles = ("When (UTC)", "Axis", "Slot", "Piece", "Reason", "Evidence, or why it is forgiven")
    return _table(f"Failed samples{note}", titles, rows)


# --- all of them ----------------------------------------------------------------------------------


def index_page(found: StandingList) -> bytes:
    """Return the page that lists providers."""
    rows = "".join(_row(node, found.time_ms) for node in found.nodes)
    more = ""
    if found.more:
        more = f'<p><a href="/providers?after={found.nodes[-1].alias}">More</a></p>'
    titles = ("Provider", "Standing", "Place", "Tier", "Online", "Reads", "p95", "Proof", "Notes")
    body = f"""
<header class="top"><h1>Providers</h1><p class="quiet">What each has proven, judged by stated rules.
Standings are recomputed from verdicts, presence and reads; nobody sets them by hand.</p></header>
{_table("", titles, rows) if rows else '<section class="card"><p>No node yet.</p></section>'}
{more}{_masses(found.forgiven)}
<footer><a href="/v1/providers">JSON</a>
<span>rules of profile {escape(found.profile)} · {_stamp(found.time_ms)} UTC</span></footer>"""
    return _document("Providers", body)


def _row(node: NodeStanding, now_ms: int) -> str:
    place = " ".join(part for part in (node.region, node.country) if part)
    proof = _ago(node.last_proof_ms, now_ms) if node.last_proof_ms else "—"
    online = f"{100 * node.online_share:.1f} %" if node.windows else "—"
    return (
        f'<tr><td><a href="/providers/{node.node_id.hex()}">{escape(node.operator)}</a> '
        f'<code class="quiet">{show_node(node.node_id)}</code></td>'
        f'<td><span class="state {escape(node.standing)}">{escape(node.standing)}</span></td>'
        f"<td>{escape(place)}</td><td>{escape(node.tier)}</td><td>{online}</td>"
        f"<td>{100 * node.success:.1f} %</td>"
        f"<td>{f'{node.p95_ms:.0f} ms' if node.p95_ms else '—'}</td><td>{proof}</td>"
        f'<td class="wrap">{escape(", ".join(node.warnings)) or "—"}</td></tr>'
    )


def _masses(masses: Sequence[MassFailure]) -> str:
    if not masses:
        return ""
    rows = "".join(
        f"<tr><td>{_stamp(mass.at_ms)}</td><td>{escape(mass.axis)}</td>"
        f"<td>{mass.operators_failed} of {mass.operators} operators</td>"
        f"<td>{escape(mass.reason)}</td></tr>"
        for mass in masses[:FORGIVEN_SHOWN_MAX]
    )
    return _table("Counted against nobody", ("When (UTC)", "Axis", "Failed", "Why"), rows)


# --- the frame ------------------------------------------------------------------------------------


def _table(title: str, heads: Sequence[str], rows: str) -> str:
    cells = "".join(f'<th scope="col">{head}</th>' for head in heads)
    heading = f"<h2>{title}</h2>" if title else ""
    return (
        f'<section class="card">{heading}<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _document(title: str, body: str) -> bytes:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)} · Atoll</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="stylesheet" href="/providers/page.css"></head><body><main>{body}</main>'
        "</body></html>"
    ).encode()


def _stamp(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


def _ago(time_ms: int, now_ms: int) -> str:
    seconds = max(0, now_ms - time_ms) / 1000
    return "now" if seconds < 3 else f"{show_seconds(seconds)} ago"


def _when(time_ms: int, now_ms: int) -> str:
    left = (time_ms - now_ms) / 1000
    ahead = f"in {show_seconds(left)}" if left > 0 else "passed"
    return f"{_stamp(time_ms)} UTC ({ahead})"
