"""``atoll drill coordinator-lost``: everything but the nodes is gone; the phrase brings it back."""

import asyncio
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from atoll.cli.drill.recovery import NODES, Truth, node_list, recover, store_large, truth_of
from atoll.cli.drill.stage import POLL_S, Stage, drill_options, options_of, play
from atoll.cli.places import DATABASE
from atoll.core.errors import AtollError, Kind
from atoll.runtime.folder import SECRETS

LAG_S = 2.0
"""Manifests follow an acknowledgement within a second."""
PACKING_AGE = "ATOLL_COORDINATOR_PACKING_AGE_S"
PACKING_AGE_S = 5
"""Small objects are packed when they are so old, not after minutes."""
PACKED_S_MAX = 180.0
WORTH_BYTES = 6 << 20
"""With less than this in small objects a pack is not waited for: packs begin at 4 MiB."""
TINY_BYTES = 8 << 10
SMALL_BYTES = 64 << 10
LARGE_BYTES = 16 << 20


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
    environment = {PACKING_AGE: str(PACKING_AGE_S)}
    return play("coordinator-lost", about, options, _coordinator_lost, environment=environment)


async def _coordinator_lost(stage: Stage) -> None:
    await store_large(stage)
    await asyncio.sleep(stage.options.seconds)
    await stage.workload.stop()
    ledger = stage.workload.ledger
    stage.check(ledger.failed == 0, f"{ledger.failed} operations failed before anything was lost")
    truth = truth_of(stage)
    phrase = str(stage.facts.get("recovery_phrase", ""))
    stage.report.figures |= {"objects": len(truth.objects), "deleted before": len(truth.gone)}
    await _pack(stage, truth)
    with tempfile.TemporaryDirectory(prefix="atoll-recover-") as work:
        nodes = await node_list(stage, Path(work))
        await asyncio.sleep(LAG_S)
        names = await stage.children("coordinator") + await stage.children("gateway")
        await asyncio.gather(*(stage.order("freeze", name) for name in names))
        stage.note(f"{', '.join(names)} answer nobody any more")
        await recover(stage, phrase, nodes, Path(work) / "refused", truth)
        await asyncio.gather(*(stage.order("kill", name) for name in names))
        for path in [*stage.folder.glob(f"{DATABASE}*"), stage.folder / NODES]:
            path.unlink(missing_ok=True)
        shutil.rmtree(stage.folder / SECRETS)
        stage.note("coordinator and gateways killed; database, node list and all keys deleted")
        await recover(stage, phrase, nodes, Path(work) / "deleted", truth)
    stage.report.limits.append(
        "The nodes themselves all live: how many may be gone is what `drill churn` shows."
    )


async def _pack(stage: Stage, truth: Truth) -> None:
    """Let small objects be packed, where there are enough of them; count the kinds of objects."""
    sizes = [size for key, size in stage.workload.ledger.sizes.items() if key in truth.objects]
    kinds = {
        f"of at most {TINY_BYTES >> 10} KiB": sum(size <= TINY_BYTES for size in sizes),
        "in parts": sum(size >= LARGE_BYTES for size in sizes),
    }
    worth = sum(size for size in sizes if size <= SMALL_BYTES) >= WORTH_BYTES
    until, packed = time.monotonic() + PACKED_S_MAX, _packed(stage)
    while worth and not packed and time.monotonic() < until:
        await asyncio.sleep(POLL_S)
        packed = _packed(stage)
    if packed:
        await asyncio.sleep(PACKING_AGE_S)
        packed = _packed(stage)
    if worth:
        stage.check(packed > 0, f"{packed} segments of small objects lie in packs")
    stage.note(", ".join(f"{count} {what}" for what, count in kinds.items()))
    stage.report.figures |= {f"objects {what}": count for what, count in kinds.items()}
    stage.report.figures["segments in packs"] = packed


def _packed(stage: Stage) -> int:
    with closing(sqlite3.connect(f"file:{stage.folder / DATABASE}?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM packed").fetchone()
    return int(count)
