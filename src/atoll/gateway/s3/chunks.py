"""aws-chunked bodies, without I/O: bytes in any cuts to payload views, chunk ends and trailers.

Source: "Signature calculations for the Authorization header: transferring a payload in multiple
chunks" and its trailer form, Amazon S3 API reference. No payload byte is copied.
"""

import re
from dataclasses import dataclass
from enum import Enum

from atoll.gateway.s3.errors import S3Error

CHUNK_LINE_BYTES_MAX = 1024
TRAILER_BYTES_MAX = 16 << 10

_LINE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[ \t]*([^\r]*))?\r?\Z")
_SIGNATURE = re.compile(rb"chunk-signature=([0-9a-f]{64})[ \t]*\Z")
TRAILER_SIGNATURE = "x-amz-trailer-signature"


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """A signed chunk is complete; the data since the previous end belongs to it."""

    signature: str


class _State(Enum):
    LINE = 1
    DATA = 2
    AFTER_DATA = 3
    TRAILER = 4


Event = memoryview | ChunkEnd


class ChunkDecoder:
    """Decodes one body. ``signed`` demands a signature on each chunk."""

    __slots__ = ("_decoded", "_left", "_line", "_signature", "_signed", "_size", "_state")

    def __init__(self, *, signed: bool, decoded_bytes: int) -> None:
        self._signed = signed
        self._size = decoded_bytes
        self._decoded = 0
        self._left = 0
        self._line = bytearray()
        self._signature = ""
        self._state = _State.LINE

    def feed(self, data: bytes) -> list[Event]:
        """Return the events in the next bytes. Raises ``S3Error`` for what is not the format."""
        events: list[Event] = []
        view = memoryview(data)
        at = 0
        while at < len(view):
            if self._state is _State.DATA:
                cut = view[at : at + self._left]
                events.append(cut)
                at += len(cut)
                self._left -= len(cut)
                if not self._left:
                    self._end_chunk(events)
            elif self._state is _State.TRAILER:
                self._keep(view[at:], TRAILER_BYTES_MAX, "MalformedTrailerError")
                at = len(view)
            else:
                stop = data.find(b"\n", at)
                end = len(view) if stop < 0 else stop
                self._keep(view[at:end], CHUNK_LINE_BYTES_MAX, "InvalidRequest")
                at = end if stop < 0 else stop + 1
                if stop >= 0:
                    self._take_line(events)
        return events

    def _keep(self, part: memoryview, bytes_max: int, code: str) -> None:
        if len(self._line) + len(part) > bytes_max:
            raise S3Error(code, "The chunked body is not well-formed")
        self._line += part

    def _end_chunk(self, events: list[Event]) -> None:
        if self._signed:
            events.append(ChunkEnd(self._signature))
        self._state = _State.AFTER_DATA

    def _take_line(self, events: list[Event]) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._state is _State.AFTER_DATA:
            if line.rstrip(b"\r"):
                raise S3Error("InvalidRequest", "The chunked body is not well-formed")
            self._state = _State.LINE
            return
        found = _LINE.match(line)
        if found is None:
            raise S3Error("InvalidRequest", "The chunked body is not well-formed")
        self._left = int(found[1], 16)
        self._decoded += self._left
        if self._decoded > self._size:
            raise S3Error(
                "IncompleteBody",
                "The body is longer than its x-amz-decoded-content-length",
            )
        if self._signed:
            signature = _SIGNATURE.match(found[2] or b"")
            if signature is None:
                raise S3Error("InvalidRequest", "A chunk of the body carries no signature")
            self._signature = signature[1].decode("ascii")
        if self._left:
            self._state = _State.DATA
        else:
            self._end_chunk(events)
            self._state = _State.TRAILER

    def finish(self) -> dict[str, str]:
        """Return the trailers (names in lower case) at the end of the body.

        Raises ``IncompleteBody`` if the body was cut or is shorter than announced.
        """
        if self._state is not _State.TRAILER or self._decoded != self._size:
            raise S3Error("IncompleteBody")
        trailers: dict[str, str] = {}
        for raw in bytes(self._line).split(b"\n"):
            line = raw.strip()
            if not line:
                continue
            name, colon, value = line.partition(b":")
            if not colon or not line.isascii():
                raise S3Error("MalformedTrailerError")
            trailers[name.decode("ascii").strip().lower()] = value.decode("ascii").strip()
        return trailers
