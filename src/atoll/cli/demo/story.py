"""The demo's state, and how it is told: sentences for people, lines of JSON for machines."""

import asyncio
import itertools
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.output import table
from atoll.cli.places import DATABASE
from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import segments_after
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CloudStatus, NodeStatus
from atoll.runtime.control import send_order
from atoll.runtime.database import SqlDatabase

NODES = 12
PAGE = 500
"""Segments read from the metadata at once."""


class Teller:
    """Says what happens: sentences for people, one JSON object a line for machines."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._began = time.monotonic()
        self._step = 0
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def step(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        if self._as_json:
            self._line({"event": "step", "number": self._step, "text": text})
        else:
            elapsed = time.monotonic() - self._began
            click.echo(f"\n{self._paint(f'{self._step}. {text}', '1')}  [{elapsed:.0f} s]")

    def note(self, text: str, **figures: Any) -> None:
        """Say one thing that was seen, with its figures."""
        if self._as_json:
            self._line({"event": "note", "text": text, **figures})
        else:
            click.echo(f"   {text}")

    def check(self, held: bool, text: str) -> None:
        """Say whether a comparison held."""
        if self._as_json:
            self._line({"event": "check", "held": held, "text": text})
        else:
            mark = self._paint("✓", "32") if held else self._paint("✗ FAILED:", "31;1")
            click.echo(f"   {mark} {text}")

    def table(
        self,
        rows: list[list[str]],
        *,
        right: frozenset[int] = frozenset(),
        head: bool = True,
        **figures: Any,
    ) -> None:
        """Show rows, the first as a ``head``; ``right``: columns of figures."""
        if self._as_json:
            self._line({"event": "table", "rows": rows, **figures})
            return
        for place, line in enumerate(table(rows, right=right)):
            click.echo(f"     {self._paint(line, '2') if head and not place else line}")

    def result(self, facts: dict[str, Any]) -> None:
        """Say how it ended."""
        if self._as_json:
            self._line({"event": "result", **facts})

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _line(self, facts: dict[str, Any]) -> None:
        click.echo(json.dumps(facts))


@dataclass
class Demo:
    """The demo's state: what went in, what held, what it cost."""

    cloud: LocalCloud
    teller: Teller
    expected: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Key to (SHA-256, bytes) of what was uploaded."""
    checks: list[tuple[bool, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)
    spared: frozenset[str] = frozenset()
    """Nodes that must not be killed: the story still needs them."""

    def check(self, held: bool, text: str) -> None:
        """Record and tell one comparison."""
        self.checks.append((held, text))
        self.teller.check(held, text)

    def status(self) -> CloudStatus:
        """Ask the cloud how it is."""
        from atoll.cli.status import fetch_status

        return fetch_status(self.folder)

    @property
    def folder(self) -> Path:
        """The cloud's data folder."""
        return Path(str(self.cloud.facts["data"]))

    def kill_nodes(self, count: int) -> None:
        """SIGKILL that many nodes; the supervisor leaves them dead."""
        for name in self.choose_victims(count):
            send_order(self.folder, "kill", name)
            self.killed.append(name)
        self.teller.note(f"SIGKILL {', '.join(self.killed[-count:])}", killed=self.killed[-count:])

    def choose_victims(self, count: int) -> list[str]:
        """Choose nodes at random whose death leaves every object readable.

        A tiny object has four replicas: one choice of four nodes in 495 would take it until one of
        them returns, and among hundreds of tiny objects a blind choice often takes some object.
        """
        names = {self.name_of(node): node.alias for node in self.status().nodes}
        dead = {names[name] for name in self.killed}
        alive = sorted(set(names) - set(self.killed) - self.spared)
        choices = list(itertools.combinations(alive, count))
        random.SystemRandom().shuffle(choices)
        segments = asyncio.run(_read_segments(self.folder))
        for choice in choices:
            gone = dead | {names[name] for name in choice}
            if all(len(holders - gone) >= k for k, holders in segments):
                return list(choice)
        raise AtollError(
            Kind.TOO_FEW_NODES, "demo", f"no {count} more nodes can die with every object readable"
        )

    def name_of(self, node: NodeStatus) -> str:
        """The supervisor's name of a node: node i of a local cloud listens on 127.0.i.1."""
        return f"node-{int(node.address.partition('//')[2].split('.')[2])}"


async def _read_segments(folder: Path) -> list[tuple[int, set[int]]]:
    """Return each segment's k and the aliases of the nodes that hold its pieces."""
    database = SqlDatabase(f"sqlite:///{folder / DATABASE}")
    try:
        found: list[StoredSegment] = []
        while True:
            after = found[-1].serial if found else 0
            page = await database.read(partial(segments_after, after=after, limit=PAGE))
            found += page
            if len(page) < PAGE:
                break
    finally:
        await database.close()
    return [(one.k, {piece.alias for piece in one.pieces}) for one in found]
