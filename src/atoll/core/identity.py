"""Ed25519 identities and signed requests between the parties."""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import PUBLIC_KEY_BYTES, NodeId, node_id_of

SIGNATURE_BYTES = 64
SEED_BYTES = 32
REQUEST_SKEW_MS_MAX = 5 * 60 * 1000
"""A signed request older or newer than this is refused."""


class Identity:
    """A private Ed25519 key with its public half. Never printed."""

    __slots__ = ("_private", "public_key")

    def __init__(self, seed: bytes) -> None:
        """Build from a 32-byte seed."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: bytes = self._private.public_key().public_bytes_raw()

    @property
    def node_id(self) -> NodeId:
        """The node id of this key."""
        return node_id_of(self.public_key)

    def sign(self, purpose: bytes, message: bytes) -> bytes:
        """Sign ``message`` for one purpose; a signature never serves another purpose."""
        return self._private.sign(_bound(purpose, message))

    def __repr__(self) -> str:
        return f"Identity({self.public_key.hex()[:10]}…)"


def _bound(purpose: bytes, message: bytes) -> bytes:
    return b"atoll/" + purpose + b"\0" + message


_PRIME = 2**255 - 19
_ORDER_EIGHT = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset(
    (0, 1, _ORDER_EIGHT, _PRIME - _ORDER_EIGHT, _PRIME - 1, _PRIME, _PRIME + 1)
)
"""The y coordinates, as encoded, of the points whose order divides 8.

Under such a "key" anybody makes signatures that hold, without any secret: it is nobody's key.
"""


def _is_nobodys(public_key: bytes) -> bool:
    return int.from_bytes(public_key, "little") & ((1 << 255) - 1) in _SMALL_ORDER


_LOADED: dict[bytes, Ed25519PublicKey] = {}
_LOADED_KEYS_MAX = 4096


def signature_holds(public_key: bytes, purpose: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether ``signature`` is that key's over ``message`` for this purpose.

    A key of small order never holds: see ``_SMALL_ORDER``.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    key = _LOADED.get(public_key)
    if key is None:
        if _is_nobodys(public_key):
            return False
        if len(_LOADED) >= _LOADED_KEYS_MAX:
            _LOADED.clear()
        try:
            key = _LOADED[public_key] = Ed25519PublicKey.from_public_bytes(public_key)
        except ValueError:
            return False
    try:
        key.verify(signature, _bound(purpose, message))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class RequestProof:
    """What a signed request carries in its headers."""

    public_key: bytes
    time_ms: int
    signature: bytes

    HEADER = "x-atoll-proof"

    def to_header(self) -> str:
        """Return the header's value: hex key, time, hex signature, separated by colons."""
        return f"{self.public_key.hex()}:{self.time_ms}:{self.signature.hex()}"


def _request_text(method: str, path: str, time_ms: int, body: bytes) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return f"{method}\n{path}\n{time_ms}\n{digest}".encode()


def prove_request(
    identity: Identity, method: str, path: str, body: bytes, now_ms: int
) -> RequestProof:
    """Sign a request: method, path with query, time, SHA-256 of the body."""
    text = _request_text(method, path, now_ms, body)
    return RequestProof(identity.public_key, now_ms, identity.sign(b"request/1", text))


def check_request(header: str, method: str, path: str, body: bytes, now_ms: int) -> bytes:
    """Return the public key that signed the request.

    Raises ``UNAUTHENTICATED`` for a bad proof and ``CLOCK_SKEW`` for one too old or too new.
    """
    try:
        key_hex, time_text, signature_hex = header.split(":")
        public_key, time_ms = bytes.fromhex(key_hex), int(time_text)
        signature = bytes.fromhex(signature_hex)
    except ValueError:
        raise AtollError(
            Kind.UNAUTHENTICATED, "check request", "the request's proof is malformed"
        ) from None
    if abs(now_ms - time_ms) > REQUEST_SKEW_MS_MAX:
        raise AtollError(
            Kind.CLOCK_SKEW,
            "check request",
            f"the request's time is {abs(now_ms - time_ms) // 1000} s away from ours",
            hint="set the clock of this machine (NTP)",
        )
    text = _request_text(method, path, time_ms, body)
    if not signature_holds(public_key, b"request/1", text, signature):
        raise AtollError(
            Kind.UNAUTHENTICATED, "check request", "the request's signature does not hold"
        )
    return public_key
