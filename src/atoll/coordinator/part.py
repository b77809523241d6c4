"""What the coordinator is made of: parts that answer messages and repeat steps.

A part is one sub-room's service. The app collects their answers into two tables and runs their
steps, so that a new part is one line there.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.core.messages import Message

Handler = Callable[[Any], Awaitable[Message]]
"""Answers one type of control request."""
Guard = Callable[[Any], Awaitable[None]]
"""Looks at a control request before its handler does; raises to refuse it."""
NodeHandler = Callable[[Any, bytes, int], Awaitable[Message]]
"""Answers one type of node request: the request, the key that signed it, the signer's time in ms.

The key is proven, not known: ask the registry which node it is, if any."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something done again and again, with a pause between; a fault is logged and it goes on."""

    name: str
    run: Callable[[], Awaitable[object]]
    pause_s: float


@dataclass(frozen=True, slots=True)
class Page:
    """Something that a browser is shown, without anybody asking who he is."""

    kind: str
    """Its media type."""
    body: bytes


PageHandler = Callable[[str, str], Awaitable[Page]]
"""Answers GET: the path and the query string. Raises ``NOT_FOUND`` for what is not there."""


class Part:
    """One service of a coordinator. Subclasses set what they have."""

    handlers: Mapping[type[Message], Handler] = {}
    """By control request: how it is answered. In every process, with loops or without."""
    guards: Mapping[type[Message], Guard] = {}
    """By control request, of whatever part: what must let it pass first."""
    node_handlers: Mapping[type[Message], NodeHandler] = {}
    """By node request: how it is answered."""
    pages: Mapping[str, PageHandler] = {}
    """By the beginning of a path (``/providers``): public pages at the coordinator's door."""
    steps: Sequence[Step] = ()
    """Run where the coordinator runs its loops, and only there."""

    async def start(self) -> None:
        """Get ready; before the steps run. Only where the coordinator runs its loops."""

    async def stop(self) -> None:
        """Put down what is in hand; after the steps were stopped."""
