"""A request's body on its way in: received, unchunked, hashed, verified; never whole in memory."""

import asyncio
import base64
import binascii
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from atoll.core import sigv4
from atoll.core.ports import Compute
from atoll.gateway.config import GatewayConfig
from atoll.gateway.s3 import checksums
from atoll.gateway.s3.chunks import TRAILER_SIGNATURE, ChunkDecoder, ChunkEnd, Event
from atoll.gateway.s3.errors import S3Error, invalid_argument
from atoll.gateway.s3.request import Request
from atoll.gateway.s3.signature import Verified


class ClientGoneError(Exception):
    """The client closed the connection: nobody is left to answer."""


@dataclass(slots=True)
class Expected:
    """What the client says of its body."""

    size: int
    sha256: str = ""
    md5: bytes = b""
    algorithm: str = ""
    """The checksum the client sends or announces; empty for none."""
    value: str = ""
    """Its value, empty where a trailer brings it."""
    trailer: str = ""
    """Name of the announced trailer."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What the bytes were."""

    md5: str
    checksums: dict[str, str] = field(default_factory=dict)
    """The client's algorithm, if it chose one, and the one always computed."""


def read_expected(
    request: Request, verified: Verified, *, sums_of_object: bool = False
) -> Expected:
    """Return what the headers say of the body. Raises the exact ``S3Error``.

    ``sums_of_object``: the checksum headers speak of the object to be, not of this body.
    """
    headers = request.headers
    streaming = verified.payload_hash.startswith("STREAMING-")
    expected = Expected(size=_size(request, streaming))
    if not streaming and verified.payload_hash != sigv4.UNSIGNED_PAYLOAD:
        expected.sha256 = verified.payload_hash.lower()
    if "content-md5" in headers:
        try:
            expected.md5 = base64.b64decode(headers["content-md5"], validate=True)
        except (binascii.Error, ValueError) as cause:
            raise S3Error("InvalidDigest") from cause
        if len(expected.md5) != 16:
            raise S3Error("InvalidDigest")
    if not sums_of_object:
        _read_checksum(request, expected, verified.payload_hash.endswith("-TRAILER"))
    return expected


def _size(request: Request, streaming: bool) -> int:
    name = "x-amz-decoded-content-length" if streaming else "content-length"
    text = request.headers.get(name)
    if text is None:
        raise S3Error("MissingContentLength")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise invalid_argument(name, text)
    return int(text)


def _read_checksum(request: Request, expected: Expected, trailing: bool) -> None:
    headers = request.headers
    found = [name for name in checksums.DIGEST_BYTES if checksums.header_of(name) in headers]
    if len(found) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    if found:
        expected.algorithm = found[0]
        value = headers[checksums.header_of(found[0])]
        expected.value = checksums.check_value(found[0], value)
    declared = headers.get("x-amz-sdk-checksum-algorithm", "")
    trailer = headers.get("x-amz-trailer", "").strip().lower()
    if trailer and trailing:
        name = trailer.removeprefix(checksums.HEADER_PREFIX).upper()
        if not trailer.startswith(checksums.HEADER_PREFIX) or name not in checksums.DIGEST_BYTES:
            raise S3Error(
                "InvalidRequest", "The value specified in the x-amz-trailer header is not supported"
            )
        if found and found[0] != name:
            raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header")
        expected.algorithm, expected.trailer = name, trailer
    if declared:
        name = checksums.check_algorithm(declared)
        if not expected.algorithm:
            raise S3Error(
                "InvalidRequest",
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* "
                "or x-amz-trailer headers were found.",
            )
        if name != expected.algorithm:
            raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm is invalid.")


class _Hashers:
    """The slow hashes of one body. Used by one thread at a time, in order."""

    __slots__ = ("_chunk", "_signer", "extra", "md5", "sha256")

    def __init__(self, expected: Expected, signer: sigv4.ChunkSigner | None) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256() if expected.sha256 else None
        slow = expected.algorithm and expected.algorithm not in checksums.CRCS
        self.extra = checksums.running(expected.algorithm) if slow else None
        self._signer = signer
        self._chunk = hashlib.sha256()

    def work(self, events: list[Event]) -> None:
        """Hash views; at each end of a chunk compare its signature."""
        for event in events:
            if isinstance(event, ChunkEnd):
                self._end_chunk(event)
                continue
            self.md5.update(event)
            if self.sha256 is not None:
                self.sha256.update(event)
            if self.extra is not None:
                self.extra.update(event)
            if self._signer is not None:
                self._chunk.update(event)

    def _end_chunk(self, end: ChunkEnd) -> None:
        if self._signer is None:
            return
        signature = self._signer.chunk(self._chunk.hexdigest())
        if not sigv4.same(signature, end.signature):
            raise S3Error("SignatureDoesNotMatch")
        self._chunk = hashlib.sha256()


class Hashing:
    """Hashes a stream of views: CRCs at once, the slow hashes off the loop, in order.

    At most one block is being hashed while the next is gathered.
    """

    def __init__(
        self,
        expected: Expected,
        compute: Compute,
        config: GatewayConfig,
        signer: sigv4.ChunkSigner | None = None,
    ) -> None:
        self._expected = expected
        self._compute = compute
        self._config = config
        self._hashers = _Hashers(expected, signer)
        self._crcs = [checksums.RunningCrc(checksums.DEFAULT)]
        if expected.algorithm in checksums.CRCS and expected.algorithm != checksums.DEFAULT:
            self._crcs.append(checksums.RunningCrc(expected.algorithm))
        self._inline = expected.size <= config.inline_bytes_max
        self._pending: list[Event] = []
        self._pending_bytes = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, event: Event) -> None:
        """Take the next view or end of a chunk."""
        self._pending.append(event)
        if not isinstance(event, ChunkEnd):
            self._pending_bytes += len(event)
            for crc in self._crcs:
                crc.update(event)

    async def relieve(self) -> None:
        """Hand a full block to a thread, after the block before it is done.

        Raises what the block before it showed (``SignatureDoesNotMatch``).
        """
        if self._inline or self._pending_bytes < self._config.hash_block_bytes:
            return
        events, self._pending, self._pending_bytes = self._pending, [], 0
        await self._settle()
        self._task = asyncio.create_task(self._compute.run(self._hashers.work, events))

    async def _settle(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            await task

    async def finish(self) -> None:
        """Hash what is left."""
        await self._settle()
        events, self._pending = self._pending, []
        if self._pending_bytes <= self._config.inline_bytes_max:
            self._hashers.work(events)
        else:
            await self._compute.run(self._hashers.work, events)

    async def close(self) -> None:
        """Let go; wait for a block that is being hashed, whatever it says."""
        if self._task is not None:
            task, self._task = self._task, None
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()

    def verify(self) -> Digests:
        """Compare with what the client says; return the digests. Raises ``S3Error``."""
        expected, hashers = self._expected, self._hashers
        if hashers.sha256 is not None:
            computed = hashers.sha256.hexdigest()
            if computed != expected.sha256:
                raise S3Error(
                    "XAmzContentSHA256Mismatch",
                    ClientComputedContentSHA256=expected.sha256,
                    S3ComputedContentSHA256=computed,
                )
        if expected.md5 and expected.md5 != hashers.md5.digest():
            raise S3Error(
                "BadDigest",
                ExpectedDigest=expected.md5.hex(),
                CalculatedDigest=hashers.md5.hexdigest(),
            )
        sums: dict[str, str] = {}
        if expected.algorithm:
            own = hashers.extra or self._crcs[-1]
            sums[expected.algorithm] = checksums.encode(own.digest())
            if expected.value and sums[expected.algorithm] != expected.value:
                raise checksums.mismatch(expected.algorithm)
        sums.setdefault(checksums.DEFAULT, checksums.encode(self._crcs[0].digest()))
        return Digests(hashers.md5.hexdigest(), sums)


class IncomingBody:
    """One body: take ``stream()`` to its end, then ``finish()`` says what it was.

    Everything is verified by then: length, chunk and trailer signatures, SHA-256, MD5, checksum.
    Call ``close()`` in any case.
    """

    def __init__(
        self,
        request: Request,
        verified: Verified,
        expected: Expected,
        compute: Compute,
        config: GatewayConfig,
    ) -> None:
        self.expected = expected
        self._request = request
        self._config = config
        self._signer = verified.signer
        self._decoder: ChunkDecoder | None = None
        if verified.payload_hash.startswith("STREAMING-"):
            signed = verified.signer is not None
            self._decoder = ChunkDecoder(signed=signed, decoded_bytes=expected.size)
        self._trailing = verified.payload_hash.endswith("-TRAILER")
        self._compute = compute
        self._hashing = self._new_hashing()
        self._events: deque[Event] = deque()
        self._more = True
        self._received = 0
        self._digests: Digests | None = None

    def _new_hashing(self) -> Hashing:
        return Hashing(self.expected, self._compute, self._config, self._signer)

    @property
    def size(self) -> int:
        """Bytes of the decoded body, as announced."""
        return self.expected.size

    def expect_algorithm(self, algorithm: str) -> None:
        """Compute a checksum that the client did not send. Call before the body is read."""
        self.expected.algorithm = algorithm
        self._hashing = self._new_hashing()

    async def stream(self) -> AsyncIterator[memoryview]:
        """Yield the payload in order, without copies. Raises ``S3Error`` or ``ClientGoneError``.

        The last view is held back until everything is verified: of a body that is not what the
        client said, the nodes never see the end, so that they keep nothing of its last segment.
        """
        held = await self._next()
        if held is None:
            await self.finish()
        while held is not None:
            following = await self._next()
            if following is None:
                await self.finish()
            yield held
            held = following

    async def _next(self) -> memoryview | None:
        """Return the next view of payload; None at the end."""
        while True:
            while self._events:
                event = self._events.popleft()
                self._hashing.add(event)
                if isinstance(event, ChunkEnd):
                    continue
                self._received += len(event)
                if self._received > self.expected.size:
                    raise S3Error("IncompleteBody", "The body is longer than announced")
                return event
            if not self._more:
                return None
            await self._hashing.relieve()
            data, self._more = await self._receive()
            if self._decoder is not None:
                self._events.extend(self._decoder.feed(data))
            elif data:
                self._events.append(memoryview(data))

    async def _receive(self) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout(self._config.body_stall_s_max):
                message = await self._request.receive()
        except TimeoutError as cause:
            raise S3Error("RequestTimeout") from cause
        if message["type"] != "http.request":
            raise ClientGoneError
        return message.get("body", b""), message.get("more_body", False)

    async def finish(self) -> Digests:
        """Read what is left, verify everything, return the digests. Raises ``S3Error``."""
        if self._digests is not None:
            return self._digests
        while await self._next() is not None:
            pass
        trailers = self._decoder.finish() if self._decoder is not None else {}
        if self._received != self.expected.size:
            raise S3Error("IncompleteBody")
        await self._hashing.finish()
        if self._trailing:
            self._take_trailers(trailers)
        self._digests = self._hashing.verify()
        return self._digests

    def _take_trailers(self, trailers: dict[str, str]) -> None:
        signature = trailers.pop(TRAILER_SIGNATURE, "")
        if self._signer is not None:
            canonical = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
            ours = self._signer.trailer(canonical.encode("ascii"))
            if not sigv4.same(ours, signature):
                raise S3Error("SignatureDoesNotMatch")
        expected = self.expected
        if set(trailers) != ({expected.trailer} if expected.trailer else set()):
            raise S3Error("MalformedTrailerError")
        if expected.trailer:
            value = checksums.check_value(expected.algorithm, trailers[expected.trailer])
            if expected.value and expected.value != value:
                raise checksums.mismatch(expected.algorithm)
            expected.value = value

    async def read_all(self, bytes_max: int) -> bytes:
        """Return a small body whole and verified. Raises ``MaxMessageLengthExceeded``."""
        if self.size > bytes_max:
            raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=str(bytes_max))
        parts = [bytes(view) async for view in self.stream()]
        await self.finish()
        return b"".join(parts)

    async def close(self) -> None:
        """Let go of the threads."""
        await self._hashing.close()
