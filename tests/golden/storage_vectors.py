"""Golden vectors of packs and of the node's log: what lies in a segment of many, and on a disk."""

import hashlib
from typing import Any

from atoll.core import crypto
from atoll.core.ids import SegmentId
from atoll.core.packing import PackedLayout
from atoll.core.pieces import crc32c
from atoll.node.store.log import Envelope, RecordKind, encode_foot, encode_head

NOW_MS = 1_800_000_000_000
SIZES = ((0, 16), (100, 116), (8192, 8208), (5000, 1024), (40_000, 1024))
"""Plaintext and unit of each item: replicated ones are one chunk, the others several."""


def pattern(length: int, seed: int) -> bytes:
    return bytes((131 * i + 7 * (i // 256) + seed) & 0xFF for i in range(length))


def packs() -> dict[str, Any]:
    secret = b"b" * 32
    items, plain = [], b""
    for number, (plain_bytes, unit_bytes) in enumerate(SIZES):
        layout = PackedLayout(plain_bytes, unit_bytes)
        segment, key = SegmentId(bytes((number,)) * 16), bytes((0x80 + number,)) * 32
        body = pattern(plain_bytes, number)
        cipher = crypto.SegmentCipher(key, segment)
        out = memoryview(bytearray(layout.stored_bytes))
        for chunk in range(layout.chunks):
            start, end = layout.span(chunk, chunk + 1)
            begin = chunk * (unit_bytes - 16)
            piece = body[begin : begin + layout.chunk_plain_bytes(chunk)]
            cipher.encrypt_chunk(chunk, chunk == layout.chunks - 1, piece, out[start:end])
        items.append(
            {
                "segment_id": segment.hex(),
                "content_key": key.hex(),
                "plain": {"pattern": [plain_bytes, number]},
                "unit_bytes": unit_bytes,
                "chunks": layout.chunks,
                "offset": len(plain),
                "stored_bytes": layout.stored_bytes,
                "stored_sha256": hashlib.sha256(out).hexdigest(),
            }
        )
        plain += bytes(out)
    return {
        "bucket_key": secret.hex(),
        "pack_key": crypto.BucketKeys(secret).pack_key().hex(),
        "items": items,
        "plain_bytes": len(plain),
        "plain_sha256": hashlib.sha256(plain).hexdigest(),
    }


def logs() -> dict[str, Any]:
    key, records, offset = b"k" * 32, [], 0
    for number, kind in enumerate(RecordKind):
        body = pattern({RecordKind.PIECE: 333, RecordKind.RETENTION: 136}.get(kind, 0), number)
        revived = kind is RecordKind.REVIVE
        envelope = Envelope(
            kind=kind,
            body_bytes=len(body),
            sequence=7 + number,
            time_ms=NOW_MS + number,
            piece=b"p" * 16,
            serial=bytes(16) if revived else bytes((number,)) * 16,
            expires_ms=0 if revived else NOW_MS + 60_000,
            retention_until_ms=NOW_MS + 86_400_000 if kind is RecordKind.PIECE else 0,
            issuer=int.from_bytes(hashlib.sha256(b"c" * 32).digest()[:7], "little"),
            segment_serial=123_456,
            issued_ms=NOW_MS - 1000,
        )
        head = encode_head(envelope, key, 3, offset)
        extent = head + body + encode_foot(head, crc32c(body), key)
        records.append({"kind": int(kind), "offset": offset, "extent": extent.hex()})
        offset += len(extent)
    return {"key": key.hex(), "log": 3, "issuer_key": (b"c" * 32).hex(), "records": records}
