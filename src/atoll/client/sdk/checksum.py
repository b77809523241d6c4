"""CRC64NVME, the checksum that is kept with every object and checked at every whole read."""

import base64
import os

_BLOCK_BYTES = 4 << 20


def crc64nvme(data: bytes, before: int = 0) -> int:
    """Return the checksum of ``data``; ``before`` is that of the bytes in front of it."""
    from awscrt.checksums import crc64nvme as compute

    return int(compute(data, before))


def crc_text(value: int) -> str:
    """Return a checksum as S3 headers carry it: base64 of 8 bytes, big-endian."""
    return base64.b64encode(value.to_bytes(8, "big")).decode()


def crc_of_range(handle: int, start: int, length: int) -> int:
    """Return the checksum of a range of an open file. Blocks."""
    value = 0
    for offset in range(start, start + length, _BLOCK_BYTES):
        block = os.pread(handle, min(_BLOCK_BYTES, start + length - offset), offset)
        value = crc64nvme(block, value)
    return value
