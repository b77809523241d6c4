"""One segment to its nodes: all pieces at once, failed ones replaced, slow ones left behind.

The rule of the end (design §4): finished when all n pieces are durable, or at least ``commit`` are
and half as much time again has passed as the median piece took; never below ``durable``.

Row groups that most pieces have passed are kept as long as the buffer pool has room (see
``buffers.Keepsake``): from them a replacement node gets the whole piece, parity computed anew, so
an upload outlives the loss of many nodes in its middle.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from typing_extensions import Buffer

from atoll.client.segment.buffers import BufferPool
from atoll.client.segment.encode import RowGroup, SegmentEncoder, rows_per_group
from atoll.client.segment.source import PlainSource
from atoll.client.transfer.hedges import HedgeBudget
from atoll.client.transfer.report import TransferReport
from atoll.client.transfer.send import PieceSend
from atoll.client.transfer.signal import Signal
from atoll.client.transfer.window import GroupWindow
from atoll.core.crypto import SegmentCipher
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of, show_node
from atoll.core.messages import (
    AbandonedSegment,
    ControlPlane,
    DiscardSegments,
    Done,
    GrantList,
    OrderSegment,
    PieceGrant,
    ReplaceGrants,
    SegmentGrant,
    SegmentRecord,
    StoredPiece,
)
from atoll.core.orders import check_receipt, parse_order, parse_receipt
from atoll.core.pieces import Tlv, Trailer
from atoll.core.ports import Address, Clock, Compute, PieceTransport
from atoll.core.scheme import Layout

SMALL_PLAIN_BYTES_MAX = 128 << 10
"""A segment up to this size is encoded at once, on the loop: a thread would cost more."""
SLOW_SOURCE_S = 2.0
"""A source that takes longer for a row group gets small groups."""
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
    replace_rounds_max: int = 8
    """Questions for further nodes, per segment."""


log = logging.getLogger(__name__)


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
        self.report = TransferReport(control, clock)
        self.hedges = HedgeBudget()
        self._receipts = 0

    async def order(
        self, bucket: bytes, plain_bytes: int, policy: int = 0, *, upkeep: bool = False
    ) -> SegmentGrant:
        """Ask for a segment of this size under the bucket's policy.

        ``upkeep``: it is for no new data. Raises ``TOO_FEW_NODES``, and ``UNPAID`` for new data of
        a customer who may store none.
        """
        question = OrderSegment(
            bucket=bucket,
            plain_bytes=plain_bytes,
            gateway_key=self.identity.public_key,
            policy=policy,
            upkeep=upkeep,
        )
        return await self.control.ask(question, SegmentGrant)

    async def discard(self, request: DiscardSegments) -> None:
        """Report what failed uploads left on nodes; a report that gets lost is no error."""
        try:
            await self.control.ask(request, Done)
        except AtollError as fault:
            log.info("the remains of a failed upload stay for now: %s", fault)

    def open(
        self,
        bucket: bytes,
        grant: SegmentGrant,
        plain_bytes: int,
        cipher: SegmentCipher,
        wrapped_key: bytes,
        tlvs: tuple[Tlv, ...] = (),
    ) -> "SegmentUpload":
        """Return an upload of one ordered segment; nothing is sent yet.

        All its pieces carry ``tlvs``, which the trailer's signature covers.
        """
        return SegmentUpload(self, bucket, grant, plain_bytes, cipher, wrapped_key, tlvs)

    def should_check_receipt(self, record_bytes: int) -> bool:
        """Say whether to check this receipt's signature: all big ones, a sample of small ones."""
        self._receipts += 1
        return record_bytes >= RECEIPT_CHECK_BYTES_MIN or self._receipts % RECEIPTS_PER_CHECK == 0


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
        tlvs: tuple[Tlv, ...] = (),
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
        self.encoder = SegmentEncoder(layout, grant.segment, cipher, payer_tag, tlvs)
        self.window = GroupWindow(uploader.buffers, grant.commit)
        self.trailers: list[bytes] = []
        """The encoded trailer of each piece, once all groups are encoded."""
        self._trailer: Trailer | None = None
        self._small = plain_bytes <= SMALL_PLAIN_BYTES_MAX
        self._spares = list(grant.grants[grant.n :])
        self._live: list[PieceSend] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._durable: dict[int, int] = {}
        self._touched: list[StoredPiece] = []
        self._used_aliases = {one.alias for one in grant.grants}
        self._reasons: list[str] = []
        self._wanted: set[int] = set()
        self._asking: asyncio.Task[None] | None = None
        self._rounds = 0
        self.published = Signal()
        """News of a further group or the trailers."""
        self._progress = Signal()
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
                if self.window.groups:
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
            async with asyncio.timeout(uploader.limits.wait_s_max):
                await uploader.turns.acquire()
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
        self.window.add(group)
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
        self.window.add(group)
        if group.number == 0:
            self._start_all()
        self.published.tell()

    def _start_all(self) -> None:
        for index in range(self._grant.n):
            self._uploader.hedges.asked()
            self._start(index, self._grant.grants[index])

    def _complete(self) -> None:
        self._trailer, self.trailers = self.encoder.finish(self._uploader.identity)
        self.published.tell()

    def whole_record(self, index: int) -> bytes | None:
        """Return the whole record of a small piece, ready in one buffer; ``None`` for others."""
        if not self._small:
            return None
        column = self.window.groups[0].column(index, self._grant.k)
        assert column is not None
        return b"".join((self.encoder.heads[index], column, self.trailers[index]))

    # --- pace and memory -------------------------------------------------------------------------

    def advanced(self, send: PieceSend) -> None:
        """Note that a piece has passed a group."""
        if self.window.passed(send.index, send.next_group, self._pieces()):
            self._progress.tell()

    def _pieces(self) -> int:
        """Return how many different pieces are on their way or there."""
        return len({one.index for one in self._live} | self._durable.keys())

    def _count_again(self) -> None:
        """Count anew who has passed what, after a piece was lost with its node."""
        if self._small:
            return  # its only group is no memory of the pool, and stays to the end
        reached = dict.fromkeys(self._durable, len(self.window.groups))
        for send in self._live:
            reached[send.index] = max(reached.get(send.index, 0), send.next_group)
        self.window.count_again(reached, self._pieces())

    async def _room(self) -> None:
        """Wait while the source is too far ahead of the pieces that matter."""
        limits = self._uploader.limits
        while True:
            self._raise_if_hopeless()
            begun = len(self.window.groups) + 1  # one group may still be in the encoder
            if not self._live and not self._asking:
                return
            if self._live and self.window.pace + limits.window_groups >= begun:
                return
            before = self.window.pace
            if not await self._progress.wait(limits.lag_s) and self.window.pace == before:
                self._double_laggards(len(self.window.groups))

    # --- pieces out ------------------------------------------------------------------------------

    def _start(self, index: int, grant: PieceGrant) -> None:
        send = PieceSend(self, index, grant)
        self._live.append(send)
        send.task = asyncio.create_task(self._run(send))
        self._tasks.append(send.task)
        self._touched.append(StoredPiece(index=index, alias=grant.alias))

    @property
    def abandoned(self) -> AbandonedSegment:
        """What this upload may have left on nodes, should it not be committed."""
        return AbandonedSegment(
            segment=self._grant.segment, serial=self._grant.serial, pieces=list(self._touched)
        )

    async def _run(self, send: PieceSend) -> None:
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
            self._uploader.report.put(grant.alias, None)
        except AtollError as fault:
            self._uploader.report.put(grant.alias, fault)
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

    def _leave(self, send: PieceSend) -> bool:
        """Take an ended send from the list; ``False`` if it does not matter any more."""
        if self._over or send not in self._live:
            return False
        self._live.remove(send)
        return True

    def _check(self, send: PieceSend, signed: bytes) -> None:
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

    def _stored(self, send: PieceSend) -> None:
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

    def _lost(self, send: PieceSend, fault: AtollError) -> None:
        """Note a failure and find the piece another node at once."""
        if len(self._reasons) < REASONS_MAX:
            self._reasons.append(f"{show_node(send.grant.node_id)}: {fault.kind.value}")
        twin = any(other.index == send.index for other in self._live)
        if not twin:
            self._replace(send.index)
        self._count_again()
        self._progress.tell()

    def _replace(self, index: int) -> None:
        if not self.window.replayable:
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
                    serial=self._grant.serial,
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
                    if self.window.replayable and wanted not in self._durable:
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
            if not (behind and self._spares and self.window.replayable):
                continue
            if send.index not in self._doubled and self._uploader.hedges.take():
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
            serial=self._grant.serial,
        )

    async def abort(self) -> None:
        """Stop everything that is still under way; safe to call more than once."""
        self._over = True
        if self._has_turn:
            self._has_turn = False
            self._uploader.turns.release()
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
        self.window.drop(self._filling)

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
            self._double_laggards(len(self.window.groups))
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
