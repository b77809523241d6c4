"""``atoll node exit``: leave gracefully; every piece moves elsewhere first."""

from pathlib import Path

import click

from atoll.cli.node.door import NodeDoor, node_folder, node_options
from atoll.cli.node.watch import watch_moves, watch_option
from atoll.cli.options import json_option
from atoll.cli.output import emit, say


@click.command(name="exit")
@node_options
@click.option("--cancel", is_flag=True, help="Stay after all; also after an evacuation.")
@watch_option
@json_option
def exit_(data: Path | None, number: int | None, cancel: bool, watch: bool, as_json: bool) -> None:
    """Leave gracefully: nothing new comes, every piece moves to other nodes, then it is confirmed.

    Keep the node running until `--watch` or `atoll node show` says that it has left. Should it die
    on the way, its pieces are rebuilt as any dead node's.
    """
    from atoll.cli.node.terms import facts_of, progress_line
    from atoll.core.messages.terms import EXIT_PATH, SetExit

    door = NodeDoor(node_folder(data, number))
    shown = door.change(EXIT_PATH, SetExit(exiting=not cancel))
    if watch and not cancel:
        watch_moves(door, as_json=as_json)
        shown = door.show()
    if as_json:
        emit(facts_of(shown))
    elif cancel:
        say("it stays: pieces moved so far stay where they are, new ones are welcome again")
    else:
        say(progress_line(shown.progress))
