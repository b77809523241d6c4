"""``atoll status``: the same facts as the live page, in the terminal."""

import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, table
from atoll.cli.places import cloud_folder, read_coordinator, read_running
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CloudStatus

if TYPE_CHECKING:
    from atoll.console.model import CloudView, Sample

TIMEOUT_S = 5.0
WATCH_S = 1.0
STATUS_BYTES_MAX = 16 << 20
HISTORY_SAMPLES_MAX = 120
_COLOURS = {"alive": "green", "suspect": "yellow", "dead": "red", "lost": "bright_black"}
_HEALTH_COLOURS = {
    "healthy": "green",
    "repairing": "yellow",
    "waiting": "yellow",
    "exposed": "red",
}
BAR_CELLS = 24
_HOME, _CLEAR = "\x1b[H", "\x1b[H\x1b[2J"
_LINE_END, _BELOW = "\x1b[K", "\x1b[J"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def ask_page(page: str) -> CloudStatus:
    """Return the status from a live page's URL. Blocks. Raises ``UNREACHABLE``."""
    try:
        # Only the folder's own note or the settings name this URL, and it is loopback.
        with urllib.request.urlopen(f"{page}status.json", timeout=TIMEOUT_S) as answer:  # noqa: S310
            body = answer.read(STATUS_BYTES_MAX)
        return msgspec.json.decode(body, type=CloudStatus)
    except (OSError, urllib.error.URLError, msgspec.MsgspecError, ValueError) as cause:
        raise AtollError(
            Kind.UNREACHABLE,
            "ask status",
            "the coordinator does not answer",
            hint="see whether it runs: `atoll up`, or `atoll coordinator run`",
            about=page,
        ) from cause


def fetch_status(folder: Path) -> CloudStatus:
    """Return the status of the cloud that runs in a folder. Blocks. Raises ``UNREACHABLE``."""
    running = read_running(folder)
    if running is None:
        raise AtollError(
            Kind.UNREACHABLE,
            "ask status",
            f"no cloud runs in {folder}",
            hint="start one with `atoll up`, or name another with --data",
        )
    return ask_page(running.page)


@click.command()
@data_option("Folder of the cloud. Default: that of `atoll up`.")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@json_option
def status(data: Path | None, watch: bool, as_json: bool) -> None:
    """Show nodes, objects, repair, and how many nodes may die now."""
    folder = cloud_folder(data)
    running = read_running(folder)
    page = running.page if running is not None else ""
    if not page:
        alone = read_coordinator(folder)
        if alone is None or not alone.page_port:
            fetch_status(folder)  # says that none runs
        else:
            page = f"http://127.0.0.1:{alone.page_port}/"
    if as_json:
        _emit_json(page, watch)
    elif watch and sys.stdout.isatty():
        _watch(page)
    else:
        click.echo(_text(page, []))


def _emit_json(page: str, watch: bool) -> None:
    while True:
        emit(as_builtins(ask_page(page)))
        if not watch:
            return
        time.sleep(WATCH_S)


def as_builtins(found: CloudStatus) -> dict[str, object]:
    """Return a status as JSON objects, ids in hex."""
    facts: dict[str, object] = msgspec.to_builtins(found, builtin_types=(bytes,), enc_hook=None)
    nodes = facts["nodes"]
    assert isinstance(nodes, list)
    for node in nodes:
        node["node_id"] = node["node_id"].hex()
    return facts


def _text(page: str, history: "list[Sample]") -> str:
    from atoll.console.rules import sample_of, view_of

    found = ask_page(page)
    history.append(sample_of(found))
    del history[:-HISTORY_SAMPLES_MAX]
    return "\n".join(lines_of(view_of(found, history), live=len(history) > 1))


def _watch(page: str) -> None:
    history: list[Sample] = []
    click.echo(f"{_HIDE_CURSOR}{_CLEAR}", nl=False)
    try:
        while True:
            try:
                text = _text(page, history)
            except AtollError as error:
                text = f"{error.message}; {error.hint}"
            # Written over what stands there, line by line: clearing first would flicker.
            click.echo(_HOME + text.replace("\n", f"{_LINE_END}\n") + _LINE_END + _BELOW, nl=False)
            sys.stdout.flush()
            time.sleep(WATCH_S)
    finally:
        click.echo(_SHOW_CURSOR)


def lines_of(view: "CloudView", *, live: bool) -> list[str]:
    """Return a view as lines of text."""
    health = paint(f"● {view.health.value}", fg=_HEALTH_COLOURS[view.health.value], bold=True)
    lines = [f"{health}  {paint(view.headline, bold=True)}"]
    if view.warning:
        lines.append(paint(view.warning, fg="yellow"))
    lines.append("")
    rows = [(paint(f.label, dim=True), f.value, paint(f.remark, dim=True)) for f in view.facts]
    repair = view.repair
    rows.append((paint("Repair", dim=True), repair.headline, paint(repair.detail, dim=True)))
    lines += table(rows)
    if repair.active:
        filled = round(BAR_CELLS * repair.percent / 100)
        bar = paint("█" * filled, fg="yellow") + paint("░" * (BAR_CELLS - filled), dim=True)
        lines.append(f"        {bar} {repair.percent:.0f} %")
    if live:
        rate = view.throughput
        lines.append(f"{paint('Traffic', dim=True)}  in {rate.put}, out {rate.get}")
    lines.append("")
    head = ("NODE", "ID", "STATE", "SEEN", "OPERATOR", "SITE", "PLACE", "TIER", "ADDRESS")
    titles = tuple(paint(title, dim=True) for title in (*head, "USED", "OF", "PIECES", "ERRORS"))
    nodes = [
        (
            str(n.number),
            paint(n.name, dim=True),
            paint(n.state, fg=_COLOURS.get(n.state, "white")) + (" full" if n.full else ""),
            n.seen,
            n.operator,
            n.site,
            n.place,
            n.tier,
            n.address,
            n.used,
            n.capacity,
            f"{n.pieces:,}",
            str(n.errors) if n.errors else "",
        )
        for n in view.nodes
    ]
    return lines + table([titles, *nodes], right=frozenset({0, 9, 10, 11, 12}))
