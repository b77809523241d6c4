"""The formats of recovery, read by what the specification says and nothing of ours."""

import hashlib
import hmac
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from atoll.core.crypto import account_keys, root_from_phrase
from atoll.core.ids import AccountId

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "recovery.json").read_text()
)


def raw(*path: str) -> bytes:
    found: Any = VECTORS
    for name in path:
        found = found[name]
    return bytes.fromhex(found)


def expand(key: bytes, label: bytes, length: int = 32) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=b"atoll/" + label).derive(key)


def verify(key: bytes, purpose: bytes, message: bytes, signature: bytes) -> None:
    signed = b"atoll/" + purpose + b"\0" + message
    Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)


def test_account_and_owner() -> None:
    root = root_from_phrase(VECTORS["phrase"])
    account = hmac.digest(root, b"atoll/first-account/1", "sha256")[:16]
    assert account == raw("first_account")
    assert hashlib.sha256(b"atoll/owner-key/1" + raw("owner_key")).digest() == raw("owner_hash")


def test_tags_are_one_block_of_aes() -> None:
    root = root_from_phrase(VECTORS["phrase"])
    recovery = account_keys(root, AccountId(raw("first_account"))).recovery_key()
    for one in VECTORS["tags"]:
        label = b"bucket-tag/1\0" + struct.pack(">BI", one["family"], one["month"])
        cipher = Cipher(algorithms.AES256(expand(recovery, label)), modes.ECB())
        assert cipher.decryptor().update(bytes.fromhex(one["tag"])) == raw("bucket")


def test_capsules_are_siv_of_messagepack() -> None:
    cipher = AESSIV(expand(raw("bucket_recovery_key"), b"capsule/1", 64))
    for one in VECTORS["capsules"].values():
        plain = cipher.decrypt(bytes.fromhex(one["sealed"]), [bytes.fromhex(one["segment_id"])])
        assert plain == bytes.fromhex(one["content"])
        fields = msgspec.msgpack.decode(plain)
        assert len(fields) == 13
        assert fields[0] == 1
        assert fields[3] == b"w" * 48


def test_proof_and_adoption_are_signed_by_the_owner() -> None:
    proof = raw("proof", "signed")
    magic, version, node_id, key, time_ms = struct.unpack_from(">4sB3x32s32sQ", proof)
    assert (magic, version, time_ms) == (b"ATOW", 1, VECTORS["proof"]["time_ms"])
    assert (node_id, key) == (raw("proof", "node_id"), raw("owner_key"))
    verify(key, b"owner-access/1", proof[:80], proof[80:])
    verify(key, b"adopt/1", proof + raw("adoption", "body"), raw("adoption", "signature"))


def test_a_manifest_is_a_head_and_zlib() -> None:
    plain = raw("manifest", "plain")
    magic, version, kind, number, covers, length = struct.unpack_from(">4sBB2xQQI", plain)
    assert (magic, version, kind) == (b"ATMF", 1, 1)
    assert (number, covers) == (VECTORS["manifest"]["number"], VECTORS["manifest"]["covers"])
    content = zlib.decompress(plain[28:])
    assert len(content) == length
    assert [one["type"] for one in msgspec.msgpack.decode(content)] == ["c"]
