"""``atoll drill restart``: every process is killed, one after the other, then all at once."""

import asyncio
import time
from typing import Any

import click

from atoll.cli.drill.stage import Stage, drill_options, options_of, play

DOWN_S = 3.0
"""Customers go on so long after the power cut."""
KINDS = ("gateway", "node", "coordinator", "verifier", "relay")


@click.command()
@drill_options()
def restart(**values: Any) -> int:
    """SIGKILL every process in turn under load, then all at the same moment, like a power cut.

    All are started again at once, as a machine does. While everything is down requests fail: only
    the first part counts failed operations.
    """
    options = options_of(values)
    about = "Every process is SIGKILLed in turn, then all at the same moment; all start again."
    return play("restart", about, options, _restart)


async def _restart(stage: Stage) -> None:
    names = [name for kind in KINDS for name in await stage.children(kind)]
    pause_s = max(0.2, stage.options.seconds / len(names))
    for name in names:
        await stage.order("crash", name)
        await asyncio.sleep(pause_s)
    stage.note(f"{len(names)} processes killed one after the other, {pause_s:.1f} s apart")
    ledger = stage.workload.ledger
    failed = ledger.failed
    stage.check(
        failed == 0,
        f"{failed} operations failed after the client's retries while processes died in turn"
        + (f"; first: {ledger.failures[0]}" if failed else ""),
    )
    await asyncio.gather(*(stage.order("crash", name) for name in names))
    began = time.monotonic()
    stage.note(f"all {len(names)} processes killed at the same moment")
    await asyncio.sleep(DOWN_S)
    whole = await stage.heal()
    back_s = time.monotonic() - began
    stage.check(whole, f"all nodes back and every segment at full strength after {back_s:.0f} s")
    stage.report.figures["seconds until all was back"] = round(back_s, 1)
    stage.report.figures["operations failed while everything was down"] = ledger.failed - failed
    ledger.failed = 0
    ledger.failures.clear()
    await stage.settle()
    stage.report.limits.append(
        "SIGKILL loses no page cache; a real power cut is what the simulator's disks do."
    )
