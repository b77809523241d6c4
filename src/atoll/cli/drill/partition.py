"""``atoll drill partition``: nodes fall silent without going away, then go on as if nothing was."""

import asyncio
from typing import Any

import click

from atoll.cli.drill.stage import Stage, drill_options, names_of, options_of, play


@click.command()
@click.option(
    "--share",
    type=click.FloatRange(0.01, 0.5),
    default=0.2,
    show_default=True,
    help="Share of the nodes that fall silent.",
)
@drill_options()
def partition(share: float, **values: Any) -> int:
    """Freeze a share of the nodes under load: connections stay open, nothing is answered.

    That is how a lost link looks to the others. Afterwards the nodes go on where they were, with
    clocks and connections of the past.
    """
    options = options_of(values)

    async def drill(stage: Stage) -> None:
        await _partition(stage, share)

    about = f"{share:.0%} of the nodes fall silent with their connections open, and return."
    return play("partition", about, options, drill)


async def _partition(stage: Stage, share: float) -> None:
    status = await stage.status()
    count = max(1, round(share * len(status.nodes)))
    victims = names_of(await stage.choose(count))
    await asyncio.gather(*(stage.order("freeze", name) for name in victims))
    stage.note(f"silent: {', '.join(victims)}")
    try:
        await asyncio.sleep(stage.options.seconds)
        during = await stage.status()
        silent = sum(node.state != "alive" for node in during.nodes)
        stage.check(silent == count, f"{silent} of {count} silent nodes are known to be silent")
    finally:
        await asyncio.gather(*(stage.order("thaw", name) for name in victims))
    stage.note("they go on")
    whole = await stage.heal()
    stage.check(whole, "all nodes alive and every segment at full strength")
    after = await stage.status()
    rebuilt = after.repair.pieces_repaired - status.repair.pieces_repaired
    stage.report.figures |= {"nodes frozen": count, "pieces rebuilt meanwhile": rebuilt}
    await stage.settle()
    stage.report.limits.append(
        "All others still reach each other: splits between coordinator, gateways and nodes are "
        "what the simulator's partitions do."
    )
