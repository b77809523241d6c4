"""How a node's terms are told, for people and as JSON."""

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from atoll.cli.output import paint, table
from atoll.core.ids import NodeId, show_node
from atoll.core.messages.terms import MoveProgress, TermsShown
from atoll.core.units import show_bytes, show_seconds

WORDS = {"evacuate": "evacuating", "exit": "leaving", "shrink": "shrinking"}
_PRESSURE = ("calm", "less background work", "least background work", "transfers slowed down")


def facts_of(shown: TermsShown) -> dict[str, Any]:
    """Return the terms as JSON shows them."""
    facts: dict[str, Any] = msgspec.to_builtins(shown, builtin_types=(bytes,))
    facts.pop("type", None)
    facts["node_id"] = shown.node_id.hex()
    facts["statements"] = [one.hex() for one in shown.statements]
    for name in ("terms", "progress", "pressure"):
        facts[name].pop("type", None)
    facts["progress"]["percent"] = percent_of(shown.progress)
    facts["progress"]["left_s"] = left_s_of(shown.progress)
    return facts


def lines_of(shown: TermsShown) -> list[str]:
    """Return the terms as people read them."""
    terms = shown.terms
    mark = {name: " *" for name in shown.changed}

    def row(label: str, name: str, value: str) -> list[str]:
        return [label, value + mark.get(name, "")]

    line, month = terms.bandwidth_bytes_per_s, terms.traffic_bytes_month
    rows = [
        ["node", show_node(NodeId(shown.node_id))],
        row("capacity", "capacity_bytes", _capacity(shown)),
        ["holds", f"{shown.pieces} pieces, {show_bytes(shown.used_bytes)}"],
        row("line", "bandwidth_bytes_per_s", f"{show_bytes(line)}/s" if line else "no limit"),
        row("traffic", "traffic_bytes_month", _traffic(shown, month)),
        row("price", "price_micro", f"{terms.price_micro / 1e6:.6f} EUR per TB and month"),
        row("calendar", "calendar", terms.calendar or "always online"),
        ["now", _online(shown)],
        row("tier", "tier", terms.tier),
        row("place", "country", f"{terms.site}, {terms.region}, {terms.country}"),
        ["machine", _pressure(shown)],
        ["new pieces", f"refused: {shown.refuses}" if shown.refuses else "welcome"],
    ]
    lines = table(rows)
    if shown.changed:
        lines.append("* set live; `atoll node set --reset NAME` goes back to the folder's setting")
    if shown.progress.reason:
        lines += ["", progress_line(shown.progress)]
    return lines


def _capacity(shown: TermsShown) -> str:
    offered, now = shown.terms.capacity_bytes, shown.effective_capacity_bytes
    text = show_bytes(offered)
    return text if now >= offered else f"{text}, {show_bytes(now)} now: the disk fills up"


def _traffic(shown: TermsShown, month: int) -> str:
    used = f"{show_bytes(shown.month_bytes)} in {shown.month}"
    return f"{used}, of {show_bytes(month)}" if month else f"{used}, no limit"


def _online(shown: TermsShown) -> str:
    text = "online by the calendar" if shown.online else "offline by the calendar"
    if not shown.next_change_ms:
        return text
    moment = datetime.fromtimestamp(shown.next_change_ms / 1000, UTC).astimezone()
    return f"{text} until {moment:%a %Y-%m-%d %H:%M %Z}"


def _pressure(shown: TermsShown) -> str:
    seen = shown.pressure
    if not seen.known:
        return "tells nothing of its pressure"
    figures = f"cpu {seen.cpu_percent:.0f} %, io {seen.io_percent:.0f} %, "
    return f"{figures}memory {seen.memory_percent:.0f} %: {_PRESSURE[seen.level]}"


# --- progress ------------------------------------------------------------------------------------


def percent_of(progress: MoveProgress) -> int:
    """Return how much is moved, in whole percent; 100 only when it is done."""
    if progress.state == "done" or not progress.reason:
        return 100
    total = max(1, progress.total_bytes)
    return min(99, max(0, (total - progress.left_bytes) * 100 // total))


def left_s_of(progress: MoveProgress) -> int | None:
    """Return the seconds left at the pace of now; None where nothing moves."""
    if progress.left_bytes <= 0:
        return 0
    return progress.left_bytes // progress.bytes_per_s if progress.bytes_per_s else None


def progress_line(progress: MoveProgress) -> str:
    """Return one line about moving pieces away."""
    if not progress.reason:
        return "nothing is to be moved"
    if progress.state == "done":
        return paint("it has left: every coordinator confirmed that nothing is there", fg="green")
    left_s = left_s_of(progress)
    parts = [
        f"{WORDS[progress.reason]}: {percent_of(progress)} %",
        f"{show_bytes(progress.left_bytes)} left ({progress.left_pieces} pieces)",
        f"{show_bytes(progress.bytes_per_s)}/s",
    ]
    if left_s is not None:
        parts.append(f"{show_seconds(left_s)} to go")
    if progress.detail:
        parts.append(progress.detail)
    return ", ".join(parts)


def wait(seconds: float) -> None:
    """Let time pass between two looks."""
    time.sleep(seconds)
