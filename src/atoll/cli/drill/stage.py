"""What every drill stands on: a cloud, customers at work, orders to its processes, a report."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from atoll.cli.drill.report import Check, Moment, Report
from atoll.cli.drill.workload import Workload
from atoll.cli.local_cloud import LocalCloud
from atoll.cli.options import data_option, json_option
from atoll.cli.places import DATABASE, find_running
from atoll.cli.status import fetch_status
from atoll.client import AsyncClient
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CloudStatus, NodeStatus
from atoll.core.units import show_bytes
from atoll.runtime.control import send_order
from atoll.runtime.supervisor import ChildFacts

NODES = 12
POLL_S = 0.5
HEAL_S_MAX = 300.0
VICTIM_TRIES_MAX = 5_000
"""Choices of victims that are tried for one that leaves every object readable."""
STATUS_TRIES = 40
PAGE = 500


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What all drills can be told."""

    data: Path | None
    nodes: int
    seconds: float
    clients: int
    objects: int
    seed: int
    report: Path | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class Holders:
    """A segment as far as it matters who holds it."""

    k: int
    n: int
    piece_bytes: int
    aliases: frozenset[int]


@dataclass
class Stage:
    """A drill under way."""

    folder: Path
    workload: Workload
    report: Report
    options: DrillOptions
    chance: random.Random
    client: AsyncClient
    """The cloud's owner."""
    facts: dict[str, Any]
    """What a cloud of its own said when it was ready; empty for one that ran before."""
    began: float = field(default_factory=time.monotonic)

    # --- what is said ---

    def note(self, text: str) -> None:
        """Say what happens now; it goes into the timeline."""
        at_s = time.monotonic() - self.began
        self.report.timeline.append(Moment(round(at_s, 1), text))
        if self.options.as_json:
            click.echo(json.dumps({"event": "note", "at_s": round(at_s, 1), "text": text}))
        else:
            click.echo(f"  {_paint(f'{at_s:6.1f} s', '2')}  {text}")

    def check(self, held: bool, text: str) -> None:
        """Record and say whether something that had to hold held."""
        self.report.checks.append(Check(held, text))
        if self.options.as_json:
            click.echo(json.dumps({"event": "check", "held": held, "text": text}))
        else:
            mark = _paint("✓", "32") if held else _paint("✗ FAILED:", "31;1")
            click.echo(f"           {mark} {text}")

    # --- what is done ---

    async def order(self, do: str, name: str) -> list[ChildFacts]:
        """Send the supervisor an order."""
        return await asyncio.to_thread(send_order, self.folder, do, name)

    async def children(self, kind: str) -> list[str]:
        """Return the names of the cloud's processes of a kind (``node``, ``gateway``, …)."""
        facts = await asyncio.to_thread(send_order, self.folder, "facts")
        return [child.name for child in facts if child.name.startswith(kind)]

    async def status(self) -> CloudStatus:
        """Ask the cloud how it is; a coordinator that is being restarted gets some time."""
        for attempt in range(STATUS_TRIES):
            try:
                return await asyncio.to_thread(fetch_status, self.folder)
            except AtollError:
                if attempt == STATUS_TRIES - 1:
                    raise
                await asyncio.sleep(POLL_S)
        raise AssertionError("the last try returned or raised")

    async def choose(self, count: int) -> list[NodeStatus]:
        """Choose nodes at random whose death leaves every object readable.

        Says how many blind choices would not have. Raises ``TOO_FEW_NODES``.
        """
        status, segments = await self.status(), await self.holders()
        alive = [node for node in status.nodes if node.state == "alive"]
        for tried in range(VICTIM_TRIES_MAX):
            victims = self.chance.sample(alive, min(count, len(alive)))
            gone = {node.alias for node in victims}
            if all(len(one.aliases - gone) >= one.k for one in segments):
                self.report.figures["blind choices that would have hidden some object"] = tried
                return victims
        raise AtollError(
            Kind.TOO_FEW_NODES,
            "choose victims",
            f"no {count} of {len(alive)} nodes can die with every object readable",
            hint="kill fewer, or run more nodes",
        )

    async def holders(self) -> list[Holders]:
        """Return who holds each segment now, from the cloud's own database."""
        from atoll.coordinator.metadata.model import StoredSegment
        from atoll.coordinator.metadata.store.segments import segments_after
        from atoll.runtime.database import SqlDatabase

        database = SqlDatabase(f"sqlite:///{self.folder / DATABASE}")
        found: list[StoredSegment] = []
        try:
            while True:
                after = found[-1].serial if found else 0
                page = await database.read(partial(segments_after, after=after, limit=PAGE))
                found += page
                if len(page) < PAGE:
                    break
        finally:
            await database.close()
        return [
            Holders(s.k, s.n, s.layout.piece_bytes, frozenset(piece.alias for piece in s.pieces))
            for s in found
        ]

    async def heal(self, dead: int = 0, seconds_max: float = HEAL_S_MAX) -> bool:
        """Let the customers stop, then wait until every segment has all its pieces.

        New objects are acknowledged below full strength and filled up later: under load some always
        are.
        """
        await self.workload.stop()
        until = time.monotonic() + seconds_max
        told = time.monotonic()
        while time.monotonic() < until:
            status = await self.status()
            gone = sum(node.state in ("dead", "lost") for node in status.nodes)
            silent = sum(node.state == "suspect" for node in status.nodes)
            if gone >= dead and not silent and not status.repair.segments_degraded:
                return True
            if time.monotonic() - told > 5:
                told = time.monotonic()
                self.note(
                    f"{status.repair.segments_degraded} segments below full strength, "
                    f"{gone} nodes dead, {silent} silent"
                )
            await asyncio.sleep(POLL_S)
        return False

    async def settle(self) -> None:
        """Stop the customers, read everything once more, and judge what they saw."""
        await self.workload.stop()
        ledger = self.workload.ledger
        during_failed, during_wrong = ledger.failed, ledger.wrong
        operations = sum(ledger.counts.values()) + during_failed
        self.check(
            during_failed == 0,
            f"{during_failed} of {operations} operations failed after the client's retries"
            + (f"; first: {ledger.failures[0]}" if during_failed else ""),
        )
        self.check(during_wrong == 0, f"{during_wrong} reads returned bytes that nobody wrote")
        wrong = await self.workload.verify()
        total = len(ledger.allowed)
        self.check(
            not wrong,
            f"{total - len(wrong)} of {total} objects are what was acknowledged"
            + (f"; wrong: {', '.join(wrong[:3])}" if wrong else ""),
        )
        self.report.figures["operations"] = dict(ledger.counts)
        self.report.figures["latency in ms, faults included"] = ledger.quantiles_ms()


def _paint(text: str, code: str) -> str:
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


Play = Callable[[Stage], Awaitable[None]]


Command = Callable[..., Any]


def drill_options(nodes: int = NODES) -> Callable[[Command], Command]:
    """Return what adds the options that all drills share; ``nodes`` is how many suit this one."""

    def add(function: Command) -> Command:
        return _with_options(function, nodes)

    return add


def _with_options(function: Command, nodes: int) -> Command:
    for option in reversed(
        (
            data_option("Break the cloud that runs in this folder. Default: one of its own."),
            click.option(
                "--nodes",
                type=click.IntRange(5, 250),
                default=nodes,
                show_default=True,
                help="Nodes of a cloud of its own.",
            ),
            click.option(
                "--seconds",
                type=click.FloatRange(1, 86_400),
                default=20.0,
                show_default=True,
                help="How long the fault lasts.",
            ),
            click.option(
                "--clients",
                type=click.IntRange(1, 64),
                default=4,
                show_default=True,
                help="Customers at work meanwhile.",
            ),
            click.option(
                "--objects",
                type=click.IntRange(0, 100_000),
                default=150,
                show_default=True,
                help="Objects stored before the fault.",
            ),
            click.option("--seed", type=int, default=None, help="Repeat a drill's choices."),
            click.option(
                "--report",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write the report to this file (Markdown; .json for JSON).",
            ),
            json_option,
        )
    ):
        function = option(function)
    return function


def options_of(values: dict[str, Any]) -> DrillOptions:
    """Return the shared options of a command's values, which lose them."""
    seed = values.pop("seed")
    return DrillOptions(
        data=values.pop("data"),
        nodes=values.pop("nodes"),
        seconds=values.pop("seconds"),
        clients=values.pop("clients"),
        objects=values.pop("objects"),
        seed=int.from_bytes(os.urandom(4)) if seed is None else seed,
        report=values.pop("report"),
        as_json=values.pop("as_json"),
    )


def play(
    name: str,
    about: str,
    options: DrillOptions,
    drill: Play,
    *flags: str,
    environment: dict[str, str] | None = None,
) -> int:
    """Run a drill on its cloud; write the report; return the exit status.

    ``flags`` and ``environment`` are for a cloud of its own.
    """
    report = Report(name, about, time.time_ns() // 1_000_000)
    with ExitStack() as stack:
        if options.data is None:
            if not options.as_json:
                click.echo(f"starting a cloud of {options.nodes} nodes …")
            size = ("--nodes", str(options.nodes), "--port", "0")
            cloud = LocalCloud("--ephemeral", *size, *flags, environment=environment)
            stack.enter_context(cloud)
            folder, facts = Path(str(cloud.facts["data"])), cloud.facts
        else:
            folder, facts = find_running(options.data).folder, {}
        asyncio.run(_play(report, folder, options, drill, facts))
    _tell(report, options)
    return 0 if report.passed else 1


async def _play(
    report: Report, folder: Path, options: DrillOptions, drill: Play, facts: dict[str, Any]
) -> None:
    found = find_running(folder)
    access = found.access
    client = AsyncClient(
        found.running.endpoint, access.access_key, access.secret_key, found.running.region
    )
    bucket = f"drill-{report.name}-{report.began_ms % 10**9:09d}"
    async with client:
        await client.make_bucket(bucket)
        workload = Workload(client, bucket, options.clients, options.seed)
        chance = random.Random(options.seed)  # noqa: S311 - repeatable choices, no secret
        stage = Stage(folder, workload, report, options, chance, client, facts)
        status = await stage.status()
        report.cloud = {
            "nodes": len(status.nodes),
            "profile": status.profile,
            "seed": options.seed,
            "one machine": "yes: this says nothing about the loss of this machine"
            if status.one_machine
            else "no",
        }
        await workload.fill(options.objects)
        status = await stage.status()
        stage.note(
            f"{options.objects} objects stored on {len(status.nodes)} nodes; "
            f"{options.clients} customers begin"
        )
        workload.start()
        try:
            await drill(stage)
        finally:
            await workload.stop()
        report.seconds = round(time.monotonic() - stage.began, 1)


def _tell(report: Report, options: DrillOptions) -> None:
    if options.report is not None:
        as_json = options.report.suffix == ".json"
        text = json.dumps(report.facts(), indent=1) if as_json else report.markdown()
        options.report.write_text(text, encoding="utf-8")
    if options.as_json:
        click.echo(json.dumps({"event": "report", **report.facts()}))
        return
    held = sum(check.held for check in report.checks)
    verdict = _paint("passed", "32;1") if report.passed else _paint("FAILED", "31;1")
    click.echo(f"\ndrill {report.name} {verdict}: {held} of {len(report.checks)} checks held")
    if options.report is not None:
        click.echo(f"report: {options.report}")
    else:
        click.echo("keep a report with --report FILE.md")


def traffic(before: CloudStatus, after: CloudStatus) -> tuple[int, int]:
    """Return bytes that repair downloaded and uploaded between two looks."""
    return (
        after.repair.bytes_downloaded - before.repair.bytes_downloaded,
        after.repair.bytes_uploaded - before.repair.bytes_uploaded,
    )


def names_of(nodes: list[NodeStatus]) -> list[str]:
    """Return the supervisor's names of nodes of a local cloud: node i listens on 127.0.i.1."""
    return [f"node-{int(n.address.partition('//')[2].split('.')[2])}" for n in nodes]


def shown(count: int) -> str:
    """Return bytes as people read them."""
    return show_bytes(count)
