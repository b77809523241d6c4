"""What a node is made of besides its store: parts that answer paths and repeat steps."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from atoll.node.http import Receive, Scope, Send

Route = Callable[[Scope, Receive, Send], Awaitable[None]]
"""Answers one request; raises ``AtollError`` for a refusal before it has sent anything."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something done again and again, with a pause between; a fault is logged and it goes on."""

    name: str
    run: Callable[[], Awaitable[object]]
    pause_s: float


class NodePart:
    """One service of a node. Subclasses set what they have."""

    routes: Mapping[tuple[str, str], Route] = {}
    """By method and exact path."""
    steps: Sequence[Step] = ()

    async def start(self) -> None:
        """Get ready, with the store open; before the steps run."""

    async def stop(self) -> None:
        """Put down what is in hand; after the steps were stopped."""
