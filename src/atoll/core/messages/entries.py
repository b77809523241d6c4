"""Entries of nodes in the registry on the chain: the node signs, its coordinator pays and sends.

So that a provider needs nothing but its keys. What is signed: ``docs/spec/contracts.md``.
"""

from atoll.core.messages.base import Message

DESCRIPTION_BYTES_MAX = 4096


class AskEntry(Message, frozen=True):
    """A node asks whether it is to sign its entry. It is entered for the account it is paid to."""


class EntryTerms(Message, frozen=True):
    """What to sign, if anything."""

    chain_id: int
    registry: bytes
    """Address of ``NodeRegistry``; empty where nothing is to be signed (now)."""
    nonce: int
    """Of the owner's next signature."""
    deadline_s: int
    """The signature is good until then, by the chain's clock."""
    is_active: bool
    """The node has its entry."""
    pause_ms: int
    """Ask again after so long."""


class PostEntry(Message, frozen=True):
    """A node signed its entry.

    Errors: ``BAD_REQUEST`` for signatures that do not hold, ``PRECONDITION_FAILED`` while the node
    has not proven anything yet or names no account.
    """

    description: bytes
    """Encoded ``Signed`` of a ``NodeDescription``, by the node's key; the entry has its SHA-256."""
    deadline_s: int
    signature: bytes
    """The account's, r, s and v: 65 bytes."""


class EntryTaken(Message, frozen=True):
    """It is on its way to the chain."""

    entry: bytes
    """Key of the entry in the registry."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {AskEntry: EntryTerms, PostEntry: EntryTaken}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of gateways of this family and their answers."""
