"""The checksums of S3: running, compared, and combined over the parts of an upload."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from awscrt import checksums as crt
from isal import isal_zlib

from atoll.gateway.s3.errors import S3Error

HEADER_PREFIX = "x-amz-checksum-"
FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"
DEFAULT = "CRC64NVME"
"""Computed for every object and part, whatever else the client asks."""

_CRC_BYTES = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8}
DIGEST_BYTES = {**_CRC_BYTES, "SHA1": 20, "SHA256": 32}
"""Every algorithm served, with the length of its value."""
_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}
_UPDATE: dict[str, Callable[[memoryview, int], int]] = {
    "CRC32": isal_zlib.crc32,
    "CRC32C": crt.crc32c,
    "CRC64NVME": crt.crc64nvme,
}
CRCS = frozenset(_CRC_BYTES)
"""Cheap enough for the loop; the others are hashed off it."""


class Running(Protocol):
    """A checksum being computed."""

    def update(self, data: memoryview, /) -> None:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """Return the value so far."""


class RunningCrc:
    """A CRC being computed (50 GB/s: cheaper than a thread)."""

    __slots__ = ("_length", "_update", "_value")

    def __init__(self, algorithm: str) -> None:
        self._update = _UPDATE[algorithm]
        self._length = _CRC_BYTES[algorithm]
        self._value = 0

    def update(self, data: memoryview) -> None:
        """Take the next bytes."""
        self._value = self._update(data, self._value)

    def digest(self) -> bytes:
        """Return the value so far, big-endian."""
        return self._value.to_bytes(self._length, "big")


def running(algorithm: str) -> Running:
    """Begin a checksum of ``DIGEST_BYTES``."""
    if algorithm in CRCS:
        return RunningCrc(algorithm)
    if algorithm == "SHA1":
        return hashlib.sha1(usedforsecurity=False)
    return hashlib.sha256()


def header_of(algorithm: str) -> str:
    """Return the header that carries a checksum."""
    return HEADER_PREFIX + algorithm.lower()


def parameter_of(algorithm: str) -> str:
    """Return the model's member name of a checksum (``ChecksumCRC32``)."""
    return f"Checksum{algorithm}"


def encode(value: bytes) -> str:
    """Return a checksum as S3 writes it."""
    return base64.b64encode(value).decode("ascii")


def check_algorithm(name: str) -> str:
    """Return the algorithm in upper case. Raises ``InvalidRequest`` for one not served."""
    upper = name.upper()
    if upper not in DIGEST_BYTES:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid "
            f"types: [{', '.join(sorted(DIGEST_BYTES))}]",
        )
    return upper


def check_value(algorithm: str, value: str) -> str:
    """Return a checksum value that is well-formed. Raises ``InvalidRequest``."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise _bad_value(algorithm) from cause
    if len(raw) != DIGEST_BYTES[algorithm]:
        raise _bad_value(algorithm)
    return value


def _bad_value(algorithm: str) -> S3Error:
    return S3Error("InvalidRequest", f"Value for {header_of(algorithm)} header is invalid.")


def mismatch(algorithm: str) -> S3Error:
    """Return the error for a checksum that the bytes do not have."""
    return S3Error(
        "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
    )


def check_type(algorithm: str, wanted: str) -> str:
    """Return the checksum type of a multipart upload. Raises ``InvalidRequest``.

    CRC64NVME is of the full object only, SHA1 and SHA256 composite only, the others either;
    composite where nothing is said.
    """
    possible = {
        "CRC64NVME": (FULL_OBJECT,),
        "CRC32": (COMPOSITE, FULL_OBJECT),
        "CRC32C": (COMPOSITE, FULL_OBJECT),
        "SHA1": (COMPOSITE,),
        "SHA256": (COMPOSITE,),
    }[algorithm]
    if not wanted:
        return possible[0]
    if wanted not in possible:
        raise S3Error(
            "InvalidRequest",
            f"The {wanted} checksum type cannot be used with the {algorithm.lower()} checksum "
            "algorithm.",
        )
    return wanted


def combine_full(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return the checksum of parts laid end to end, from each part's value and length."""
    combine = _COMBINE[algorithm]
    total = 0
    for value, length in parts:
        crc = int.from_bytes(base64.b64decode(value), "big")
        total = combine(total, crc, length)
    return encode(total.to_bytes(_CRC_BYTES[algorithm], "big"))


def combine_composite(algorithm: str, values: Sequence[str]) -> str:
    """Return the checksum of the parts' checksums, with their count."""
    whole = running(algorithm)
    whole.update(memoryview(b"".join(base64.b64decode(value) for value in values)))
    return f"{encode(whole.digest())}-{len(values)}"


def etag_of_parts(etags: Sequence[str]) -> str:
    """Return the ETag of a multipart object: MD5 of the parts' MD5s, with their count."""
    whole = hashlib.md5(usedforsecurity=False)
    for etag in etags:
        whole.update(bytes.fromhex(etag))
    return f"{whole.hexdigest()}-{len(etags)}"
