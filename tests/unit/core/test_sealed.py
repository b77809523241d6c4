"""A box is read by one key, for one purpose, unchanged."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core import sealed
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity

SEEDS = st.binary(min_size=32, max_size=32)
READER = Identity(b"r" * 32)


@settings(deadline=None)
@given(SEEDS, SEEDS, st.binary(max_size=300))
def test_the_reader_reads_what_was_sealed(seed: bytes, ephemeral: bytes, plain: bytes) -> None:
    box = sealed.seal_for(Identity(seed).public_key, b"test/1", plain, ephemeral)
    assert len(box) == len(plain) + sealed.BOX_OVERHEAD_BYTES
    assert sealed.open_sealed(seed, b"test/1", box) == plain


@settings(deadline=None)
@given(SEEDS)
def test_both_halves_of_a_key_move_together(seed: bytes) -> None:
    """The Montgomery form of the public key is the public key of the private one's."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    moved = sealed._exchange_secret(seed).public_key().public_bytes_raw()
    assert sealed.exchange_key_of(public) == moved
    assert X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() != moved


def test_nobody_else_reads_it_and_nothing_else_is_read() -> None:
    box = sealed.seal_for(READER.public_key, b"test/1", b"secret", b"e" * 32)
    for seed, purpose, changed in (
        (b"x" * 32, b"test/1", box),
        (b"r" * 32, b"test/2", box),
        (b"r" * 32, b"test/1", box[:-1]),
        (b"r" * 32, b"test/1", box[:40] + bytes((box[40] ^ 1,)) + box[41:]),
        (b"r" * 32, b"test/1", bytes(32) + box[32:]),
        (b"r" * 32, b"test/1", b""),
    ):
        with pytest.raises(AtollError) as caught:
            sealed.open_sealed(seed, purpose, changed)
        assert caught.value.kind is Kind.CORRUPT


@pytest.mark.parametrize(
    "key",
    [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"short", (2**255 - 20).to_bytes(32, "little")],
)
def test_nothing_is_sealed_for_nobody(key: bytes) -> None:
    with pytest.raises(AtollError) as caught:
        sealed.seal_for(key, b"test/1", b"", b"e" * 32)
    assert caught.value.kind is Kind.BAD_REQUEST
