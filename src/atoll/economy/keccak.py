"""Keccak-256 as the EVM has it: the padding before FIPS 202, so it is not ``hashlib.sha3_256``.

``safe-pysha3`` (extra ``chain``) answers in under a microsecond; where it is not installed the
permutation below does, some hundred times slower and to the same bytes: enough to check one proof,
too slow to build a tree of a grown network.

Source: Bertoni, Daemen, Peeters, Van Assche, "The Keccak reference", version 3.0, 2011.
"""

from typing import Final

RATE_BYTES: Final = 136
ROUNDS: Final = 24
DIGEST_BYTES: Final = 32

_MASK: Final = (1 << 64) - 1


def _round_constants() -> tuple[int, ...]:
    """Return the 24 constants of the iota step, made by the reference's shift register."""
    constants = []
    register = 1
    for _ in range(ROUNDS):
        constant = 0
        for power in range(7):
            if register & 1:
                constant |= 1 << ((1 << power) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


_CONSTANTS: Final = _round_constants()


def _rotate(lane: int, by: int) -> int:
    return ((lane << by) | (lane >> (64 - by))) & _MASK if by else lane


def _permute(lanes: list[int]) -> None:
    """Apply Keccak-f[1600] to 25 lanes in place; lane (x, y) is at x + 5·y."""
    for constant in _CONSTANTS:
        column = [
            lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
            for x in range(5)
        ]
        for x in range(5):
            theta = column[(x + 4) % 5] ^ _rotate(column[(x + 1) % 5], 1)
            for y in range(0, 25, 5):
                lanes[x + y] ^= theta
        x, y, moved = 1, 0, lanes[1]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            lanes[x + 5 * y], moved = (
                _rotate(moved, (step + 1) * (step + 2) // 2 % 64),
                lanes[x + 5 * y],
            )
        for y in range(0, 25, 5):
            row = lanes[y : y + 5]
            for x in range(5):
                lanes[y + x] = row[x] ^ (~row[(x + 1) % 5] & _MASK & row[(x + 2) % 5])
        lanes[0] ^= constant


def keccak_256_slow(data: bytes) -> bytes:
    """Return Keccak-256 of ``data`` in pure Python (about half a millisecond per 136 bytes)."""
    padded = bytearray(data)
    padded += bytes(RATE_BYTES - len(data) % RATE_BYTES)
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), RATE_BYTES):
        for lane in range(RATE_BYTES // 8):
            at = start + 8 * lane
            lanes[lane] ^= int.from_bytes(padded[at : at + 8], "little")
        _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[: DIGEST_BYTES // 8])


try:
    from sha3 import keccak_256 as _fast
except ImportError:  # the extra ``chain`` is not installed
    keccak_256 = keccak_256_slow
else:

    def keccak_256(data: bytes) -> bytes:
        """Return Keccak-256 of ``data``: 32 bytes."""
        digest: bytes = _fast(data).digest()
        return digest
