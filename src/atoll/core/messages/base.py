"""What all messages are made of: their base, failures on the wire, encoding, the control port."""

from typing import Any, Protocol, TypeVar

import msgspec

from atoll.core.errors import AtollError, Kind, kind_named

MESSAGE_BYTES_MAX = 8 << 20
"""A control message longer than this is refused unread."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages. Unknown fields of newer versions are ignored."""


class Failure(Message, frozen=True):
    """An ``AtollError`` on the wire."""

    kind: str
    operation: str
    message: str
    hint: str = ""
    about: str = ""

    def to_error(self) -> AtollError:
        """Return the error this failure tells of."""
        return AtollError(
            kind_named(self.kind), self.operation, self.message, hint=self.hint, about=self.about
        )


def failure_of(error: AtollError) -> Failure:
    """Return the wire form of an error."""
    return Failure(
        kind=error.kind.value,
        operation=error.operation,
        message=error.message,
        hint=error.hint,
        about=error.about,
    )


Answer = TypeVar("Answer", bound=Message)


class ControlPlane(Protocol):
    """Where a gateway's questions go: the metadata in process, or a coordinator over TLS."""

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Send a ``ControlRequest``; return its answer. Raises ``AtollError``."""


_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Message) -> bytes:
    """Return the MessagePack form of a message."""
    return _ENCODER.encode(message)


def decode(body: bytes, types: Any) -> Any:
    """Read a message of one of ``types`` (a Message class or a union of them).

    Raises ``BAD_REQUEST`` for anything else.
    """
    decoder = _DECODERS.get(types)
    if decoder is None:
        decoder = _DECODERS[types] = msgspec.msgpack.Decoder(types)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
        raise AtollError(Kind.BAD_REQUEST, "decode message", str(cause)) from cause
