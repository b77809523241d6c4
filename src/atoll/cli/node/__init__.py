"""``atoll node``: run a storage node, and set its terms. One module per subcommand."""

import click

from atoll.cli.lazy import Entry, LazyGroup

_SECTIONS: dict[str, dict[str, Entry]] = {
    "Commands": {
        "health": ("atoll.cli.node.health:health", "Show how a node stands, by which rule."),
        "run": ("atoll.cli.node.run:run", "Run a storage node until it is asked to stop."),
    },
}


@click.group(cls=LazyGroup, sections=_SECTIONS)
def node() -> None:
    """Run a storage node: it keeps pieces and serves them, under orders."""
