"""Following a node that moves its pieces elsewhere, until there is nothing more to move."""

import sys

import click

from atoll.cli.node.door import NodeDoor
from atoll.cli.node.terms import facts_of, progress_line, wait
from atoll.cli.output import emit, say

LOOK_S = 1.0
LOOKS_BEFORE_START = 3
"""A node takes a moment to begin."""

watch_option = click.option(
    "--watch", is_flag=True, help="Stay and show progress until it is over; Ctrl-C only leaves."
)


def watch_moves(door: NodeDoor, *, as_json: bool) -> None:
    """Show progress until nothing is to be moved any more."""
    last, idle = "", 0
    while True:
        shown = door.show()
        progress = shown.progress
        line = progress_line(progress)
        if as_json:
            emit(facts_of(shown)["progress"])
        elif sys.stderr.isatty():
            click.echo(f"\r\033[K{line}", err=True, nl=False)
        elif line != last:
            say(line)
        last = line
        idle = 0 if progress.reason else idle + 1
        if progress.state == "done" or idle >= LOOKS_BEFORE_START:
            if not as_json and sys.stderr.isatty():
                say()
            return
        wait(LOOK_S)
