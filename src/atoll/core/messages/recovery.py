"""Changes on their way into manifests, and leases of their writers."""

from atoll.core.messages.base import Message

NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of gateways of this family and their answers."""
