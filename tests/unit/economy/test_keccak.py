"""Keccak-256: published answers, and the slow way agrees with the fast one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.economy.keccak import keccak_256, keccak_256_slow

EMPTY = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
TRANSFER = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def test_published_answers() -> None:
    for digest in (keccak_256, keccak_256_slow):
        assert digest(b"").hex() == EMPTY
        assert digest(b"Transfer(address,address,uint256)").hex() == TRANSFER


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 300), st.integers(0, 255))
def test_slow_is_fast(length: int, fill: int) -> None:
    data = bytes((fill + at) % 256 for at in range(length))
    assert keccak_256_slow(data) == keccak_256(data)
