"""``atoll sim``: whole clouds on a virtual clock, from a seed; and a year of very many nodes."""

import click

from atoll.cli.lazy import LazyGroup

_SECTIONS = {
    "Simulations": {
        "run": ("atoll.cli.sim.run:run", "Run the true code of a cloud from seeds, with faults."),
        "scale": ("atoll.cli.sim.scale:scale", "Run a year of very many nodes on the same rules."),
    },
}


@click.group(cls=LazyGroup, sections=_SECTIONS)
def sim() -> None:
    """Simulate clouds: every run follows from its seed and can be repeated."""
