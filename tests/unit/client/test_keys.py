"""The keyring: the same key for the same object, another for any other."""

import pytest
from tests.unit.client.cluster import BUCKET, SeededRng

from atoll.client import keys as keys_module
from atoll.client.keys import Keyring
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import SegmentRecord


def a_record(segment: bytes, wrapped: bytes) -> SegmentRecord:
    return SegmentRecord(
        segment=segment, plain_bytes=4, k=1, n=4, unit_bytes=20, root=b"", wrapped_key=wrapped,
        pieces=[],
    )  # fmt: skip


def test_a_stored_segment_opens_with_a_keyring_of_the_same_root() -> None:
    segment = b"s" * 16
    writer = Keyring(b"r" * 32, SeededRng())
    cipher, wrapped = writer.new_cipher(writer.content_key(BUCKET, "a/b"), segment)
    sealed = memoryview(bytearray(20))
    cipher.encrypt_chunk(0, True, b"data", sealed)

    reader = Keyring(b"r" * 32, SeededRng(2))
    plain = memoryview(bytearray(4))
    found = reader.cipher(reader.content_key(BUCKET, "a/b"), a_record(segment, wrapped))
    found.decrypt_chunk(0, True, sealed, plain)
    assert bytes(plain) == b"data"


@pytest.mark.parametrize(
    ("root", "key", "segment"),
    [
        (b"x" * 32, "a/b", b"s" * 16),
        (b"r" * 32, "a/c", b"s" * 16),
        (b"r" * 32, "a/b", b"t" * 16),
    ],
    ids=["another root", "another key", "another segment"],
)
def test_it_opens_with_nothing_else(root: bytes, key: str, segment: bytes) -> None:
    writer = Keyring(b"r" * 32, SeededRng())
    _, wrapped = writer.new_cipher(writer.content_key(BUCKET, "a/b"), b"s" * 16)
    attacker = Keyring(root, SeededRng())
    with pytest.raises(AtollError) as caught:
        attacker.cipher(attacker.content_key(BUCKET, key), a_record(segment, wrapped))
    assert caught.value.kind is Kind.CORRUPT


def test_content_keys_are_never_drawn_twice() -> None:
    keyring = Keyring(b"r" * 32, SeededRng())
    wrapping = keyring.content_key(BUCKET, "key")
    wrapped = {keyring.new_cipher(wrapping, b"s" * 16)[1] for _ in range(20)}
    assert len(wrapped) == 20


def test_caches_keep_to_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "CONTENT_KEYS_CACHED_MAX", 3)
    keyring = Keyring(b"r" * 32, SeededRng())
    first = keyring.content_key(BUCKET, "0")
    for number in range(10):
        keyring.content_key(BUCKET, str(number))
    assert len(keyring._keys._values) == 3
    assert keyring.content_key(BUCKET, "0") == first


def test_a_keyring_never_prints_its_root() -> None:
    assert repr(Keyring(b"r" * 32, SeededRng())) == "Keyring(…)"
