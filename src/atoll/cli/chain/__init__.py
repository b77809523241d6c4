"""``atoll chain``: the settlement chain of a cloud."""

import click

from atoll.cli.lazy import LazyGroup

_SECTIONS = {
    "See": {
        "status": (
            "atoll.cli.chain.status:status",
            "Show the chain, what waits for it, and what stands on it.",
        ),
    },
    "Act": {
        "deploy": ("atoll.cli.chain.deploy:deploy", "Put the contracts on the chain, once."),
        "install": ("atoll.cli.chain.install:install", "Get the program of the embedded chain."),
        "run": ("atoll.cli.chain.run:run", "Run an embedded chain, as `atoll up` does."),
    },
}


@click.group(cls=LazyGroup, sections=_SECTIONS)
def chain() -> None:
    """See and set up the chain that a cloud settles on.

    `atoll up` runs one of its own: a real EVM, but of one machine. Storing needs no chain.
    """
