"""``atoll earnings``: what a provider's nodes have earned; the same figures as on the live page."""

import asyncio
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from atoll.cli.node.door import node_options
from atoll.cli.options import json_option
from atoll.cli.output import emit, paint, say, table
from atoll.cli.places import cloud_folder, read_coordinator, read_running
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import NodeId, show_node
from atoll.core.messages.payouts import (
    EARNING_DAYS_MAX,
    AllEarnings,
    EarningsDay,
    GetEarnings,
    GetStatement,
    NodeEarnings,
    StatementEntry,
    StatementPage,
)
from atoll.core.money import PICO_PER_EUR

if TYPE_CHECKING:
    from atoll.economy.payments.earnings import EarningsMovement

TIMEOUT_S = 5.0
PAGE_BYTES_MAX = 64 << 20
ASK_S, DRAW_S = 2.0, 0.2
"""While it is watched: how often it is asked, and drawn."""
DAYS_SHOWN = 7
_AGAIN, _LINE_END, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_BEGIN, _END = "\x1b[H\x1b[2J\x1b[?25l", "\x1b[?25h"


@dataclass(frozen=True, slots=True)
class Found:
    """Earnings and when, by the coordinator's clock, they were told."""

    time_ms: int
    nodes: tuple[NodeEarnings, ...]


@click.group(invoke_without_command=True)
@click.option(
    "--data",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="A node's folder, once for each node; or a cloud's or coordinator's: all of its nodes.",
)
@click.option(
    "--node", "number", type=click.IntRange(1, 250), help="Which node of a local cloud, by number."
)
@click.option(
    "--days",
    type=click.IntRange(0, EARNING_DAYS_MAX),
    default=DAYS_SHOWN,
    show_default=True,
    help="So many of the last days one by one.",
)
@click.option("--watch", is_flag=True, help="Show it growing until Ctrl-C.")
@json_option
@click.pass_context
def earnings(
    context: click.Context,
    folders: tuple[Path, ...],
    number: int | None,
    days: int,
    watch: bool,
    as_json: bool,
) -> None:
    """Show what nodes have earned: now, projected, held, paid; by node and day.

    "So far" is what storage and repair brought since the last settlement, as far as it is proven:
    at the end of the epoch it is settled by the same rules. A quarter of it is held back until
    enough is held; a graceful exit returns it.
    """
    if context.invoked_subcommand is not None:
        return
    source = source_of(folders, number)
    if as_json:
        emit(facts_of(source(days)))
    elif watch and sys.stdout.isatty():
        _watch(source)
    else:
        found = source(days)
        click.echo("\n".join(lines_of(found, found.time_ms)))


def source_of(folders: Sequence[Path], number: int | None) -> Callable[[int], Found]:
    """Return what asks for earnings of so many days. Raises ``CONFIG``, ``UNREACHABLE``."""
    from atoll.cli.node.ask import node_folder

    if number is not None:
        from atoll.cli.node.door import node_folder as numbered

        folder = numbered(folders[0] if folders else None, number)
        return lambda days: _of_nodes([folder], days)
    nodes = [folder for folder in (node_folder(one) for one in folders) if folder is not None]
    if nodes and len(nodes) == len(folders):
        return lambda days: _of_nodes(nodes, days)
    if nodes:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "show earnings",
            "some of the folders are no node's",
            hint="name nodes' folders, or one cloud's",
        )
    page = _page_of(folders[0] if folders else None)
    if not page and not folders:
        own = node_folder(None)
        if own is not None:
            return lambda days: _of_nodes([own], days)
    if not page:
        where = folders[0] if folders else cloud_folder(None)
        raise AtollError(
            Kind.UNREACHABLE,
            "show earnings",
            f"nothing that earns runs in {where}",
            hint="name a node's folder with --data, or start a cloud with `atoll up`",
        )
    return lambda days: _of_page(page, days)


def _page_of(data: Path | None) -> str:
    folder = cloud_folder(data)
    running = read_running(folder)
    if running is not None:
        return running.page
    alone = read_coordinator(folder)
    return f"http://127.0.0.1:{alone.page_port}/" if alone and alone.page_port else ""


def _of_nodes(folders: Sequence[Path], days: int) -> Found:
    from atoll.cli.node.ask import ask_as_node

    async def ask() -> list[NodeEarnings]:
        return [
            await ask_as_node(folder, GetEarnings(days=days), NodeEarnings) for folder in folders
        ]

    nodes = asyncio.run(ask())
    return Found(max((one.told_ms for one in nodes), default=0), tuple(nodes))


def _of_page(page: str, days: int) -> Found:
    url = f"{page}earnings.json?days={days}"
    try:
        # Only the folder's own note or the settings name this URL, and it is loopback.
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310
            body = answer.read(PAGE_BYTES_MAX)
        found = msgspec.json.decode(body, type=AllEarnings)
    except urllib.error.HTTPError as refused:
        raise AtollError(
            Kind.NOT_IMPLEMENTED,
            "show earnings",
            "this coordinator settles nothing",
            hint="set coordinator.epoch_s and start it again",
        ) from refused
    except (OSError, msgspec.MsgspecError, ValueError) as cause:
        raise AtollError(
            Kind.UNREACHABLE,
            "show earnings",
            "the coordinator does not answer",
            hint="see whether it runs: `atoll up`, or `atoll coordinator run`",
            about=page,
        ) from cause
    return Found(found.time_ms, tuple(found.nodes))


# --- how it is told ------------------------------------------------------------------------------


def facts_of(found: Found) -> dict[str, Any]:
    """Return earnings as JSON shows them; picos exact."""
    nodes = []
    for one in found.nodes:
        facts: dict[str, Any] = msgspec.to_builtins(one, builtin_types=(bytes,))
        facts.pop("type", None)
        facts["node_id"] = one.node_id.hex()
        facts["earned_pico"] = one.earned_by(found.time_ms)
        for day in facts["days"]:
            day.pop("type", None)
        nodes.append(facts)
    names = (
        "earned_pico", "now_pico", "month_pico", "settled_pico", "held_pico", "credited_pico",
        "released_pico", "due_pico", "sent_pico", "paid_pico",
    )  # fmt: skip
    total = {name: sum(facts[name] for facts in nodes) for name in names}
    return {"time_ms": found.time_ms, "nodes": nodes, "total": total}


def lines_of(found: Found, now_ms: int) -> list[str]:
    """Return earnings as people read them. Pure."""
    if not found.nodes:
        return ["no node is registered yet"]
    head = ["node", "earned", "so far", "a month", "held", "due", "on its way", "paid", "proven"]
    rows = [[paint(name, bold=True) for name in head]]
    rows += [_row(one, now_ms) for one in found.nodes]
    if len(found.nodes) > 1:
        rows.append(_total(found.nodes, now_ms))
    lines = table(rows, right=frozenset(range(1, len(head))))
    factor = max(one.time_factor for one in found.nodes)
    lines.append("EUR; so far: since the last settlement; a month: with what is stored now")
    if factor > 1:
        lines.append(paint(f"a demonstration: time counts {factor:,} times", fg="yellow"))
    for problem in dict.fromkeys(one.problem for one in found.nodes if one.problem):
        lines.append(paint(f"not paid out: {problem}", fg="yellow"))
    days = _days(found.nodes)
    if days:
        lines += ["", *table(days, right=frozenset(range(1, 6)))]
    return lines


def _row(one: NodeEarnings, now_ms: int) -> list[str]:
    return [
        show_node(NodeId(one.node_id)),
        euros(one.earned_by(now_ms)),
        euros(one.now_pico),
        euros(one.month_pico),
        euros(one.held_pico),
        euros(one.due_pico),
        euros(one.sent_pico),
        euros(one.paid_pico),
        f"{one.proven_bps / 100:.4g} %",
    ]


def _total(nodes: Sequence[NodeEarnings], now_ms: int) -> list[str]:
    figures = (
        sum(one.earned_by(now_ms) for one in nodes),
        sum(one.now_pico for one in nodes),
        sum(one.month_pico for one in nodes),
        sum(one.held_pico for one in nodes),
        sum(one.due_pico for one in nodes),
        sum(one.sent_pico for one in nodes),
        sum(one.paid_pico for one in nodes),
    )
    return ["together", *(euros(one) for one in figures), ""]


def _days(nodes: Sequence[NodeEarnings]) -> list[list[str]]:
    """Return the days of all nodes together, newest first."""
    by_day: dict[str, list[EarningsDay]] = {}
    for node in nodes:
        for day in node.days:
            by_day.setdefault(day.day, []).append(day)
    if not by_day:
        return []
    head = ["day", "earned", "for repair", "slashed", "held", "on own storage", "released"]
    rows = [[paint(name, bold=True) for name in head]]
    for name in sorted(by_day, reverse=True):
        some = by_day[name]
        rows.append(
            [
                name,
                euros(sum(one.earned_pico + one.top_up_pico for one in some)),
                euros(sum(one.repair_pico for one in some)),
                euros(sum(one.slashed_pico for one in some)),
                euros(sum(one.held_pico for one in some)),
                euros(sum(one.credited_pico for one in some)),
                euros(sum(one.released_pico for one in some)),
            ]
        )
    return rows


def euros(pico: int) -> str:
    """Write an amount for reading: to 1e-7 EUR, rounded towards nothing; exact in JSON."""
    whole, rest = divmod(abs(pico), PICO_PER_EUR)
    return f"{'-' if pico < 0 else ''}{whole:,}.{rest // 100_000:07}"


def _watch(source: Callable[[int], Found]) -> None:
    click.echo(_BEGIN, nl=False)
    try:
        while True:
            found, asked = source(DAYS_SHOWN), time.monotonic()
            while (passed := time.monotonic() - asked) < ASK_S:
                lines = lines_of(found, found.time_ms + int(passed * 1000))
                click.echo(
                    _AGAIN + "".join(f"{one}{_LINE_END}\n" for one in lines) + _BELOW, nl=False
                )
                time.sleep(DRAW_S)
    except KeyboardInterrupt:
        say()
    finally:
        click.echo(_END, nl=False)


# --- the statement -------------------------------------------------------------------------------


@earnings.command()
@node_options
@click.option("--csv", "as_csv", is_flag=True, help="As CSV (RFC 4180), the usual.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Into this file.")
@json_option
def statement(
    data: Path | None, number: int | None, as_csv: bool, out: Path | None, as_json: bool
) -> None:
    """Write a node's receipts and payments with the cost basis of each.

    Every receipt counts with its euro value at that time; what leaves takes from the oldest
    receipts (FIFO). Which method holds for your taxes is yours to know.
    """
    from atoll.cli.node.door import node_folder as folder_of
    from atoll.economy.payments.earnings import csv_of

    if as_csv and as_json:
        raise AtollError(Kind.BAD_REQUEST, "write statement", "CSV or JSON: not both")
    movements = movements_of(*_statement_of(folder_of(data, number)))
    if as_json:
        for one in movements:
            emit(
                {
                    "time_ms": one.time_ms,
                    "kind": one.kind,
                    "amount_pico": one.units,
                    "evidence": one.evidence,
                }
            )
        return
    text = csv_of(movements)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_bytes(text.encode())
        say(f"{len(movements)} movements in {out}")


def _statement_of(folder: Path) -> tuple[list[StatementEntry], list[EarningsDay]]:
    """Ask for all of a node's statement, page by page."""
    from atoll.cli.node.ask import ask_as_node

    async def ask() -> tuple[list[StatementEntry], list[EarningsDay]]:
        entries: list[StatementEntry] = []
        days: list[EarningsDay] = []
        while True:
            after = entries[-1].number if entries else 0
            page = await ask_as_node(folder, GetStatement(after=after), StatementPage)
            entries += page.entries
            days += page.days
            if not page.more or not page.entries:
                return entries, days

    return asyncio.run(ask())


def movements_of(
    entries: Sequence[StatementEntry], days: Sequence[EarningsDay]
) -> "list[EarningsMovement]":
    """Return a statement's movements in the order of time. Pure.

    What was spent on own storage was received and left at once, at the end of its day.
    """
    from atoll.economy.payments.earnings import Asset, EarningsMovement

    euro = Asset("EUR", 12)

    def movement(time_ms: int, kind: str, pico: int, evidence: str) -> EarningsMovement:
        return EarningsMovement(time_ms, kind, euro, pico, abs(pico), evidence)

    found = [movement(one.time_ms, one.kind, one.amount_pico, one.evidence) for one in entries]
    for day in days:
        if not day.credited_pico:
            continue
        end = datetime.fromisoformat(day.day).replace(tzinfo=UTC) + timedelta(days=1)
        end_ms = int(end.timestamp() * 1000) - 1
        found.append(movement(end_ms, "epoch", day.credited_pico, day.day))
        found.append(movement(end_ms, "own storage", -day.credited_pico, day.day))
    return sorted(found, key=lambda one: one.time_ms)
