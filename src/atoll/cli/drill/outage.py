"""``atoll drill outage``: a whole region goes dark, and comes back."""

import asyncio
from typing import Any

import click

from atoll.cli.drill.stage import Stage, drill_options, names_of, options_of, play
from atoll.core.errors import AtollError, Kind


@click.command()
@click.option("--region", help="Region to switch off.  [default: the one with most nodes]")
@drill_options()
def outage(region: str | None, **values: Any) -> int:
    """Switch off all nodes of a region under load; after a while they come back."""
    options = options_of(values)

    async def drill(stage: Stage) -> None:
        await _outage(stage, region)

    about = f"All nodes of {region or 'one region'} go dark and come back."
    return play("outage", about, options, drill)


async def _outage(stage: Stage, region: str | None) -> None:
    status = await stage.status()
    regions = {node.region for node in status.nodes}
    if region is not None and region not in regions:
        raise AtollError(
            Kind.NOT_FOUND,
            "choose region",
            f"no node stands in {region!r}",
            hint=f"known: {', '.join(sorted(regions))}",
        )
    chosen = region or max(
        sorted(regions), key=lambda one: sum(node.region == one for node in status.nodes)
    )
    victims = [node for node in status.nodes if node.region == chosen]
    gone = {node.alias for node in victims}
    hidden = sum(len(one.aliases - gone) < one.k for one in await stage.holders())
    names = names_of(victims)
    await asyncio.gather(*(stage.order("kill", name) for name in names))
    stage.note(f"{chosen} is dark: {', '.join(names)}")
    stage.check(hidden == 0, f"{hidden} segments lie so that {chosen} alone could hide them")
    await asyncio.sleep(stage.options.seconds)
    for name in names:
        await stage.order("start", name)
    stage.note(f"{chosen} is back")
    whole = await stage.heal()
    stage.check(whole, "all nodes alive and every segment at full strength")
    stage.report.figures |= {"region": chosen, "nodes switched off": len(victims)}
    await stage.settle()
