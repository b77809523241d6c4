"""``atoll drill sybil``: a few machines join as many nodes, to hold much of every object."""

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from atoll.cli.drill.stage import Stage, drill_options, options_of, play
from atoll.cli.places import NODE_SEED, find_running
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SEED_BYTES
from atoll.core.messages import NodeStatus
from atoll.runtime.clock import SystemClock
from atoll.runtime.config import FILE_NAME, NodeSettings, to_toml
from atoll.runtime.folder import open_folder, write_file
from atoll.runtime.process import ChildProcess
from atoll.runtime.rng import SystemRng

JOIN_S_MAX = 60.0
FIRST_HOST = 200
"""The attacker's machines are 127.0.200.x and upwards: a network of its own for each."""
CAPACITY_BYTES = 4 << 30
LOG_BYTES = 64 << 20


@click.command()
@click.option(
    "--ids",
    type=click.IntRange(2, 100),
    default=12,
    show_default=True,
    help="Nodes that the attacker runs.",
)
@click.option(
    "--hosts",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Machines that he has.",
)
@drill_options()
def sybil(ids: int, hosts: int, **values: Any) -> int:
    """Let an attacker join many nodes under made-up names from few machines, then vanish at once.

    He may hold at most one piece of any segment per machine, whatever his nodes call themselves;
    when all of them disappear nothing becomes unreadable.
    """
    options = options_of(values)

    async def drill(stage: Stage) -> None:
        async with AsyncExitStack() as stack:
            await _sybil(stage, stack, ids, hosts)

    about = f"{ids} nodes of one attacker join from {hosts} machines, then vanish together."
    return play("sybil", about, options, drill)


async def _sybil(stage: Stage, stack: AsyncExitStack, ids: int, hosts: int) -> None:
    before = {node.alias for node in (await stage.status()).nodes}
    attackers = [await _join(stage, stack, number, hosts) for number in range(ids)]
    theirs = await _joined(stage, before, ids)
    stage.note(f"{len(theirs)} nodes joined from {hosts} machines, each with an operator's name")
    await asyncio.sleep(stage.options.seconds)
    await stage.workload.stop()
    network = {node.alias: network_of(node) for node in theirs}
    segments = await stage.holders()
    most, held = 0, 0
    for one in segments:
        by_host = Counter(network[alias] for alias in one.aliases if alias in network)
        most = max([most, *by_host.values()])
        held += sum(by_host.values())
    pieces = sum(len(one.aliases) for one in segments)
    stage.check(held > 0, f"he was given {held} of {pieces} pieces")
    stage.check(most <= 1, f"no segment has more than {most} piece on one of his machines")
    hidden = sum(len(one.aliases - set(network)) < one.k for one in segments)
    stage.check(hidden == 0, f"{hidden} of {len(segments)} segments need his nodes to be read")
    stage.report.figures |= {
        "identities": ids,
        "machines": hosts,
        "his share of the nodes": round(ids / (ids + len(before)), 2),
        "his share of the pieces": round(held / max(1, pieces), 3),
    }
    for process in attackers:
        process.kill()
    stage.note("all of them vanish at once")
    await stage.settle()


def network_of(node: NodeStatus) -> str:
    """Return the /24 of a node's address."""
    host = urlsplit(node.address).hostname or ""
    return host.rpartition(".")[0]


async def _join(stage: Stage, stack: AsyncExitStack, number: int, hosts: int) -> ChildProcess:
    running = find_running(stage.folder).running
    path = stage.folder / "sybil" / str(number)
    host = f"127.0.{FIRST_HOST + number % hosts}.{1 + number // hosts}"
    await asyncio.to_thread(_prepare, path, number, host, running.coordinator)
    process = await ChildProcess.start(
        (sys.executable, "-m", "atoll", "node", "run", "--data", str(path)),
        environment={},
        log=stage.folder / "logs" / f"sybil-{number}.log",
    )
    stack.push_async_callback(process.wait)
    stack.callback(process.kill)
    return process


def _prepare(path: Path, number: int, host: str, coordinator: str) -> None:
    folder = open_folder(path, "node", SystemClock().now_ms())
    try:
        folder.secret(NODE_SEED, lambda: SystemRng().bytes(SEED_BYTES))
        facts = replace(
            NodeSettings(),
            host=host,
            port=urlsplit(coordinator).port or 0,
            coordinator=coordinator,
            operator=f"stranger-{number}",
            site=f"somewhere-{number}",
            region="eu-central",
            country="DE",
            tier="pro",
            capacity_bytes=CAPACITY_BYTES,
            log_bytes=LOG_BYTES,
        )
        write_file(path / FILE_NAME, to_toml("node", facts).encode())
    finally:
        folder.close()


async def _joined(stage: Stage, before: set[int], ids: int) -> list[NodeStatus]:
    found: list[NodeStatus] = []
    for _ in range(round(JOIN_S_MAX)):
        found = [node for node in (await stage.status()).nodes if node.alias not in before]
        if len(found) >= ids:
            return found
        await asyncio.sleep(1)
    raise AtollError(
        Kind.TIMEOUT,
        "join nodes",
        f"only {len(found)} of {ids} nodes joined",
        hint=f"see the logs in {stage.folder / 'logs'}",
    )
