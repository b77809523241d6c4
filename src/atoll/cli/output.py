"""How commands speak: data to standard output, talk to standard error, colour on terminals."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click


def emit(facts: Any) -> None:
    """Write one JSON line to standard output at once."""
    click.echo(json.dumps(facts, ensure_ascii=False))
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Write talk to standard error."""
    click.echo(text, err=True)


def colourful(*, err: bool = False) -> bool:
    """Say whether colours may be used: a terminal, and NO_COLOR not set."""
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, *, err: bool = False, **style: Any) -> str:
    """Return text in a style of ``click.style`` where colours may be used."""
    return click.style(text, **style) if colourful(err=err) else text


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Align rows in columns; those in ``right`` to the right. The last column is not padded."""
    if not rows:
        return []
    widths = [max(len(click.unstyle(row[i])) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            gap = " " * (widths[i] - len(click.unstyle(cell)))
            cells.append(gap + cell if i in right else cell + gap)
        lines.append("  ".join(cells).rstrip())
    return lines
