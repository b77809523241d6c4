"""Keys and ciphers: what is bound cannot be moved; what is separate stays separate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import crypto
from atoll.core.crypto import SegmentCipher, account_keys
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import AccountId, BucketId

ROOT = bytes(range(32))
BUCKET = account_keys(ROOT, AccountId(b"a" * 16)).bucket(BucketId(b"b" * 16))
SEGMENT = b"s" * 16
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def refusal_of(kind: Kind) -> pytest.RaisesExc[AtollError]:
    return pytest.RaisesExc(AtollError, check=lambda error: error.kind is kind)


# --- phrases ---


@given(st.binary(min_size=16, max_size=16))
def test_every_entropy_has_a_phrase_that_passes(entropy: bytes) -> None:
    phrase = crypto.new_phrase(entropy)
    assert len(phrase.split()) == 12
    crypto.check_phrase(phrase)
    crypto.check_phrase("\n " + phrase.upper().replace(" ", "  \t") + " ")


def test_a_phrase_gives_its_root_however_it_is_typed() -> None:
    phrase = crypto.new_phrase(bytes(16))
    root = crypto.root_from_phrase(phrase)
    assert len(root) == 32
    assert crypto.root_from_phrase("  " + phrase.upper()) == root
    assert crypto.root_from_phrase(crypto.new_phrase(b"\1" * 16)) != root


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("", "12 words, this one has 0"),
        ("abandon " * 11, "has 11"),
        ("abandon " * 13, "has 13"),
        ("abandon " * 11 + "atoll", "word 12 is not in the list"),
        ("abandon " * 12, "checksum"),
    ],
)
def test_a_wrong_phrase_is_refused_with_a_hint(phrase: str, message: str) -> None:
    with pytest.raises(AtollError, match=message) as refusal:
        crypto.root_from_phrase(phrase)
    assert refusal.value.kind is Kind.BAD_REQUEST
    assert refusal.value.hint
    assert "abandon" not in str(refusal.value)


def test_a_phrase_of_other_entropy_is_not_made() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        crypto.new_phrase(bytes(32))


# --- derivation ---


def test_labels_accounts_and_buckets_keep_keys_apart() -> None:
    account = account_keys(ROOT, AccountId(b"a" * 16))
    other = account_keys(ROOT, AccountId(b"o" * 16))
    keys = {
        account.owner_seed(),
        account.recovery_key(),
        other.owner_seed(),
        BUCKET.content_key("x"),
        BUCKET.content_key("x/"),
        BUCKET.content_key("/x"),
        BUCKET.content_key("x//"),
        BUCKET.content_key(""),
        BUCKET.content_key("a/x"),
        BUCKET.content_key("b/x"),
        BUCKET.content_key("a/b/x"),
        BUCKET.content_key("b/a/x"),
        BUCKET.path_key(""),
        BUCKET.path_key("x/"),
        BUCKET.prefix_key("x/"),
        BUCKET.recovery_key(),
        BUCKET.lock_seed(),
        account.bucket(BucketId(b"c" * 16)).content_key("x"),
        other.bucket(BucketId(b"b" * 16)).content_key("x"),
    }
    assert len(keys) == 19
    assert {len(key) for key in keys} == {32}


@given(KEYS, KEYS)
def test_different_keys_have_different_content_keys(left: str, right: str) -> None:
    assert (left == right) == (BUCKET.content_key(left) == BUCKET.content_key(right))


@given(KEYS, KEYS)
def test_a_prefix_key_opens_what_lies_under_it(prefix: str, rest: str) -> None:
    """Whoever holds the key of ``prefix/`` can derive its objects' keys without the bucket's."""
    delegated = crypto.BucketKeys(BUCKET.prefix_key(prefix + "/"))
    assert delegated.content_key(rest) == BUCKET.content_key(f"{prefix}/{rest}")
    assert delegated.path_key("") == BUCKET.path_key(prefix + "/")


def test_keys_that_cannot_be_are_refused() -> None:
    for key in ("\ud800", "k" * 5000):
        with refusal_of(Kind.BAD_REQUEST):
            BUCKET.content_key(key)
    with refusal_of(Kind.BAD_REQUEST):
        BUCKET.prefix_key("no-slash")


def test_keys_never_print_themselves() -> None:
    account = account_keys(ROOT, AccountId(b"a" * 16))
    assert repr(account) == "AccountKeys(…)"
    assert repr(BUCKET) == "BucketKeys(…)"


# --- wraps, names, secrets ---


@given(st.binary(min_size=32, max_size=32))
def test_a_wrapped_key_opens_only_for_its_segment_and_path(content_key: bytes) -> None:
    kek = BUCKET.content_key("report.pdf")
    wrapped = crypto.wrap_key(kek, SEGMENT, content_key)
    assert crypto.unwrap_key(kek, SEGMENT, wrapped) == content_key
    with refusal_of(Kind.CORRUPT):
        crypto.unwrap_key(kek, b"t" * 16, wrapped)
    with refusal_of(Kind.CORRUPT):
        crypto.unwrap_key(BUCKET.content_key("other"), SEGMENT, wrapped)


def test_a_damaged_wrapped_key_is_refused_at_any_byte_and_length() -> None:
    kek = BUCKET.content_key("report.pdf")
    wrapped = crypto.wrap_key(kek, SEGMENT, bytes(32))
    assert len(wrapped) == 48
    for place in range(48):
        damaged = bytearray(wrapped)
        damaged[place] ^= 1
        with refusal_of(Kind.CORRUPT):
            crypto.unwrap_key(kek, SEGMENT, bytes(damaged))
        with refusal_of(Kind.CORRUPT):
            crypto.unwrap_key(kek, SEGMENT, wrapped[:place])


@given(KEYS)
def test_a_name_opens_as_it_was_sealed(name: str) -> None:
    sealed = crypto.seal_name(BUCKET.path_key(""), name)
    assert crypto.open_name(BUCKET.path_key(""), sealed) == name
    assert sealed == crypto.seal_name(BUCKET.path_key(""), name)
    with refusal_of(Kind.CORRUPT):
        crypto.open_name(BUCKET.path_key("x/"), sealed)


@given(st.binary(max_size=100))
def test_a_secret_opens_only_at_its_place(plain: bytes) -> None:
    sealed = crypto.seal_secret(ROOT, "credential/AK1", plain, b"n" * 12)
    assert crypto.open_secret(ROOT, "credential/AK1", sealed) == plain
    with refusal_of(Kind.CORRUPT):
        crypto.open_secret(ROOT, "credential/AK2", sealed)
    with refusal_of(Kind.CORRUPT):
        crypto.open_secret(bytes(32), "credential/AK1", sealed)
    with refusal_of(Kind.CORRUPT):
        crypto.open_secret(ROOT, "credential/AK1", sealed[:28])
    with refusal_of(Kind.NEWER_FORMAT):
        crypto.open_secret(ROOT, "credential/AK1", b"\2" + sealed[1:])


# --- chunks ---


@given(st.binary(max_size=3000), st.integers(0, (1 << 32) - 1), st.booleans())
def test_a_chunk_opens_only_in_its_place(plain: bytes, number: int, last: bool) -> None:
    cipher = SegmentCipher(ROOT, SEGMENT)
    sealed = memoryview(bytearray(len(plain) + 16))
    cipher.encrypt_chunk(number, last, memoryview(plain), sealed)
    out = memoryview(bytearray(len(plain)))
    cipher.decrypt_chunk(number, last, sealed, out)
    assert out == plain
    for false_number, false_last in ((number ^ 1, last), (number, not last)):
        with refusal_of(Kind.CORRUPT):
            cipher.decrypt_chunk(false_number, false_last, sealed, out)
    with refusal_of(Kind.CORRUPT):
        SegmentCipher(ROOT, b"t" * 16).decrypt_chunk(number, last, sealed, out)
    sealed[number % len(sealed)] ^= 1
    with refusal_of(Kind.CORRUPT):
        cipher.decrypt_chunk(number, last, sealed, out)


def test_chunks_refuse_buffers_and_numbers_that_do_not_fit() -> None:
    cipher = SegmentCipher(ROOT, SEGMENT)
    with pytest.raises(ValueError, match="must be"):
        cipher.encrypt_chunk(0, True, b"abc", memoryview(bytearray(18)))
    with pytest.raises(ValueError, match="range"):
        cipher.encrypt_chunk(1 << 32, True, b"", memoryview(bytearray(16)))
    with pytest.raises(ValueError, match="range"):
        cipher.decrypt_chunk(-1, True, bytes(16), memoryview(bytearray(0)))
    with pytest.raises(ValueError, match="bytes"):
        SegmentCipher(b"short", SEGMENT)


def test_a_chunk_cut_short_is_corrupt() -> None:
    cipher = SegmentCipher(ROOT, SEGMENT)
    for length in range(16):
        with refusal_of(Kind.CORRUPT):
            cipher.decrypt_chunk(0, True, bytes(length), memoryview(bytearray(0)))
