"""``atoll drill coordinator-lost``: everything but the nodes is gone; the phrase brings it back."""

import asyncio
import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from atoll.cli.drill.stage import Stage, drill_options, options_of, play
from atoll.cli.drill.workload import digest_of
from atoll.cli.places import DATABASE
from atoll.core.errors import AtollError, Kind
from atoll.runtime.folder import SECRETS

NODES = "nodes.json"
NODES_S_MAX = 60.0
LAG_S = 2.0
"""Manifests follow an acknowledgement within a second."""
LARGE_BYTES = 24 << 20
LARGE = 3
"""Objects stored in parts."""


@click.command("coordinator-lost")
@drill_options()
def coordinator_lost(**values: Any) -> int:
    """Lose every coordinator, gateway, database and key; bring all objects back from the nodes.

    First the old coordinator is still there and answers nobody; then it, its database and all
    secrets are deleted. Both times `atoll recover` gets the recovery phrase and a list of nodes,
    nothing else. Runs on a cloud of its own only.
    """
    options = options_of(values)
    if options.data is not None:
        raise AtollError(
            Kind.BAD_REQUEST,
            "start drill",
            "this drill deletes a cloud's database and keys",
            hint="leave out --data: it starts a cloud of its own",
        )
    about = "All but the nodes is lost; the recovery phrase and a node list bring everything back."
    return play("coordinator-lost", about, options, _coordinator_lost)


async def _coordinator_lost(stage: Stage) -> None:
    await _store_large(stage)
    await asyncio.sleep(stage.options.seconds)
    await stage.workload.stop()
    ledger = stage.workload.ledger
    stage.check(ledger.failed == 0, f"{ledger.failed} operations failed before anything was lost")
    expected = {
        key: next(iter(allowed))
        for key, allowed in ledger.allowed.items()
        if len(allowed) == 1 and None not in allowed
    }
    gone = {key for key, allowed in ledger.allowed.items() if allowed == {None}}
    phrase = str(stage.facts.get("recovery_phrase", ""))
    stage.report.figures |= {"objects": len(expected), "deleted before": len(gone)}
    with tempfile.TemporaryDirectory(prefix="atoll-recover-") as work:
        nodes = await _node_list(stage, Path(work))
        await asyncio.sleep(LAG_S)
        names = await stage.children("coordinator") + await stage.children("gateway")
        await asyncio.gather(*(stage.order("freeze", name) for name in names))
        stage.note(f"{', '.join(names)} answer nobody any more")
        await _recover(stage, phrase, nodes, Path(work) / "refused", (expected, gone))
        await asyncio.gather(*(stage.order("kill", name) for name in names))
        for path in [*stage.folder.glob(f"{DATABASE}*"), stage.folder / NODES]:
            path.unlink(missing_ok=True)
        shutil.rmtree(stage.folder / SECRETS)
        stage.note("coordinator and gateways killed; database, node list and all keys deleted")
        await _recover(stage, phrase, nodes, Path(work) / "deleted", (expected, gone))
    stage.report.limits.append(
        "The nodes themselves all live: how many may be gone is what `drill churn` shows."
    )


async def _store_large(stage: Stage) -> None:
    """Store some objects in parts: their segments are found by their manifests alone."""
    with tempfile.TemporaryDirectory(prefix="atoll-drill-") as work:
        for number in range(LARGE):
            path = Path(work) / f"large-{number}"
            block = hashlib.shake_256(path.name.encode()).digest(1 << 16)
            path.write_bytes(block * (LARGE_BYTES // len(block)))
            key = f"in-parts/{number}"
            await stage.workload.put_file(key, path)


async def _node_list(stage: Stage, work: Path) -> Path:
    """Take the list that the coordinator keeps beside its database, as an operator would."""
    until = time.monotonic() + NODES_S_MAX
    source, target = stage.folder / NODES, work / NODES
    while time.monotonic() < until:
        if source.is_file():
            raw = source.read_bytes()
            if len(msgspec.json.decode(raw)["nodes"]) >= stage.options.nodes:
                target.write_bytes(raw)
                return target
        await asyncio.sleep(0.5)
    raise AtollError(Kind.TIMEOUT, "take node list", f"{source} does not list all nodes")


async def _recover(
    stage: Stage,
    phrase: str,
    nodes: Path,
    target: Path,
    truth: tuple[dict[str, str | None], set[str]],
) -> None:
    began = time.monotonic()
    words = ("recover", "--phrase-file", "-", "--nodes", str(nodes), "--to", str(target), "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "atoll",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate(phrase.encode())
    seconds = time.monotonic() - began
    expected, gone = truth
    folder = target / stage.workload.bucket
    wrong = [key for key, digest in expected.items() if digest_of(folder / key) != digest]
    back = [key for key in gone if (folder / key).exists()]
    complaint = "" if process.returncode == 0 else f"; it said: {said.decode()[-300:].strip()}"
    stage.check(
        not wrong,
        f"{len(expected) - len(wrong)} of {len(expected)} objects byte for byte the same after "
        f"{seconds:.0f} s ({target.name})" + (f"; wrong: {wrong[:3]}" if wrong else "") + complaint,
    )
    stage.check(not back, f"{len(back)} of {len(gone)} deleted objects came back ({target.name})")
    stage.report.figures[f"seconds to recover ({target.name})"] = round(seconds, 1)
