"""Identities: a signature serves one purpose, a proof one request in its time."""

import contextlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import identity
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, check_request, prove_request, signature_holds
from atoll.core.ids import node_id_of

PROVIDER = Identity(b"p" * 32)
ATTACKER = Identity(b"a" * 32)
NOW_MS = 1_800_000_000_000


@given(st.binary(max_size=20), st.binary(max_size=100))
def test_a_signature_holds_for_its_purpose_message_and_key(purpose: bytes, message: bytes) -> None:
    signature = PROVIDER.sign(purpose, message)
    assert signature_holds(PROVIDER.public_key, purpose, message, signature)
    assert not signature_holds(PROVIDER.public_key, purpose + b"x", message, signature)
    assert not signature_holds(PROVIDER.public_key, purpose, message + b"x", signature)
    assert not signature_holds(ATTACKER.public_key, purpose, message, signature)


def test_made_up_keys_and_signatures_never_raise() -> None:
    assert not signature_holds(b"", b"p", b"m", bytes(64))
    assert not signature_holds(PROVIDER.public_key, b"p", b"m", b"")
    assert not signature_holds(b"\xff" * 32, b"p", b"m", bytes(64))


def test_a_key_without_a_secret_signs_nothing() -> None:
    """OpenSSL takes such signatures: zeros under the zero key hold for some messages."""
    raw = Ed25519PublicKey.from_public_bytes(bytes(32))
    forged = []
    for number in range(64):
        message = b"atoll/p\0" + bytes((number,))
        with contextlib.suppress(InvalidSignature):
            raw.verify(bytes(64), message)
            forged.append(message)
    assert forged, "the library refuses such keys itself by now"
    for number in range(64):
        assert not signature_holds(bytes(32), b"p", bytes((number,)), bytes(64))


def test_the_points_of_small_order_are_those() -> None:
    """Eight times any of them is the neutral point; and there are no others."""
    prime, order = identity._PRIME, 8
    d = -121665 * pow(121666, -1, prime) % prime

    def times_two(x: int, y: int) -> tuple[int, int]:
        product = d * x * x * y * y % prime
        return (
            2 * x * y * pow(1 + product, -1, prime) % prime,
            (y * y + x * x) * pow(1 - product, -1, prime) % prime,
        )

    def x_of(y: int) -> int:
        square = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
        root = pow(square, (prime + 3) // 8, prime)
        if root * root % prime != square:
            root = root * pow(2, (prime - 1) // 4, prime) % prime
        assert root * root % prime == square
        return root

    points = set()
    for y in {encoded % prime for encoded in identity._SMALL_ORDER}:
        for x in {x_of(y), -x_of(y) % prime}:
            points.add((x, y))
            doubled = (x, y)
            for _ in range(3):
                doubled = times_two(*doubled)
            assert doubled == (0, 1)
    assert len(points) == order


def test_known_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_LOADED", {})
    monkeypatch.setattr(identity, "_LOADED_KEYS_MAX", 4)
    for number in range(10):
        actor = Identity(bytes((number,)) * 32)
        assert signature_holds(actor.public_key, b"p", b"m", actor.sign(b"p", b"m"))
        assert len(identity._LOADED) <= 4


def test_an_identity_names_its_node_and_hides_its_seed() -> None:
    assert PROVIDER.node_id == node_id_of(PROVIDER.public_key)
    assert PROVIDER.public_key.hex()[:10] in repr(PROVIDER)
    assert (b"p" * 32).hex() not in repr(PROVIDER)
    with pytest.raises(ValueError, match="32"):
        Identity(b"short")


def proof_header(now_ms: int = NOW_MS) -> str:
    return prove_request(PROVIDER, "POST", "/v1/x?y=1", b"body", now_ms).to_header()


def test_a_proven_request_names_its_caller() -> None:
    header = proof_header()
    assert check_request(header, "POST", "/v1/x?y=1", b"body", NOW_MS) == PROVIDER.public_key


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/x?y=1", b"body"),
        ("POST", "/v1/x?y=2", b"body"),
        ("POST", "/v1/x?y=1", b"other"),
    ],
)
def test_a_proof_serves_no_other_request(method: str, path: str, body: bytes) -> None:
    with pytest.raises(AtollError) as refusal:
        check_request(proof_header(), method, path, body, NOW_MS)
    assert refusal.value.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize("drift_ms", [-1, 1])
def test_a_proof_serves_only_in_its_time(drift_ms: int) -> None:
    skew = identity.REQUEST_SKEW_MS_MAX * drift_ms
    check_request(proof_header(), "POST", "/v1/x?y=1", b"body", NOW_MS + skew)
    with pytest.raises(AtollError) as refusal:
        check_request(proof_header(), "POST", "/v1/x?y=1", b"body", NOW_MS + skew + drift_ms)
    assert refusal.value.kind is Kind.CLOCK_SKEW


@given(st.text(max_size=40))
def test_a_made_up_proof_is_refused(header: str) -> None:
    with pytest.raises(AtollError) as refusal:
        check_request(header, "GET", "/", b"", NOW_MS)
    assert refusal.value.kind in {Kind.UNAUTHENTICATED, Kind.CLOCK_SKEW}


def test_an_attacker_cannot_put_his_key_in_a_proof() -> None:
    header = proof_header().replace(PROVIDER.public_key.hex(), ATTACKER.public_key.hex())
    with pytest.raises(AtollError, match="signature"):
        check_request(header, "POST", "/v1/x?y=1", b"body", NOW_MS)
