"""``atoll node``: run a storage node, and set its terms. One module per subcommand."""

import click

from atoll.cli.lazy import Entry, LazyGroup

_SECTIONS: dict[str, dict[str, Entry]] = {
    "Commands": {
        "health": ("atoll.cli.node.health:health", "Show how a node stands, by which rule."),
        "calendar": ("atoll.cli.node.calendar:calendar", "Show or declare when it is online."),
        "exit": ("atoll.cli.node.exit:exit_", "Leave gracefully: every piece moves first."),
        "pieces": ("atoll.cli.node.pieces:pieces", "Show what it is held to, to the byte."),
        "run": ("atoll.cli.node.run:run", "Run a storage node until it is asked to stop."),
        "set": ("atoll.cli.node.set:set_", "Change capacity, traffic, price, place; at once."),
        "show": ("atoll.cli.node.show:show", "Show its terms and how it stands by them."),
    },
}


@click.group(cls=LazyGroup, sections=_SECTIONS)
def node() -> None:
    """Run a storage node: it keeps pieces and serves them, under orders."""
