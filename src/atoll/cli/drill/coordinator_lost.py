"""``atoll drill coordinator-lost``: everything but the nodes is gone; the phrase brings it back."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from atoll.cli.drill.recovery import NODES, node_list, recover, store_large, truth_of
from atoll.cli.drill.stage import Stage, drill_options, options_of, play
from atoll.cli.places import DATABASE
from atoll.core.errors import AtollError, Kind
from atoll.runtime.folder import SECRETS

LAG_S = 2.0
"""Manifests follow an acknowledgement within a second."""


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
    await store_large(stage)
    await asyncio.sleep(stage.options.seconds)
    await stage.workload.stop()
    ledger = stage.workload.ledger
    stage.check(ledger.failed == 0, f"{ledger.failed} operations failed before anything was lost")
    truth = truth_of(stage)
    phrase = str(stage.facts.get("recovery_phrase", ""))
    stage.report.figures |= {"objects": len(truth.objects), "deleted before": len(truth.gone)}
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
