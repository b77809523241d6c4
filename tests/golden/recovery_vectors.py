"""Vectors of docs/spec/capsule.md, owner-access.md and manifest.md."""

import zlib
from typing import Any

import msgspec

from atoll.core import capsule, crypto, manifest, messages
from atoll.core import owner as owners
from atoll.core.identity import Identity
from atoll.core.ids import BucketId, SegmentId
from atoll.core.messages.recovery import AdoptPiece, AdoptPieces, ObjectChange

COORDINATOR = Identity(b"c" * 32)
PROVIDER = Identity(b"p" * 32)
SEGMENT = SegmentId(bytes(range(16)))
NOW_MS = 1_800_000_000_000


def recovery() -> dict[str, Any]:
    """Labels, capsules, owners' proofs, manifests."""
    phrase = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    root = crypto.root_from_phrase(phrase)
    account = crypto.first_account(root)
    keys = crypto.account_keys(root, account)
    bucket_id = BucketId(bytes(range(32, 48)))
    bucket = keys.bucket(bucket_id)
    owner = Identity(keys.owner_seed())
    described = capsule.Description("text/plain", {"expires": "never"}, {"colour": "red"})
    capsules = {
        "whole object, described": capsule.Capsule(
            1, 0, NOW_MS, b"w" * 48, 0, 5, "photos/a.jpg", description=described
        ),
        "later segment of a part": capsule.Capsule(
            1, 0, NOW_MS, b"w" * 48, 2, 200 << 20, "", SEGMENT, 7, b"u" * 16
        ),
        "manifest": capsule.Capsule(
            1, 1, NOW_MS, b"w" * 48, 0, 0, part=42, last=True, snapshot=True
        ),
    }
    change = ObjectChange(sequence=9, key="gone", time_ms=NOW_MS, entry=None)
    raw = b"\xdd\x00\x00\x00\x01" + manifest.encode_item(change)
    # Stored, not deflated: compressors differ, readers do not.
    head = b"ATMF\x01\x01\0\0" + (42).to_bytes(8) + (40).to_bytes(8) + len(raw).to_bytes(4)
    plain = head + zlib.compress(raw, 0)
    assert manifest.decode_manifest(plain).changes == (change,)
    node_id = PROVIDER.node_id
    proof = owners.sign_owner_proof(owner, node_id, NOW_MS)
    body = messages.encode(
        AdoptPieces(
            coordinator_key=COORDINATOR.public_key,
            pieces=[AdoptPiece(piece=b"p" * 16, segment_serial=7)],
        )
    )
    return {
        "phrase": phrase,
        "first_account": account.hex(),
        "owner_key": owner.public_key.hex(),
        "owner_hash": capsule.owner_hash_of(owner.public_key).hex(),
        "bucket": bucket_id.hex(),
        "tags": [
            {
                "family": int(family),
                "month": month,
                "tag": capsule.tag_of(keys.recovery_key(), family, bucket_id, month).hex(),
            }
            for family in capsule.TagFamily
            for month in (202601, 202612)
        ],
        "bucket_recovery_key": bucket.recovery_key().hex(),
        "manifest_key": bucket.manifest_key().hex(),
        "capsules": {
            what: {
                "segment_id": SEGMENT.hex(),
                "content": msgspec.msgpack.encode(one).hex(),
                "sealed": capsule.seal_capsule(bucket.recovery_key(), SEGMENT, one).hex(),
            }
            for what, one in capsules.items()
        },
        "proof": {"node_id": node_id.hex(), "time_ms": NOW_MS, "signed": proof.hex()},
        "adoption": {
            "body": body.hex(),
            "signature": owners.sign_adoption(owner, proof, body).hex(),
        },
        "manifest": {"number": 42, "covers": 40, "plain": plain.hex()},
    }
