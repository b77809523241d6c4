"""What the client's encoder puts on nodes is what docs/spec says, however the bytes arrive."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from atoll.client.segment.encode import SegmentEncoder
from atoll.core.crypto import SegmentCipher
from atoll.core.identity import Identity
from atoll.core.pieces import RecordChecker
from atoll.core.scheme import layout_for, scheme_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "segment.json").read_text("utf-8"))
GATEWAY = Identity(b"g" * 32)


def pattern(length: int, seed: int) -> bytes:
    return bytes((131 * i + 7 * (i // 256) + seed) % 256 for i in range(length))


@pytest.mark.parametrize("vector", VECTORS["segments"], ids=lambda vector: str(vector["scheme"]))
@pytest.mark.parametrize(("cut", "rows_max"), [(1 << 20, 1000), (777, 1), (1008, 3), (1, 2)])
def test_the_encoder_makes_the_stored_pieces(
    vector: dict[str, Any], cut: int, rows_max: int
) -> None:
    plain = pattern(*vector["plain"]["pattern"])
    scheme = scheme_of(*map(int, vector["scheme"].split("/")))
    layout = layout_for(len(plain), scheme)
    cipher = SegmentCipher(
        bytes.fromhex(VECTORS["content_key"]), bytes.fromhex(VECTORS["segment_id"])
    )
    encoder = SegmentEncoder(layout, bytes.fromhex(VECTORS["segment_id"]), cipher, b"y" * 16)
    pieces = [bytearray() for _ in range(layout.n)]
    offset = 0
    while encoder.rows_begun < layout.rows:
        rows = min(rows_max, layout.rows - encoder.rows_begun)
        data, parity = (memoryview(bytearray(b"\xee" * n)) for n in encoder.group_bytes(rows))
        group = encoder.begin(rows, data, parity)
        encoder.fill(group, b"")
        while not encoder.full(group):
            offset += encoder.fill(group, memoryview(plain)[offset : offset + cut])
        encoder.encode(group)
        for index, piece in enumerate(pieces):
            column = group.column(index, layout.k)
            assert column is not None
            piece += column
    trailer, tails = encoder.finish(GATEWAY)
    assert offset == len(plain)
    assert [hashlib.sha256(piece).hexdigest() for piece in pieces] == vector["data_sha256"]
    assert [root.hex() for root in trailer.piece_roots] == vector["piece_roots"]
    assert trailer.segment_root.hex() == vector["segment_root"]
    for head, piece, tail in zip(encoder.heads, pieces, tails, strict=True):
        checker = RecordChecker()
        checker.feed(head + piece + tail)
        assert checker.finish() == trailer
