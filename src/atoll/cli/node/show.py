"""``atoll node show``: a node's terms, and how it stands by them."""

from pathlib import Path

import click

from atoll.cli.node.door import NodeDoor, node_folder, node_options
from atoll.cli.options import json_option
from atoll.cli.output import emit


@click.command()
@node_options
@json_option
def show(data: Path | None, number: int | None, as_json: bool) -> None:
    """Show a node's terms: capacity, traffic, price, calendar; pressure and moves under way."""
    from atoll.cli.node.terms import facts_of, lines_of

    shown = NodeDoor(node_folder(data, number)).show()
    if as_json:
        emit(facts_of(shown))
    else:
        click.echo("\n".join(lines_of(shown)))
