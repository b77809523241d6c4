"""The words of the pieces' HTTP interface that both answers to ``PieceTransport`` share.

Paths, the order's header and the meaning of an answer's status; no input or output here.
Specified in docs/spec (the node's interface).
"""

import base64
import ipaddress
from functools import lru_cache

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Failure, decode
from atoll.core.ports import Address, PiecePart

ORDER_HEADER = "x-atoll-order"
HOSTS_KNOWN_MAX = 4096
"""Hosts of which it is remembered whether they are this machine: asked at every request."""


def piece_path(piece_id: bytes) -> str:
    """Return the path of a piece."""
    return f"/v1/pieces/{piece_id.hex()}"


def read_path(piece_id: bytes, part: PiecePart, offset: int, length: int) -> str:
    """Return the path and query that read a part of a piece."""
    return f"{piece_path(piece_id)}?part={part.value}&offset={offset}&length={length}"


def order_value(order: bytes) -> str:
    """Return the value of the order's header."""
    return base64.b64encode(order).decode()


def accepted(status: int, body: bytes, address: Address) -> bytes:
    """Return the body of a success (below 300); raise the ``Failure`` that a refusal carries.

    Raises ``INTERNAL`` for a refusal without one.
    """
    if status < 300:
        return body
    try:
        failure: Failure = decode(body, Failure)
    except AtollError:
        raise AtollError(
            Kind.INTERNAL, "call node", f"answered {status} without a reason", about=str(address)
        ) from None
    raise failure.to_error()


def check_length(have: int, want: int) -> None:
    """Raise ``BAD_REQUEST`` where a piece's body has another length than announced."""
    if have != want:
        raise AtollError(Kind.BAD_REQUEST, "put piece", f"the body has {have} bytes, not {want}")


def short_answer(address: Address, have: int, want: int) -> AtollError:
    """Return the error for a node that serves another number of bytes than asked for."""
    return AtollError(
        Kind.UNREACHABLE,
        "read piece",
        f"the node answers with {have} bytes instead of {want}",
        about=str(address),
    )


def unheard(address: Address, cause: AtollError) -> AtollError:
    """Return the error for a question that was sent and whose answer was lost.

    ``TIMEOUT``, not ``UNREACHABLE``: the other side may have acted on it.
    """
    return AtollError(
        Kind.TIMEOUT,
        "call",
        f"the connection broke before the answer ({cause.message})",
        hint="whether it took effect is unknown",
        about=str(address),
    )


def check_plain_allowed(address: Address) -> None:
    """Raise ``FORBIDDEN`` where plain HTTP would leave this machine."""
    if address.fingerprint or _is_this_machine(address.host):
        return
    raise AtollError(
        Kind.FORBIDDEN,
        "connect",
        "plain HTTP is allowed on loopback only",
        hint="give the fingerprint of its certificate",
        about=str(address),
    )


@lru_cache(maxsize=HOSTS_KNOWN_MAX)
def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
