"""``atoll node health``: what is thought of a node, by which rule, and what to do about it."""

import asyncio
import shutil
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.node.ask import ask_as_node, node_folder
from atoll.cli.node.coordinator import coordinator_of
from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, table
from atoll.cli.places import (
    cloud_folder,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import show_node
from atoll.core.messages.reputation import (
    AskHealth,
    AxisHealth,
    FailedCheck,
    GetNodeHealth,
    ListStandings,
    NodeHealth,
    NodeStanding,
    StandingEvent,
    StandingList,
)
from atoll.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from atoll.core.messages import ControlPlane

LISTED_MAX = 100_000
FAILED_SHOWN_MAX = 50
HISTORY_SHOWN_MAX = 20
BAR_CELLS = 20
WIDTH_MIN, WIDTH_MAX = 60, 110
INDENT = "  "
STANDING_COLOURS = {
    "trusted": "green",
    "vetted": "green",
    "unvetted": "cyan",
    "exiting": "cyan",
    "suspect": "yellow",
    "suspended": "red",
    "disqualified": "red",
}
_LEVEL_COLOURS = {
    "fine": "green",
    "unknown": "bright_black",
    "warning": "yellow",
    "suspect": "yellow",
    "breach": "red",
}
_NAMES = {"answers": "proofs answered", "capacity": "capacity told truly", "lifecycle": "vetting"}


@click.command()
@click.argument("node", required=False)
@data_option("A node's folder, or the cloud's with NODE or --all. Default: XDG data folders.")
@click.option("--all", "everybody", is_flag=True, help="All nodes of the cloud, in short.")
@json_option
def health(node: str | None, data: Path | None, everybody: bool, as_json: bool) -> None:
    """Show how a node stands: per axis the rule, figure, threshold, margin, deadline and remedy.

    In a node's folder (--data) it asks with that node's own key. A cloud's owner names the NODE by
    its number, alias, name (n-…) or operator, or asks for --all.
    """
    if node is None and not everybody:
        folder = node_folder(data)
        if folder is not None:
            found = asyncio.run(ask_as_node(folder, AskHealth(), NodeHealth))
            _show(found, as_json)
            return
    folder = cloud_folder(data)
    if node is None:
        listing = asyncio.run(ask_all(folder))
        if as_json:
            emit(_plain(listing))
        else:
            click.echo("\n".join(listing_lines(listing)))
        return
    _show(asyncio.run(_ask_one(folder, node)), as_json)


def _show(found: NodeHealth, as_json: bool) -> None:
    if as_json:
        emit(_plain(found))
    else:
        click.echo("\n".join(lines_of(found, width())))


def _plain(found: NodeHealth | StandingList) -> Any:
    from atoll.coordinator.reputation.page import plain

    return plain(found)


# --- whom to ask ----------------------------------------------------------------------------------


async def _listing(control: "ControlPlane") -> StandingList:
    found = await control.ask(ListStandings(), StandingList)
    nodes, more = list(found.nodes), found.more
    while more and len(nodes) < LISTED_MAX:
        page = await control.ask(ListStandings(after=nodes[-1].alias), StandingList)
        nodes += page.nodes
        more = page.more
    return StandingList(
        time_ms=found.time_ms,
        profile=found.profile,
        nodes=nodes,
        more=more,
        forgiven=found.forgiven,
    )


async def ask_all(folder: Path) -> StandingList:
    """Return the standings of the nodes of the cloud that runs in a folder."""
    from atoll.client.remote import RemoteControl
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.transport import HttpPieceTransport

    address, identity = coordinator_of(folder, "ask health")
    transport = HttpPieceTransport()
    try:
        return await _listing(RemoteControl(transport, [address], identity, SystemClock()))
    finally:
        await transport.close()


async def _ask_one(folder: Path, name: str) -> NodeHealth:
    from atoll.client.remote import RemoteControl
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.transport import HttpPieceTransport

    address, identity = coordinator_of(folder, "ask health")
    transport = HttpPieceTransport()
    try:
        control = RemoteControl(transport, [address], identity, SystemClock())
        alias = chosen(await _listing(control), name)
        return await control.ask(GetNodeHealth(alias=alias), NodeHealth)
    finally:
        await transport.close()


def chosen(listing: StandingList, name: str) -> int:
    """Return the alias of the node that a name means. Raises ``NOT_FOUND``, ``BAD_REQUEST``."""
    wanted = name.lower()
    exact = [n for n in listing.nodes if n.operator.lower() in (wanted, f"operator-{wanted}")]
    if wanted.isdigit() and not exact:
        exact = [n for n in listing.nodes if n.alias == int(wanted)]
    wanted = wanted.removeprefix("n-")
    found = exact or [n for n in listing.nodes if len(wanted) >= 4 and _named(n, wanted)]
    if not found:
        raise AtollError(
            Kind.NOT_FOUND,
            "ask health",
            f"no node is called {name!r} here",
            hint="`atoll node health --all` lists them",
        )
    if len(found) > 1:
        names = ", ".join(show_node(n.node_id) for n in found[:5])
        raise AtollError(
            Kind.BAD_REQUEST,
            "ask health",
            f"{name!r} may be any of {len(found)} nodes: {names}",
            hint="name it by its id",
        )
    return found[0].alias


def _named(node: NodeStanding, wanted: str) -> bool:
    return node.node_id.hex().startswith(wanted)


# --- how it looks ---------------------------------------------------------------------------------


def width() -> int:
    """Return the width to write for."""
    return max(WIDTH_MIN, min(WIDTH_MAX, shutil.get_terminal_size((100, 24)).columns))


def lines_of(found: NodeHealth, columns: int) -> list[str]:
    """Return a node's health as lines of text."""
    now_ms = found.time_ms
    colour = STANDING_COLOURS.get(found.standing, "white")
    place = " ".join(part for part in (found.region, found.country) if part)
    head = f"{paint(f'● {found.standing}', fg=colour, bold=True)}  "
    lines = [
        head + paint(found.operator, bold=True) + f"  {paint(show_node(found.node_id), dim=True)}"
        f"  {place}, tier {found.tier}"
    ]
    lines += _wrapped(f"It {found.meaning}.", columns, "")
    if found.deadline_ms:
        lines.append(paint(f"Deadline: {_when(found.deadline_ms, now_ms)}", fg="red", bold=True))
    seen = f"{found.state}, seen {_ago(found.last_seen_ms, now_ms)}"
    proof = _ago(found.last_proof_ms, now_ms) if found.last_proof_ms else "none yet"
    samples = f"{found.samples_passed:,} samples passed, {found.samples_failed:,} failed"
    since = f"{found.standing} since {_stamp(found.since_ms)}"
    about = f"{seen} · {since} · latest proof {proof} · {samples}"
    lines += _wrapped(about, columns, "", dim=True)
    for axis in found.axes:
        lines += ["", *_axis_lines(axis, now_ms, columns)]
    if found.speeds:
        lines += ["", paint("SPEED BY REGION", dim=True)]
        lines += table(
            [
                (
                    f"{INDENT}{speed.region or 'here'}",
                    f"p50 {speed.p50_ms:.1f} ms" if speed.p50_ms else "",
                    f"p95 {speed.p95_ms:.1f} ms" if speed.p95_ms else "",
                    f"{show_bytes(round(speed.bytes_per_s))}/s" if speed.bytes_per_s else "",
                    f"{speed.reads:,} reads",
                )
                for speed in found.speeds
            ]
        )
    return lines + _failed_lines(found.failed) + _history_lines(found.history, now_ms, columns)


def _axis_lines(axis: AxisHealth, now_ms: int, columns: int) -> list[str]:
    colour = _LEVEL_COLOURS.get(axis.level, "white")
    name = paint(_NAMES.get(axis.axis, axis.axis).upper(), bold=True)
    lines = [f"{name}  {paint(axis.level, fg=colour)}"]
    figure = f"{INDENT}{axis.figure}   {paint(f'threshold {axis.threshold}', dim=True)}"
    if axis.axis != "lifecycle":
        filled = round(BAR_CELLS * min(1.0, max(0.0, axis.used)))
        bar = paint("█" * filled, fg=colour) + paint("░" * (BAR_CELLS - filled), dim=True)
        figure = f"{INDENT}{bar} {axis.figure}   {paint(f'threshold {axis.threshold}', dim=True)}"
    lines.append(figure)
    if axis.margin:
        lines.append(f"{INDENT}margin: {axis.margin}")
    lines += _wrapped(f"rule: {axis.rule}; {axis.window}", columns, INDENT, dim=True)
    if axis.remedy:
        until = f" by {_when(axis.deadline_ms, now_ms)}" if axis.deadline_ms else ""
        lines += _wrapped(f"remedy{until}: {axis.remedy}", columns, INDENT, fg=colour)
    return lines


def _failed_lines(checks: Sequence[FailedCheck]) -> list[str]:
    if not checks:
        return ["", paint("FAILED SAMPLES  none", dim=True)]
    shown = checks[:FAILED_SHOWN_MAX]
    more = f" (latest {len(shown)} of {len(checks)}; --json has all)" * (len(checks) > len(shown))
    titles = ("WHEN", "AXIS", "SLOT", "PIECE", "REASON", "EVIDENCE, OR WHY IT IS FORGIVEN")
    rows = [tuple(paint(INDENT * (not i) + t, dim=True) for i, t in enumerate(titles))]
    rows += [
        (
            INDENT + _stamp(check.at_ms),
            check.axis,
            str(check.slot),
            check.piece.hex() or "—",
            check.reason or "—",
            paint(f"forgiven: {check.forgiven}", fg="green") if check.forgiven else check.evidence,
        )
        for check in shown
    ]
    return ["", paint(f"FAILED SAMPLES{more}", bold=True), *table(rows)]


def _history_lines(events: Sequence[StandingEvent], now_ms: int, columns: int) -> list[str]:
    if not events:
        return []
    lines = ["", paint("HISTORY", bold=True)]
    for event in events[:HISTORY_SHOWN_MAX]:
        change = event.after if event.before == event.after else f"{event.before} → {event.after}"
        what = change if event.kind == "standing" else f"{event.kind}, {event.axis}: {change}"
        text = f"{_stamp(event.at_ms)}  {what}: {event.figure} against {event.threshold}"
        lines += _wrapped(text, columns, INDENT)
        if event.remedy:
            until = f" by {_when(event.deadline_ms, now_ms)}" if event.deadline_ms else ""
            lines += _wrapped(f"remedy{until}: {event.remedy}", columns, INDENT * 3, dim=True)
        if event.evidence:
            lines += _wrapped(f"evidence: {event.evidence}", columns, INDENT * 3, dim=True)
    return lines


def listing_lines(found: StandingList) -> list[str]:
    """Return all nodes as a table."""
    heads = ("NODE", "OPERATOR", "STANDING", "STATE", "PLACE", "TIER")
    figures = ("ONLINE", "POSSESSION", "READS", "P95", "PROOF", "NOTES")
    rows = [tuple(paint(head, dim=True) for head in (*heads, *figures))]
    rows += [
        (
            show_node(node.node_id),
            node.operator,
            paint(node.standing, fg=STANDING_COLOURS.get(node.standing, "white")),
            node.state,
            " ".join(part for part in (node.region, node.country) if part),
            node.tier,
            f"{100 * node.online_share:.1f} %" if node.windows else "—",
            f"{node.possession:+.2f}" if node.samples_passed + node.samples_failed else "—",
            f"{100 * node.success:.1f} %",
            f"{node.p95_ms:.0f} ms" if node.p95_ms else "—",
            _ago(node.last_proof_ms, found.time_ms) if node.last_proof_ms else "—",
            ", ".join(node.warnings),
        )
        for node in found.nodes
    ]
    lines = table(rows, right=frozenset({6, 7, 8, 9}))
    if found.forgiven:
        lines += ["", paint("COUNTED AGAINST NOBODY", dim=True)]
        lines += [
            f"{INDENT}{_stamp(mass.at_ms)}  {mass.axis}: {mass.operators_failed} of "
            f"{mass.operators} operators failed at once ({mass.reason})"
            for mass in found.forgiven[:5]
        ]
    return lines


def _wrapped(text: str, columns: int, indent: str, **style: Any) -> list[str]:
    lines = textwrap.wrap(
        text, columns, initial_indent=indent, subsequent_indent=f"{indent}  " if indent else ""
    )
    return [paint(line, **style) for line in lines]


def _stamp(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _ago(time_ms: int, now_ms: int) -> str:
    seconds = max(0, now_ms - time_ms) / 1000
    return "now" if seconds < 3 else f"{show_seconds(seconds)} ago"


def _when(time_ms: int, now_ms: int) -> str:
    left = (time_ms - now_ms) / 1000
    return f"{_stamp(time_ms)} UTC ({f'in {show_seconds(left)}' if left > 0 else 'passed'})"
