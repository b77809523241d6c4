"""The relation of a node to one coordinator, shared by the parts that talk to it."""

import asyncio
from dataclasses import dataclass, field

from atoll.core.ports import Address


@dataclass(slots=True)
class Link:
    """The relation to one coordinator."""

    address: Address
    key: bytes = b""
    """Its public key; empty until it was told for the first time."""
    alias: int = 0
    heartbeat_interval_ms: int = 1000
    registered: bool = False
    failures: int = 0
    told: list[bytes] = field(default_factory=list)
    """Lost pieces it was told and that others may still have to be told."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
