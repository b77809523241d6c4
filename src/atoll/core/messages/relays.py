"""Reachability: a node asks whether others can call it."""

from atoll.core.messages.base import Message


class AskReachable(Message, frozen=True):
    """A node asks its coordinator to call it at an address. Error: ``OVERLOADED``.

    The coordinator asks there for ``/v1/health`` and compares the node's id; it says nothing else
    of what it met.
    """

    host: str
    port: int
    fingerprint: bytes
    """SHA-256 of the node's TLS certificate; empty on loopback."""


class Reachable(Message, frozen=True):
    """Whether the node answered there."""

    reachable: bool


NODE_REQUESTS: dict[type[Message], type[Message]] = {AskReachable: Reachable}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of gateways of this family and their answers."""
