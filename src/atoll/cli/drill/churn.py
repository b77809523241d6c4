"""``atoll drill churn``: a share of the nodes dies within seconds and never comes back."""

import asyncio
import time
from typing import Any

import click

from atoll.cli.drill.stage import (
    Holders,
    Stage,
    drill_options,
    names_of,
    options_of,
    play,
    shown,
    traffic,
)


@click.command()
@click.option(
    "--share",
    type=click.FloatRange(0.01, 0.5),
    default=0.3,
    show_default=True,
    help="Share of the nodes to kill.",
)
@click.option(
    "--within",
    type=click.FloatRange(0, 600),
    default=10.0,
    show_default=True,
    help="Seconds in which they die, one after the other.",
)
@drill_options()
def churn(share: float, within: float, **values: Any) -> int:
    """Kill a share of the nodes for good, under load; watch repair bring everything back.

    The nodes are chosen at random among those choices that leave every object readable; the report
    says how many blind choices would not have.
    """
    options = options_of(values)

    async def drill(stage: Stage) -> None:
        await _churn(stage, share, within)

    about = f"{share:.0%} of the nodes die within {within:g} s and never come back."
    return play("churn", about, options, drill)


async def _churn(stage: Stage, share: float, within_s: float) -> None:
    before = await stage.status()
    count = max(1, round(share * len(before.nodes)))
    victims = await stage.choose(count)
    held = await stage.holders()
    began = time.monotonic()
    for name in names_of(victims):
        await stage.order("kill", name)
        stage.note(f"SIGKILL {name}")
        await asyncio.sleep(within_s / count)
    await asyncio.sleep(stage.options.seconds)
    whole = await stage.heal(dead=count)
    seconds = time.monotonic() - began
    stage.check(
        whole, f"every segment at full strength again {seconds:.0f} s after the first death"
    )
    down, up = traffic(before, await stage.status())
    expected = expected_traffic(held, {node.alias for node in victims})
    stage.note(
        f"repair read {shown(down)} and wrote {shown(up)}; for what was stored before the deaths "
        f"the model says {shown(expected[0])} and {shown(expected[1])}"
    )
    stage.report.figures |= {
        "nodes killed": count,
        "seconds to full strength": round(seconds, 1),
        "repair bytes read": down,
        "repair bytes written": up,
        "model: bytes read": expected[0],
        "model: bytes written": expected[1],
    }
    await stage.settle()
    stage.report.limits.append(
        "Objects written while nodes died are repaired too: repair moves more than the model says."
    )


def expected_traffic(held: list[Holders], gone: set[int]) -> tuple[int, int]:
    """Return the bytes that repairing these deaths must read and write, if each segment is once.

    A segment that lost m pieces costs k reads and m writes.
    """
    read = written = 0
    for one in held:
        lost = len(one.aliases & gone)
        if lost and len(one.aliases) - lost >= one.k:
            read += one.k * one.piece_bytes
            written += lost * one.piece_bytes
    return read, written
