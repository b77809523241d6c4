"""The one form in which epochs are written: MessagePack, with whole numbers of any size.

MessagePack's numbers end at 64 bits, byte-milliseconds and picos do not. A number of 2^64 or more
is extension type 1: its bytes, big-endian, without leading zeros. Everything else is the shortest
MessagePack there is, so there is one encoding for one value.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from atoll.core.errors import AtollError, Kind

BIG_NUMBER_EXT = 1
NUMBER_BYTES_MAX = 32
_NUMBER_END = 1 << 64
_ENCODER = msgspec.msgpack.Encoder()

Row = TypeVar("Row")


def _big(code: int, data: memoryview) -> Any:
    raw = bytes(data)
    if code != BIG_NUMBER_EXT or not 9 <= len(raw) <= NUMBER_BYTES_MAX or not raw[0]:
        raise ValueError("an extension that is no number")
    return int.from_bytes(raw, "big")


_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ext_hook=_big)


def _with_extensions(value: Any) -> Any:
    if isinstance(value, int):
        if value < _NUMBER_END:
            return value
        length = (value.bit_length() + 7) // 8
        return msgspec.msgpack.Ext(BIG_NUMBER_EXT, value.to_bytes(length, "big"))
    if isinstance(value, list | tuple):
        return [_with_extensions(one) for one in value]
    return value


def encode_rows(rows: Iterable[Any]) -> bytes:
    """Return rows as one MessagePack array; a struct is an array of its fields."""
    listed = list(rows)
    try:
        return _ENCODER.encode(listed)
    except OverflowError:
        plain = msgspec.to_builtins(listed, builtin_types=(bytes,))
        return _ENCODER.encode(_with_extensions(plain))


def decode_rows(body: bytes, kind: type[Row]) -> list[Row]:
    """Read ``encode_rows``' form. Raises ``CORRUPT`` for anything else."""
    try:
        plain = _DECODER.decode(body)
        return msgspec.convert(plain, list[kind], builtin_types=(bytes,))  # type: ignore[valid-type]
    except (msgspec.MsgspecError, ValueError, UnicodeDecodeError, RecursionError) as cause:
        raise AtollError(
            Kind.CORRUPT, "read epoch", f"these are no rows of {kind.__name__}: {cause}"
        ) from cause
