"""The relay protocol: how a node behind a NAT is reached through a tunnel that it opened itself.

A relay accepts connections for a node at a port of its own and carries their bytes, unread, over
the tunnel. What is inside is the node's own TLS, pinned by its fingerprint: a relay can delay and
cut, and nothing else. Here is the pure part: greetings and frames.

Normative text: ``docs/spec/relay.md``. Vectors: ``tests/golden/vectors/relay.json``.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SIGNATURE_BYTES, Identity, signature_holds
from atoll.core.ids import PUBLIC_KEY_BYTES

MAGIC = b"ATRL"
VERSION = 1
NONCE_BYTES = 32
HELLO_PURPOSE = b"relay-hello/1"
WELCOME_PURPOSE = b"relay-welcome/1"
OPERATOR_BYTES_MAX = 64
WINDOW_BYTES = 256 << 10
"""What either side may send on a stream beyond what the other has taken."""
PAYLOAD_BYTES_MAX = 64 << 10
STREAMS_MAX = 128
"""Streams of a tunnel at a time: connections of customers to one node through one relay."""
KEEPALIVE_S = 20.0
SILENCE_S_MAX = 50.0
"""A tunnel on which nothing came for so long is dead."""

_CHALLENGE = struct.Struct(f">4sB3x{NONCE_BYTES}s{PUBLIC_KEY_BYTES}s")
_HELLO = struct.Struct(f">4sB3x{NONCE_BYTES}s{PUBLIC_KEY_BYTES}s{SIGNATURE_BYTES}s")
_WELCOME = struct.Struct(f">4sBBH{OPERATOR_BYTES_MAX}s{SIGNATURE_BYTES}s")
_FRAME = struct.Struct(">BBHI")
CHALLENGE_BYTES = _CHALLENGE.size
HELLO_BYTES = _HELLO.size
WELCOME_BYTES = _WELCOME.size
FRAME_HEAD_BYTES = _FRAME.size
assert FRAME_HEAD_BYTES == 8


class FrameType(IntEnum):
    """What a frame says."""

    OPEN = 1
    """The relay: a connection came in; the stream's number is new."""
    DATA = 2
    CREDIT = 3
    """The payload, a u32, is how many more bytes of this stream may be sent."""
    END = 4
    """Nothing more comes on this stream from this side."""
    RESET = 5
    """The stream is over, both ways, at once."""
    PING = 6
    PONG = 7


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a relay says first."""

    nonce: bytes
    relay_key: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a relay says to a node that proved its key."""

    port: int
    """Where it listens for this node."""
    operator: str


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "speak to relay", message)


def _check_start(magic: bytes, version: int) -> None:
    if magic != MAGIC:
        raise _bad("this is no relay's greeting: its first bytes are others")
    if version != VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT, "speak to relay", f"version {version} of the protocol is not known"
        )


def encode_challenge(challenge: Challenge) -> bytes:
    """Return a relay's first words."""
    return _CHALLENGE.pack(MAGIC, VERSION, challenge.nonce, challenge.relay_key)


def parse_challenge(data: bytes) -> Challenge:
    """Read a relay's first words. Raises ``BAD_REQUEST``, ``NEWER_FORMAT``."""
    magic, version, nonce, relay_key = _CHALLENGE.unpack(_sized(data, CHALLENGE_BYTES))
    _check_start(magic, version)
    return Challenge(nonce, relay_key)


def _hello_text(challenge: Challenge, nonce: bytes) -> bytes:
    return challenge.nonce + challenge.relay_key + nonce


def encode_hello(node: Identity, challenge: Challenge, nonce: bytes) -> bytes:
    """Return a node's answer: its key, proved for this very relay and moment."""
    signature = node.sign(HELLO_PURPOSE, _hello_text(challenge, nonce))
    return _HELLO.pack(MAGIC, VERSION, nonce, node.public_key, signature)


def parse_hello(data: bytes, challenge: Challenge) -> tuple[bytes, bytes]:
    """Return a node's public key and nonce.

    Raises ``BAD_REQUEST``, ``NEWER_FORMAT``, ``UNAUTHENTICATED``.
    """
    magic, version, nonce, node_key, signature = _HELLO.unpack(_sized(data, HELLO_BYTES))
    _check_start(magic, version)
    text = _hello_text(challenge, nonce)
    if not signature_holds(node_key, HELLO_PURPOSE, text, signature):
        raise AtollError(Kind.UNAUTHENTICATED, "speak to relay", "the node's proof does not hold")
    return node_key, nonce


def _welcome_text(node_key: bytes, nonce: bytes, port: int, operator: bytes) -> bytes:
    return node_key + nonce + struct.pack(">H", port) + operator


def encode_welcome(relay: Identity, node_key: bytes, nonce: bytes, welcome: Welcome) -> bytes:
    """Return a relay's answer, signed. Raises ``BAD_REQUEST`` for an operator's name too long."""
    name = welcome.operator.encode()
    if len(name) > OPERATOR_BYTES_MAX:
        raise _bad(f"an operator's name has at most {OPERATOR_BYTES_MAX} bytes")
    padded = name.ljust(OPERATOR_BYTES_MAX, b"\0")
    signature = relay.sign(WELCOME_PURPOSE, _welcome_text(node_key, nonce, welcome.port, padded))
    return _WELCOME.pack(MAGIC, VERSION, len(name), welcome.port, padded, signature)


def parse_welcome(data: bytes, relay_key: bytes, node_key: bytes, nonce: bytes) -> Welcome:
    """Return what the relay of this key offers.

    Raises ``BAD_REQUEST``, ``NEWER_FORMAT``, ``UNAUTHENTICATED``.
    """
    magic, version, length, port, padded, signature = _WELCOME.unpack(_sized(data, WELCOME_BYTES))
    _check_start(magic, version)
    text = _welcome_text(node_key, nonce, port, padded)
    if not signature_holds(relay_key, WELCOME_PURPOSE, text, signature):
        raise AtollError(Kind.UNAUTHENTICATED, "speak to relay", "the relay's proof does not hold")
    if not port or length > OPERATOR_BYTES_MAX or any(padded[length:]):
        raise _bad("the relay's answer makes no sense")
    try:
        return Welcome(port, padded[:length].decode())
    except UnicodeDecodeError:
        raise _bad("the operator's name is not UTF-8") from None


def _sized(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise _bad(f"a greeting of {length} bytes has {len(data)}")
    return data


# --- frames --------------------------------------------------------------------------------------


def frame_head(kind: FrameType, stream: int, payload_bytes: int) -> bytes:
    """Return the head of a frame."""
    return _FRAME.pack(kind, 0, payload_bytes & 0xFFFF, stream)


def parse_head(data: bytes | bytearray | memoryview, at: int) -> tuple[FrameType, int, int]:
    """Return type, stream and payload length of the frame at an offset.

    A DATA frame of length 0 has 65,536 bytes. Raises ``BAD_REQUEST``.
    """
    kind, reserved, length, stream = _FRAME.unpack_from(data, at)
    if reserved or not FrameType.OPEN <= kind <= FrameType.PONG:
        raise _bad("a frame makes no sense")
    if kind == FrameType.DATA:
        length = length or PAYLOAD_BYTES_MAX
    elif length != (4 if kind == FrameType.CREDIT else 0):
        raise _bad("a frame has a payload of another length")
    return FrameType(kind), stream, length
