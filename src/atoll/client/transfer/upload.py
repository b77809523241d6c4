"""One segment to its nodes: all pieces at once, failed ones replaced, slow ones left behind.

The rule of the end (design §4): finished when all n pieces are durable, or at least ``commit`` are
and half as much time again has passed as the median piece took; never below ``durable``.

Row groups that most pieces have passed are kept as long as the buffer pool has room (see
``buffers.Keepsake``): from them a replacement node gets the whole piece, parity computed anew, so
an upload outlives the loss of many nodes in its middle.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from typing_extensions import Buffer

from atoll.client.segment.buffers import BufferPool
from atoll.client.segment.encode import RowGroup, SegmentEncoder, rebuild_column, rows_per_group
from atoll.client.segment.source import PlainSource
from atoll.core.crypto import SegmentCipher
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of, show_node
from atoll.core.messages import (
    ControlPlane,
    GrantList,
    OrderSegment,
    PieceGrant,
    ReplaceGrants,
    SegmentGrant,
    SegmentRecord,
    StoredPiece,
)
from atoll.core.orders import check_receipt, parse_order, parse_receipt
from atoll.core.pieces import Trailer
from atoll.core.ports import Address, Clock, Compute, PieceTransport
from atoll.core.scheme import Layout

SMALL_PLAIN_BYTES_MAX = 128 << 10
"""A segment up to this size is encoded at once, on the loop: a thread would cost more."""
SLOW_SOURCE_S = 2.0
"""A source that takes longer for a row group gets groups of one row."""
RECEIPTS_PER_CHECK = 16
"""Of the receipts for small pieces, one in so many has its signature checked (0.1 ms each)."""
RECEIPT_CHECK_BYTES_MIN = 64 << 10
"""Receipts for records from this size on are all checked."""
REASONS_MAX = 8


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How patient an upload is."""

    uploads_max: int = 40
    """Segments too large to encode at once that a worker sends at the same time; others wait.

    With 12 nodes and 8 pieces it means 27 connections to each node."""
    wait_s_max: float = 60.0
    """An upload that does not get its turn for so long is refused with ``OVERLOADED``."""
    window_groups: int = 4
    """Row groups that the source may be ahead of the pieces that matter."""
    piece_timeout_s: float = 10.0
    """A node that takes or answers nothing for so long has failed."""
    tail_s_min: float = 0.2
    """The least time a slow piece gets after the median one: jitter is not slowness."""
    lag_s: float = 1.0
    """After so long without progress the pieces behind get a second node beside the first."""
    late_factor: float = 3.0
    late_s_min: float = 2.0
    """With ``durable`` but not ``commit`` pieces, an upload waits this much longer."""
    replace_rounds_max: int = 4
    """Questions for further nodes, per segment."""


class SegmentUploader:
    """Uploads segments; one per worker, shared by all its uploads."""

    def __init__(
        self,
        control: ControlPlane,
        transport: PieceTransport,
        compute: Compute,
        clock: Clock,
        identity: Identity,
        buffers: BufferPool,
        limits: UploadLimits | None = None,
    ) -> None:
        """``identity`` is the gateway's: it may use the orders and signs the trailers."""
        self.control = control
        self.transport = transport
        self.compute = compute
        self.clock = clock
        self.identity = identity
        self.buffers = buffers
        self.limits = limits or UploadLimits()
        self.turns = asyncio.Semaphore(self.limits.uploads_max)
        self._receipts = 0

    async def order(self, bucket: bytes, plain_bytes: int) -> SegmentGrant:
        """Ask for a segment of this size. Raises ``TOO_FEW_NODES``."""
        question = OrderSegment(
            bucket=bucket, plain_bytes=plain_bytes, gateway_key=self.identity.public_key
        )
        return await self.control.ask(question, SegmentGrant)

    def open(
        self,
        bucket: bytes,
        grant: SegmentGrant,
        plain_bytes: int,
        cipher: SegmentCipher,
        wrapped_key: bytes,
    ) -> "SegmentUpload":
        """Return an upload of one ordered segment; nothing is sent yet."""
        return SegmentUpload(self, bucket, grant, plain_bytes, cipher, wrapped_key)

    def should_check_receipt(self, record_bytes: int) -> bool:
        """Say whether to check this receipt's signature: all big ones, a sample of small ones."""
        self._receipts += 1
        return record_bytes >= RECEIPT_CHECK_BYTES_MIN or self._receipts % RECEIPTS_PER_CHECK == 0


class _Signal:
    """Wakes whoever waits for news; cheaper than an event, and with a time limit of its own."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[bool]] = []

    def tell(self) -> None:
        """Wake all that wait now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                _wake(one, True)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return ``True`` at the next news, ``False`` when the time is over."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(future)
        timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, future, False)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)


def _wake(future: "asyncio.Future[bool]", news: bool) -> None:
    if not future.done():
        future.set_result(news)


class _Send:
    """One piece on its way to one node; the body that the transport asks for part by part."""

    __slots__ = ("_begun", "_ended", "_sending", "_upload", "grant", "index", "next_group", "task")

    def __init__(self, upload: "SegmentUpload", index: int, grant: PieceGrant) -> None:
        self._upload = upload
        self.index = index
        self.grant = grant
        self.next_group = 0
        """The row groups before this one have left for the node."""
        self._begun = False
        self._sending = False
        self._ended = False
        self.task: asyncio.Task[None] | None = None

    def __aiter__(self) -> "_Send":
        return self

    async def __anext__(self) -> Buffer:
        upload = self._upload
        if not self._begun:
            self._begun = True
            whole = upload.whole_record(self.index)
            if whole is not None:
                self._ended = True
                return whole
            return upload.encoder.heads[self.index]
        if self._ended:
            raise StopAsyncIteration
        if self._sending:
            self._sending = False
            self.next_group += 1
            upload.advanced(self)
        while self.next_group == len(upload.groups):
            if upload.trailers:
                self._ended = True
                return upload.trailers[self.index]
            await upload.published.wait()
        group = upload.groups[self.next_group]
        layout = upload.encoder.layout
        part = rebuild_column(group, self.index, layout.k, layout.n)
        if part is None:
            raise AtollError(
                Kind.TIMEOUT, "send piece", "too slow: its part is no longer in memory"
            )
        self._sending = True
        return part


class _Kept:
    """A row group that the pool may drop when it needs the room."""

    __slots__ = ("_group", "_upload")

    def __init__(self, upload: "SegmentUpload", group: RowGroup) -> None:
        self._upload = upload
        self._group = group

    def shed(self) -> None:
        """Drop the group: from now on no piece of this segment can be sent from its start."""
        self._group.data = self._group.parity = None
        self._upload.replayable = False


class SegmentUpload:
    """One segment being stored: ``send`` its plaintext, then ``finish``; or ``abort``."""

    def __init__(
        self,
        uploader: SegmentUploader,
        bucket: bytes,
        grant: SegmentGrant,
        plain_bytes: int,
        cipher: SegmentCipher,
        wrapped_key: bytes,
    ) -> None:
        """Raises ``INTERNAL`` for a grant that gives no node to some piece."""
        layout = Layout(plain_bytes, grant.k, grant.n, grant.unit_bytes)
        if [one.index for one in grant.grants[: grant.n]] != list(range(grant.n)):
            raise AtollError(
                Kind.INTERNAL, "upload segment", "the coordinator did not grant all pieces"
            )
        self._uploader = uploader
        self._bucket = bucket
        self._grant = grant
        self._wrapped_key = wrapped_key
        payer_tag = parse_order(grant.grants[0].order).payer_tag
        self.encoder = SegmentEncoder(layout, grant.segment, cipher, payer_tag)
        self.groups: list[RowGroup] = []
        """Row groups encoded so far."""
        self.trailers: list[bytes] = []
        """The encoded trailer of each piece, once all groups are encoded."""
        self.replayable = True
        """Whether all groups so far are still in memory."""
        self._trailer: Trailer | None = None
        self._small = plain_bytes <= SMALL_PLAIN_BYTES_MAX
        self._spares = list(grant.grants[grant.n :])
        self._live: list[_Send] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._durable: dict[int, int] = {}
        self._used_aliases = {one.alias for one in grant.grants}
        self._reasons: list[str] = []
        self._wanted: set[int] = set()
        self._asking: asyncio.Task[None] | None = None
        self._rounds = 0
        self.published = _Signal()
        """News of a further group or the trailers."""
        self._progress = _Signal()
        self._kept: list[int] = []
        self._parity_dropped = 0
        self._reached: dict[int, int] = {}
        self._passes: list[int] = []
        self._pace = 0
        self._doubled: set[int] = set()
        self._started = uploader.clock.monotonic()
        self._source_wait_s = 0.0
        self._finish_times: list[float] = []
        self._filling: RowGroup | None = None
        self._has_turn = False
        self._over = False

    # --- plaintext in ----------------------------------------------------------------------------

    async def send(self, source: PlainSource) -> None:
        """Take this segment's plaintext from the source and send it on.

        Raises what the source raises, and ``TOO_FEW_NODES`` as soon as too many nodes have failed.
        """
        if self._small:
            await self._send_small(source)
            return
        await self._take_turn()
        encoder, buffers = self.encoder, self._uploader.buffers
        encoding: asyncio.Task[None] | None = None
        slow = False
        try:
            while encoder.rows_begun < encoder.layout.rows:
                if self.groups:
                    await self._room()
                rows = rows_per_group(encoder.layout, pressed=buffers.pressed or slow)
                rows = min(rows, encoder.layout.rows - encoder.rows_begun)
                before_s = self._source_wait_s
                data, parity = await buffers.acquire(*encoder.group_bytes(rows))
                group = self._filling = encoder.begin(rows, data, parity)
                del data, parity
                await self._fill(group, source)
                # Nodes give up on uploads that stand still: a slow source sends less at a time.
                slow = self._source_wait_s - before_s > SLOW_SOURCE_S
                if encoding is not None:
                    await encoding
                encoding = asyncio.create_task(self._encode(group))
            if encoding is not None:
                await encoding
        except BaseException:
            if encoding is not None:
                encoding.cancel()
                await asyncio.gather(encoding, return_exceptions=True)
                encoding = None  # it holds its group, and the traceback holds this frame
            raise
        self._complete()

    async def _take_turn(self) -> None:
        uploader = self._uploader
        try:
            await asyncio.wait_for(uploader.turns.acquire(), uploader.limits.wait_s_max)
        except TimeoutError:
            raise AtollError(
                Kind.OVERLOADED,
                "upload segment",
                "this worker sends as many segments as it can",
                hint="try again shortly",
            ) from None
        self._has_turn = True

    async def _send_small(self, source: PlainSource) -> None:
        encoder = self.encoder
        rows = encoder.layout.rows
        data_bytes, parity_bytes = encoder.group_bytes(rows)
        buffer = memoryview(bytearray(data_bytes + parity_bytes))
        group = encoder.begin(rows, buffer[:data_bytes], buffer[data_bytes:])
        await self._fill(group, source)
        encoder.encode(group)
        self.groups.append(group)
        self._passes.append(0)
        self._complete()
        self._start_all()

    async def _fill(self, group: RowGroup, source: PlainSource) -> None:
        encoder, clock = self.encoder, self._uploader.clock
        if encoder.layout.plain_bytes == 0:
            encoder.fill(group, b"")
        while not encoder.full(group):
            before = clock.monotonic()
            view = await source.view()
            self._source_wait_s += clock.monotonic() - before
            source.take(encoder.fill(group, view))

    async def _encode(self, group: RowGroup) -> None:
        await self._uploader.compute.run(self.encoder.encode, group)
        self.groups.append(group)
        self._passes.append(0)
        if group.number == 0:
            self._start_all()
        self.published.tell()

    def _start_all(self) -> None:
        for index in range(self._grant.n):
            self._start(index, self._grant.grants[index])

    def _complete(self) -> None:
        self._trailer, self.trailers = self.encoder.finish(self._uploader.identity)
        self.published.tell()

    def whole_record(self, index: int) -> bytes | None:
        """Return the whole record of a small piece, ready in one buffer; ``None`` for others."""
        if not self._small:
            return None
        column = self.groups[0].column(index, self._grant.k)
        assert column is not None
        return b"".join((self.encoder.heads[index], column, self.trailers[index]))

    # --- pace and memory -------------------------------------------------------------------------

    def advanced(self, send: _Send) -> None:
        """Note that a piece has passed a group: release or lend to the pool what is passed."""
        group = send.next_group - 1
        if self._reached.get(send.index, 0) > group:
            return  # another node is ahead with the same piece
        self._reached[send.index] = group + 1
        self._passes[group] += 1
        self._let_go()

    def _let_go(self) -> None:
        """Move on behind the pieces: the pace, what may be shed, the parity all have passed.

        A group passed by as many pieces as a commit usually has is no longer needed but for the
        others; parity can be computed again.
        """
        groups, passes = self.groups, self._passes
        pieces = len({one.index for one in self._live} | self._durable.keys())
        matter = max(1, min(self._grant.commit, pieces))
        pace = self._pace
        while pace < len(groups) and passes[pace] >= matter:
            pace += 1
        if pace == self._pace:
            return
        self._pace = pace
        while self._parity_dropped < pace and passes[self._parity_dropped] >= pieces:
            groups[self._parity_dropped].parity = None
            self._parity_dropped += 1
        buffers = self._uploader.buffers
        while len(self._kept) < pace:
            number = buffers.new_number()
            group = groups[len(self._kept)]
            self._kept.append(number)
            buffers.keep(number, _Kept(self, group), self.encoder.group_bytes(group.rows)[0])
        self._progress.tell()

    def _count_again(self) -> None:
        """Count anew who has passed what, after a piece was lost with its node."""
        self._reached.clear()
        for send in self._live:
            best = self._reached.get(send.index, 0)
            self._reached[send.index] = max(best, send.next_group)
        for index in self._durable:
            self._reached[index] = len(self.groups)
        self._passes = [
            sum(reached > group for reached in self._reached.values())
            for group in range(len(self.groups))
        ]
        self._pace = 0
        self._let_go()

    async def _room(self) -> None:
        """Wait while the source is too far ahead of the pieces that matter."""
        limits = self._uploader.limits
        while True:
            self._raise_if_hopeless()
            begun = len(self.groups) + 1  # one group may still be in the encoder
            if not self._live and not self._asking:
                return
            if self._live and self._pace + limits.window_groups >= begun:
                return
            before = self._pace
            if not await self._progress.wait(limits.lag_s) and self._pace == before:
                self._double_laggards(len(self.groups))

    # --- pieces out ------------------------------------------------------------------------------

    def _start(self, index: int, grant: PieceGrant) -> None:
        send = _Send(self, index, grant)
        self._live.append(send)
        send.task = asyncio.create_task(self._run(send))
        self._tasks.append(send.task)

    async def _run(self, send: _Send) -> None:
        grant = send.grant
        try:
            receipt = await self._uploader.transport.put_piece(
                Address(grant.host, grant.port, grant.fingerprint),
                piece_id_of(SegmentId(self._grant.segment), send.index),
                grant.order,
                send,
                self.encoder.record_bytes,
                self._uploader.limits.piece_timeout_s,
            )
            self._check(send, receipt)
        except AtollError as fault:
            if self._leave(send):
                self._lost(send, fault)
        except BaseException:
            self._progress.tell()
            raise
        else:
            if self._leave(send):
                self._stored(send)
        finally:
            send.task = None  # or a failure's traceback would hold itself, and buffers, alive

    def _leave(self, send: _Send) -> bool:
        """Take an ended send from the list; ``False`` if it does not matter any more."""
        if self._over or send not in self._live:
            return False
        self._live.remove(send)
        return True

    def _check(self, send: _Send, signed: bytes) -> None:
        """Raise unless the receipt is this node's word for this very piece."""
        trailer, grant = self._trailer, send.grant
        if self._uploader.should_check_receipt(self.encoder.record_bytes):
            receipt = check_receipt(signed, grant.node_id)
            right = receipt.serial == parse_order(grant.order).serial
        else:
            receipt = parse_receipt(signed)
            right = receipt.node_id == grant.node_id
        if (
            not right
            or trailer is None
            or receipt.segment_id != self._grant.segment
            or receipt.index != send.index
            or receipt.piece_root != trailer.piece_roots[send.index]
        ):
            raise AtollError(Kind.CORRUPT, "check receipt", "the node's receipt is not for this")

    def _stored(self, send: _Send) -> None:
        self._durable[send.index] = send.grant.alias
        self._finish_times.append(self._uploader.clock.monotonic())
        for twin in [other for other in self._live if other.index == send.index]:
            self._live.remove(twin)
            if twin.task is not None:
                twin.task.cancel()
        stored = len(self._durable)
        if not self._live or stored == self._grant.k + 1 or stored >= self._grant.commit:
            # The first news sets the clock for those behind; the others end the upload.
            self._progress.tell()

    def _lost(self, send: _Send, fault: AtollError) -> None:
        """Note a failure and find the piece another node at once."""
        if len(self._reasons) < REASONS_MAX:
            self._reasons.append(f"{show_node(send.grant.node_id)}: {fault.kind.value}")
        twin = any(other.index == send.index for other in self._live)
        if not twin:
            self._replace(send.index)
        self._count_again()
        self._progress.tell()

    def _replace(self, index: int) -> None:
        if not self.replayable:
            return
        if self._spares:
            self._start(index, self._spares.pop(0))
            return
        self._wanted.add(index)
        if self._asking is None and self._rounds < self._uploader.limits.replace_rounds_max:
            self._asking = asyncio.create_task(self._ask())
            self._tasks.append(self._asking)

    async def _ask(self) -> None:
        """Ask the coordinator for other nodes, as long as some piece wants one."""
        try:
            while self._wanted and self._rounds < self._uploader.limits.replace_rounds_max:
                self._rounds += 1
                indexes = sorted(self._wanted)
                question = ReplaceGrants(
                    bucket=self._bucket,
                    segment=self._grant.segment,
                    plain_bytes=self.encoder.layout.plain_bytes,
                    k=self._grant.k,
                    n=self._grant.n,
                    indexes=indexes,
                    used_aliases=sorted(self._used_aliases),
                    gateway_key=self._uploader.identity.public_key,
                )
                answer = await self._uploader.control.ask(question, GrantList)
                for index, grant in zip(indexes, answer.grants, strict=False):
                    wanted = grant.index if grant.index in self._wanted else index
                    self._used_aliases.add(grant.alias)
                    self._wanted.discard(wanted)
                    if self.replayable and wanted not in self._durable:
                        self._start(wanted, grant)
                if len(answer.grants) < len(indexes):
                    return
        except AtollError as fault:
            if len(self._reasons) < REASONS_MAX:
                self._reasons.append(f"no replacement: {fault.kind.value}")
        finally:
            self._asking = None
            self._progress.tell()

    def _double_laggards(self, groups: int) -> None:
        """Give each piece that is behind a second node, once, while spares last."""
        for send in list(self._live):
            behind = send.next_group < groups or bool(self.trailers)
            if not (behind and self._spares and self.replayable):
                continue
            if send.index not in self._doubled:
                self._doubled.add(send.index)
                self._start(send.index, self._spares.pop(0))

    # --- the end ---------------------------------------------------------------------------------

    async def finish(self) -> SegmentRecord:
        """Wait until the segment is durable enough; return its record.

        Raises ``TOO_FEW_NODES`` if it cannot become so: then nothing of it counts.
        """
        try:
            while not self._settled():
                await self._progress.wait(self._patience_s())
        finally:
            await self.abort()
        assert self._trailer is not None
        return SegmentRecord(
            segment=self._grant.segment,
            plain_bytes=self.encoder.layout.plain_bytes,
            k=self._grant.k,
            n=self._grant.n,
            unit_bytes=self._grant.unit_bytes,
            root=self._trailer.segment_root,
            wrapped_key=self._wrapped_key,
            pieces=[
                StoredPiece(index=index, alias=self._durable[index])
                for index in sorted(self._durable)
            ],
        )

    async def abort(self) -> None:
        """Stop everything that is still under way; safe to call more than once."""
        self._over = True
        if self._has_turn:
            self._has_turn = False
            self._uploader.turns.release()
        for number in self._kept:
            self._uploader.buffers.forget(number)
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()  # looked at, lest the loop reports it as forgotten
        self._tasks.clear()
        self._live.clear()
        # Dropped one by one: the frames of a failure's traceback may still hold the groups.
        for group in (*self.groups, self._filling):
            if group is not None:
                group.data = group.parity = None
        self.groups.clear()

    def _settled(self) -> bool:
        self._raise_if_hopeless()
        stored = len(self._durable)
        if stored == self._grant.n or not (self._live or self._asking):
            return True  # below ``durable`` this would have been hopeless
        now = self._uploader.clock.monotonic()
        soon, late = self._cut_offs()
        if soon <= now:
            if stored >= self._grant.commit:
                return True
            self._double_laggards(len(self.groups))
        return late <= now and stored >= self._grant.durable

    def _cut_offs(self) -> tuple[float, float]:
        """Return when ``commit`` pieces are enough, and when ``durable`` ones are."""
        if len(self._durable) <= self._grant.k:
            return float("inf"), float("inf")
        limits = self._uploader.limits
        median = sorted(self._finish_times)[(len(self._finish_times) - 1) // 2]
        took = max(0.0, median - self._started - self._source_wait_s)
        soon = median + max(0.5 * took, limits.tail_s_min)
        return soon, median + max((limits.late_factor - 1) * took, limits.late_s_min)

    def _patience_s(self) -> float | None:
        now = self._uploader.clock.monotonic()
        ahead = [moment - now for moment in self._cut_offs() if now < moment < float("inf")]
        return max(min(ahead), 0.001) if ahead else None

    def _raise_if_hopeless(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and (fault := task.exception()) is not None:
                raise fault
        coming = {send.index for send in self._live} - self._durable.keys()
        if self._asking is not None:
            coming |= self._wanted
        if len(self._durable) + len(coming) >= self._grant.durable:
            return
        reasons = ", ".join(self._reasons) or "no node left"
        raise AtollError(
            Kind.TOO_FEW_NODES,
            "upload segment",
            f"only {len(self._durable) + len(coming)} of at least {self._grant.durable} pieces"
            f" could be placed ({reasons})",
            hint="start or add nodes and try again; nothing of this upload is visible",
        )


async def upload_segment(upload: SegmentUpload, source: AsyncIterator[Buffer]) -> SegmentRecord:
    """Store one segment whose plaintext is all of ``source``; clean up whatever happens."""
    plain = PlainSource(source, upload.encoder.layout.plain_bytes)
    try:
        await upload.send(plain)
        await plain.finish()
        return await upload.finish()
    finally:
        await upload.abort()
