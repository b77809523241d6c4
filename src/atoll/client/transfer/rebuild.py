"""One segment's bytes on their way: read k pieces, rebuild the missing ones, send them.

Row groups stream through bounded buffers; a record's trailer, and with it the commit mark, is held
back until ``check_rebuild`` has passed. Nobody is trusted: sources are checked against the
committed roots, and each target recomputes the root and checks the signed trailer for itself.
Whoever repairs runs this: a coordinator, or a node that took the work.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace

from typing_extensions import Buffer

from atoll.client.retention import granted, newest_granted, newest_of
from atoll.core.capsule import tlv_of
from atoll.core.erasure import Codec, codec
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import NodeId, SegmentId, piece_id_of
from atoll.core.merkle import PieceHasher
from atoll.core.messages import PieceGrant
from atoll.core.orders import check_receipt
from atoll.core.pieces import (
    LOCK_TLVS,
    TLV_AREA_BYTES_MAX,
    Header,
    Tlv,
    TlvType,
    Trailer,
    check_trailer,
    crc32c,
    encode_header,
    encode_trailer,
    parse_header,
    parse_trailer,
    record_bytes,
)
from atoll.core.ports import Address, Clock, Compute, PiecePart, PieceStream, PieceTransport
from atoll.core.retention import parse_record

GROUP_BYTES_MAX = 1 << 20
"""Bytes of one row group over all sources and targets; a worker holds about three of them."""
CHUNKS_WAITING_MAX = 2
"""Row groups that may wait for a slow target."""
RECORDS_ASKED_MAX = 5
"""Sources asked for the newest retention record of a segment."""
COUNTER_DOWN = "repair_bytes_downloaded"
COUNTER_UP = "repair_bytes_uploaded"


class SourceError(Exception):
    """A source failed. ``lost`` says that it is the piece, not the way to it."""

    def __init__(self, index: int, cause: AtollError, *, lost: bool) -> None:
        super().__init__(str(cause))
        self.index = index
        self.cause = cause
        self.lost = lost


def source_error(index: int, cause: AtollError) -> SourceError:
    """Judge a failure: a node that says it has not the piece, or serves nonsense, has lost it."""
    lost = cause.kind in (Kind.NOT_FOUND, Kind.DATA_LOST, Kind.CORRUPT, Kind.NEWER_FORMAT)
    return SourceError(index, cause, lost=lost)


class NoTargetError(Exception):
    """Every target failed."""


class WrongBytesError(Exception):
    """Sources served bytes that are not those committed to; ``indexes`` are their pieces.

    Empty where all sources were right and a rebuilt piece is wrong nevertheless: a fault here.
    """

    def __init__(self, indexes: tuple[int, ...]) -> None:
        super().__init__(f"pieces {list(indexes)} are not what was committed to")
        self.indexes = indexes


def check_rebuild(
    piece_roots: Sequence[bytes],
    sources: Mapping[int, PieceHasher],
    targets: Mapping[int, PieceHasher],
) -> None:
    """Compare what was read and what was rebuilt with the committed roots. The one such place.

    ``piece_roots`` come from a trailer already checked against the segment root in the metadata.
    A record gets its trailer, and so its commit mark, only after this has passed: a repair that
    trusted its sources or its own arithmetic could spread damage to every piece of a segment.
    Raises ``WrongBytesError``.
    """
    wrong = tuple(i for i, hasher in sorted(sources.items()) if hasher.root() != piece_roots[i])
    if wrong:
        raise WrongBytesError(wrong)
    if any(hasher.root() != piece_roots[i] for i, hasher in targets.items()):
        raise WrongBytesError(())


class TokenBucket:
    """Bounds bytes per second; a burst of one second is free."""

    __slots__ = ("_clock", "_rate", "_ready")

    def __init__(self, clock: Clock, bytes_per_second: int) -> None:
        self._clock = clock
        self._rate = bytes_per_second
        self._ready = clock.monotonic() - 1.0

    async def take(self, count: int) -> None:
        """Wait until ``count`` bytes may move. First come, first served."""
        now = self._clock.monotonic()
        self._ready = max(self._ready, now - 1.0) + count / self._rate
        if self._ready > now:
            await self._clock.sleep(self._ready - now)


@dataclass(frozen=True, slots=True)
class Source:
    """A node to read one piece from."""

    grant: PieceGrant

    @property
    def index(self) -> int:
        """Of the piece."""
        return self.grant.index

    @property
    def alias(self) -> int:
        """The node, as its coordinator calls it."""
        return self.grant.alias

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(self.grant.host, self.grant.port, self.grant.fingerprint)


@dataclass(frozen=True, slots=True)
class Job:
    """A segment's rebuild: geometry, who is read, who gets what."""

    header: Header
    """Of any piece, with the payer tag the new pieces get; its TLVs are filled in later."""
    segment_root: bytes
    sources: tuple[Source, ...]
    """Exactly k; where pieces are only moved, those pieces, in the order of ``targets``."""
    targets: tuple[Source, ...]
    move: bool = False
    """Every target gets the very piece that the source of its index holds: nothing is decoded."""


@dataclass(slots=True)
class Traffic:
    """Bytes moved and not yet counted in the database."""

    downloaded: int = 0
    uploaded: int = 0

    def take(self) -> dict[str, int]:
        """Return the figures as counters and begin again."""
        taken = {COUNTER_DOWN: self.downloaded, COUNTER_UP: self.uploaded}
        self.downloaded = self.uploaded = 0
        return taken


class _Upload:
    """One new piece on its way to its node."""

    def __init__(self, target: Source, header: Header, node_root: bytes) -> None:
        self.target = target
        self.header = header
        self.root = node_root
        self.hasher = PieceHasher()
        self.failure: str = ""
        self.receipt = b""
        self._head = encode_header(header)
        self.crc = crc32c(self._head)
        self._queue: asyncio.Queue[Buffer] = asyncio.Queue(CHUNKS_WAITING_MAX)
        self._task: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        return not self.failure

    def start(self, transport: PieceTransport, stall_s: float) -> None:
        self._task = asyncio.create_task(self._send(transport, stall_s))

    async def _send(self, transport: PieceTransport, stall_s: float) -> None:
        try:
            signed = await transport.put_piece(
                self.target.address,
                self.header.piece_id,
                self.target.grant.order,
                self._body(),
                record_bytes(self.header),
                stall_s,
            )
            receipt = check_receipt(signed, NodeId(self.target.grant.node_id))
            if (receipt.segment_id, receipt.index, receipt.piece_root) != (
                self.header.segment_id,
                self.header.index,
                self.root,
            ):
                self.failure = "its receipt is for another piece"
            self.receipt = signed
        except AtollError as cause:
            self.failure = str(cause)
        finally:
            # Whoever waits with the next row group must not wait for a target that is gone.
            while not self._queue.empty():
                self._queue.get_nowait()

    async def _body(self) -> AsyncIterator[Buffer]:
        yield self._head
        left = record_bytes(self.header) - len(self._head)
        while left:
            chunk = await self._queue.get()
            left -= memoryview(chunk).nbytes
            yield chunk

    async def give(self, chunk: Buffer) -> None:
        task = self._task
        assert task is not None
        if task.done():
            self.failure = self.failure or "it answered before the end"
            return
        await self._queue.put(chunk)

    async def end(self) -> bool:
        """Wait for the node's answer; True for a good receipt."""
        assert self._task is not None
        await asyncio.wait([self._task])
        return self.open

    def cancel(self) -> "asyncio.Task[None] | None":
        if self._task is not None and not self._task.done():
            self._task.cancel()
        return self._task


class Rebuild:
    """Runs one job. ``released`` says whether any trailer was sent: before, no piece can exist."""

    def __init__(
        self,
        job: Job,
        *,
        transport: PieceTransport,
        compute: Compute,
        bandwidth: TokenBucket,
        stall_s: float,
        traffic: Traffic,
    ) -> None:
        self._job = job
        self._transport = transport
        self._compute = compute
        self._bandwidth = bandwidth
        self._stall_s = stall_s
        self._traffic = traffic
        self.released = False
        self.failures: dict[int, str] = {}
        self.trailer = b""
        """The committed roots as a source served them, once they are checked."""
        self.receipts: dict[int, bytes] = {}
        """What the targets signed, by piece index."""

    async def run(self) -> list[Source]:
        """Return the targets that hold their piece durably; ``failures`` tells of the others.

        Raises ``SourceError`` (one source), ``WrongBytesError`` (sources named) and
        ``NoTargetError``.
        """
        trailer = await self._trailer()
        header = replace(self._job.header, tlvs=await self._tlvs(trailer))
        uploads = [
            _Upload(target, replace(header, index=target.index), trailer.piece_roots[target.index])
            for target in self._job.targets
        ]
        streams: list[PieceStream] = []
        try:
            for upload in uploads:
                upload.start(self._transport, self._stall_s)
            await self._open(streams)
            hashers = await self._pump(streams, uploads)
            check_rebuild(
                trailer.piece_roots,
                hashers,
                {upload.header.index: upload.hasher for upload in uploads},
            )
            self.released = True
            for upload in uploads:
                await upload.give(encode_trailer(upload.header, trailer, upload.crc))
            ended_well = [upload for upload in uploads if await upload.end()]
            self.receipts = {upload.header.index: upload.receipt for upload in ended_well}
            done = [upload.target for upload in ended_well]
        finally:
            ended = [task for upload in uploads if (task := upload.cancel()) is not None]
            if ended:
                await asyncio.wait(ended)
            for stream in streams:
                await stream.close()
            self.failures = {u.target.alias: u.failure for u in uploads if u.failure}
        return done

    async def _get(self, source: Source, part: PiecePart) -> bytes:
        try:
            got = await self._transport.get_piece(
                source.address,
                piece_id_of(self._job.header.segment_id, source.index),
                source.grant.order,
                part,
                0,
                0,
                self._stall_s,
            )
        except AtollError as cause:
            raise source_error(source.index, cause) from cause
        self._traffic.downloaded += len(got)
        return got

    async def _trailer(self) -> Trailer:
        """Return the roots, from the first source; they must make the segment's root."""
        source = self._job.sources[0]
        header = replace(self._job.header, index=source.index)
        data = await self._get(source, PiecePart.TRAILER)
        try:
            trailer = checked_trailer(header, data, self._job.segment_root)
        except AtollError as cause:
            raise source_error(source.index, cause) from cause
        self.trailer = data
        return trailer

    async def _tlvs(self, trailer: Trailer) -> tuple[Tlv, ...]:
        """Return the TLVs that the uploader signed, as the source of the trailer serves them.

        New pieces carry them on, byte for byte, but for the retention record: the newest that any
        of some sources keeps.
        """
        source = self._job.sources[0]
        data = await self._get(source, PiecePart.HEAD)
        try:
            header = parse_header(data)
            if replace(header, tlvs=(), payer_tag=self._job.header.payer_tag) != replace(
                self._job.header, index=source.index
            ):
                raise AtollError(
                    Kind.CORRUPT, "repair segment", "a node served the head of another piece"
                )
            check_trailer(header, trailer)
        except AtollError as cause:
            raise source_error(source.index, cause) from cause
        rest = tuple(tlv for tlv in header.tlvs if tlv.type not in LOCK_TLVS)
        return (*await self._lock_tlvs(header), *rest)

    async def _lock_tlvs(self, header: Header) -> tuple[Tlv, ...]:
        """Return the newest record and its grant, as TLVs; nothing where either is not found."""
        shown = await self._records()
        said, grants = (
            [tlv.value for tlv in header.tlvs if tlv.type == wanted]
            for wanted in (TlvType.RETENTION, TlvType.LOCK_GRANT)
        )
        record = newest_of([*said, *(one for one, _ in shown)], header.segment_id)
        owner = tlv_of(header, TlvType.OWNER_KEY_HASH)
        if not record or owner is None:
            return ()
        offered = [*grants, *(grant for _, grant in shown)]
        grant = granted(offered, parse_record(record).lock_key, owner)
        if not grant:
            return ()
        return Tlv(TlvType.RETENTION, record), Tlv(TlvType.LOCK_GRANT, grant)

    async def _records(self) -> list[tuple[bytes, bytes]]:
        """Return what some sources keep of the segment's retention; who does not answer, nothing.

        A record that is missed here is told to the new holder later (``coordinator.retention``).
        """

        async def one(source: Source) -> tuple[bytes, bytes]:
            piece = piece_id_of(self._job.header.segment_id, source.index)
            try:
                (shown,) = await newest_granted(
                    self._transport, source.address, [piece], self._stall_s
                )
            except AtollError:
                return b"", b""
            return shown

        asked = self._job.sources[:RECORDS_ASKED_MAX]
        return list(await asyncio.gather(*(one(source) for source in asked)))

    async def _open(self, streams: list[PieceStream]) -> None:
        async def one(source: Source) -> None:
            try:
                stream = await self._transport.open_piece(
                    source.address,
                    piece_id_of(self._job.header.segment_id, source.index),
                    source.grant.order,
                    0,
                    self._job.header.data_bytes,
                    self._stall_s,
                )
            except AtollError as cause:
                raise source_error(source.index, cause) from cause
            opened[source.index] = stream

        opened: dict[int, PieceStream] = {}
        try:
            await _all([one(source) for source in self._job.sources])
        finally:
            streams.extend(opened.values())
        streams[:] = [opened[source.index] for source in self._job.sources]

    async def _pump(
        self, streams: Sequence[PieceStream], uploads: Sequence[_Upload]
    ) -> dict[int, PieceHasher]:
        """Move all row groups; return the sources' hashers."""
        header = self._job.header
        parties = len(streams) + len(uploads)
        rows = max(1, GROUP_BYTES_MAX // (parties * header.unit_bytes))
        group_bytes = min(header.data_bytes, rows * header.unit_bytes)
        buffers = [memoryview(bytearray(group_bytes)) for _ in streams]
        hashers = {source.index: PieceHasher() for source in self._job.sources}
        left = header.data_bytes
        while left:
            length = min(left, group_bytes)
            await self._bandwidth.take(length * parties)
            views = [buffer[:length] for buffer in buffers]
            await self._read(streams, views)
            targets = [memoryview(bytearray(length)) for _ in uploads]
            await self._compute.run(
                _rebuild_group,
                None if self._job.move else codec(header.k, header.n),
                list(hashers.items()),
                views,
                uploads,
                targets,
                length,
            )
            for upload, target in zip(uploads, targets, strict=True):
                if upload.open:
                    await upload.give(target)
                    self._traffic.uploaded += length
            if not any(upload.open for upload in uploads):
                raise NoTargetError
            left -= length
        return hashers

    async def _read(self, streams: Sequence[PieceStream], views: Sequence[memoryview]) -> None:
        async def one(source: Source, stream: PieceStream, view: memoryview) -> None:
            try:
                await stream.read_into(view)
            except AtollError as cause:
                raise source_error(source.index, cause) from cause
            self._traffic.downloaded += len(view)

        await _all(
            [
                one(source, stream, view)
                for source, stream, view in zip(self._job.sources, streams, views, strict=True)
            ]
        )


async def _all(steps: Sequence[Coroutine[object, object, None]]) -> None:
    """Run coroutines together; on the first failure stop the others, then raise it."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _rebuild_group(
    code: Codec | None,
    sources: Sequence[tuple[int, PieceHasher]],
    views: Sequence[memoryview],
    uploads: Sequence[_Upload],
    targets: Sequence[memoryview],
    length: int,
) -> None:
    """Hash what was read, rebuild (or copy) what is wanted, hash that too. Runs off the loop."""
    for (_, hasher), view in zip(sources, views, strict=True):
        hasher.update(view)
    if code is None:
        for view, target in zip(views, targets, strict=True):
            target[:] = view
    else:
        code.rebuild(
            [index for index, _ in sources],
            views,
            [upload.header.index for upload in uploads],
            targets,
            length,
        )
    for upload, target in zip(uploads, targets, strict=True):
        upload.hasher.update(target)
        upload.crc = crc32c(target, upload.crc)


def checked_trailer(header: Header, data: bytes, root: bytes) -> Trailer:
    """Read a trailer that a node served and hold it against the metadata's segment root.

    Its signature, which covers the TLVs too, is left to whoever reads those. Raises ``CORRUPT``.
    """
    trailer, _ = parse_trailer(header, data)
    if trailer.segment_root != root:
        raise AtollError(
            Kind.CORRUPT, "repair segment", "a node served the trailer of another segment"
        )
    check_trailer(header, trailer, signature=False)
    return trailer


async def check_stored_piece(
    source: Source,
    header: Header,
    segment_root: bytes,
    transport: PieceTransport,
    compute: Compute,
    bandwidth: TokenBucket,
    stall_s: float,
) -> None:
    """Read a whole piece and check it against the committed root: is this node a liar?

    Raises ``SourceError``; with ``lost`` where the node serves anything but its piece.
    """
    piece_id = piece_id_of(SegmentId(header.segment_id), source.index)
    order = source.grant.order
    try:
        data = await transport.get_piece(
            source.address, piece_id, order, PiecePart.TRAILER, 0, 0, stall_s
        )
        trailer = checked_trailer(header, data, segment_root)
        stream = await transport.open_piece(
            source.address, piece_id, order, 0, header.data_bytes, stall_s
        )
        try:
            hasher = PieceHasher()
            left = header.data_bytes
            buffer = memoryview(bytearray(min(left, GROUP_BYTES_MAX // 2)))
            while left:
                view = buffer[: min(left, len(buffer))]
                await bandwidth.take(len(view))
                await stream.read_into(view)
                await compute.run(hasher.update, view)
                left -= len(view)
        finally:
            await stream.close()
        check_rebuild(trailer.piece_roots, {source.index: hasher}, {})
    except AtollError as cause:
        raise source_error(source.index, cause) from cause
    except WrongBytesError as wrong:
        found = AtollError(Kind.CORRUPT, "check piece", str(wrong), about=str(source.alias))
        raise SourceError(source.index, found, lost=True) from wrong


def read_cap(header: Header) -> int:
    """Return the bytes a repair's read limit admits: the whole record with any TLVs."""
    return record_bytes(replace(header, tlvs=())) + TLV_AREA_BYTES_MAX
