"""Repair work that this node takes over from its coordinators: read k pieces, build, send.

It asks; nobody pushes work onto it. Its owner's limits hold: how many tasks at once, how many
bytes a second, and nothing while the machine is busy with its owner's own work.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from atoll.client.transfer.rebuild import (
    Job,
    NoTargetError,
    Rebuild,
    Source,
    SourceError,
    TokenBucket,
    Traffic,
    WrongBytesError,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import PayerTag, SegmentId
from atoll.core.messages import Message
from atoll.core.messages.repairs import (
    AskRepairWork,
    FinishRepairWork,
    RepairOffer,
    RepairSettled,
    RepairTask,
)
from atoll.core.pieces import Header
from atoll.core.ports import Clock, Compute, PieceTransport
from atoll.node.link import Link
from atoll.node.part import NodePart, Step

_LOG = logging.getLogger(__name__)
LOOK_S = 1.0
"""How often it is looked whether a coordinator may be asked again."""
AGAIN_MS_MIN, AGAIN_MS_MAX = 500, 3_600_000
REFUSED_AGAIN_MS = 300_000
STALL_S = 30.0
TASK_BYTES_MAX = 1 << 30
"""Bytes of one task: a segment of 64 MiB read and written under any scheme is far less."""

Ask = Callable[[Link, Message, type[Any]], Awaitable[Any]]


class RepairWorker(NodePart):
    """Takes tasks while there is room for them."""

    def __init__(
        self,
        *,
        clock: Clock,
        compute: Compute,
        transport: PieceTransport,
        links: Sequence[Link],
        ask: Ask,
        tasks_max: int,
        bytes_per_s: int,
        busy: Callable[[], bool],
    ) -> None:
        """Work for the coordinators of ``links``; ``busy`` says that the owner needs his machine.

        ``tasks_max`` 0 takes no work at all.
        """
        self._clock = clock
        self._compute = compute
        self._transport = transport
        self._links = links
        self._ask = ask
        self._tasks_max = tasks_max
        self._busy = busy
        self._bandwidth = TokenBucket(clock, max(1, bytes_per_s))
        self._due_s: dict[str, float] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.pieces = 0
        """Built or moved and recorded since the start."""
        self.paid_bytes = 0
        if tasks_max:
            self.steps = [Step("ask for repair work", self.look, LOOK_S)]

    async def look(self) -> None:
        """Ask every coordinator whose time has come for one task."""
        for link in self._links:
            if len(self._running) >= self._tasks_max or self._busy():
                return
            if link.registered and self._clock.monotonic() >= self._due_s.get(_name(link), 0.0):
                await self._ask_one(link)

    async def stop(self) -> None:
        """Drop the work in hand: its leases run out."""
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _ask_one(self, link: Link) -> None:
        again_ms = REFUSED_AGAIN_MS
        try:
            offer: RepairOffer = await self._ask(
                link, AskRepairWork(bytes_max=TASK_BYTES_MAX), RepairOffer
            )
            again_ms = min(AGAIN_MS_MAX, max(AGAIN_MS_MIN, offer.again_ms))
        finally:
            self._due_s[_name(link)] = self._clock.monotonic() + again_ms / 1000
        if offer.task is not None:
            task = asyncio.create_task(self._work(link, offer.task))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _work(self, link: Link, task: RepairTask) -> None:
        """Carry out one task and tell what came of it."""
        try:
            result = await self.carry_out(task)
            settled: RepairSettled = await self._ask(link, result, RepairSettled)
        except AtollError as error:
            _LOG.info("repair work for %s: %s", link.address, error)
            return
        self.pieces += settled.pieces
        self.paid_bytes += settled.downloaded_bytes + settled.uploaded_bytes

    async def carry_out(self, task: RepairTask) -> FinishRepairWork:
        """Read, build, send; return what the targets signed, or why there is nothing."""
        rebuild = Rebuild(
            _job_of(task),
            transport=self._transport,
            compute=self._compute,
            bandwidth=self._bandwidth,
            stall_s=STALL_S,
            traffic=Traffic(),
        )
        wrong: tuple[int, ...] = ()
        failure = ""
        try:
            async with asyncio.timeout(_time_left_s(task, self._clock.now_ms())):
                await rebuild.run()
        except SourceError as failed:
            wrong, failure = ((failed.index,) if failed.lost else ()), str(failed.cause)
        except WrongBytesError as failed:
            wrong, failure = failed.indexes, str(failed)
        except NoTargetError:
            failure = "; ".join(sorted(rebuild.failures.values()))
        except TimeoutError:
            failure = "the time was over"
        return FinishRepairWork(
            task=task.task,
            trailer=rebuild.trailer,
            receipts=list(rebuild.receipts.values()),
            released=rebuild.released,
            wrong=list(wrong),
            failure=failure,
        )


def _name(link: Link) -> str:
    return str(link.address)


def _time_left_s(task: RepairTask, now_ms: int) -> float:
    return max(1.0, (task.until_ms - now_ms) / 1000)


def _job_of(task: RepairTask) -> Job:
    """Return a task as the rebuild wants it. Raises ``BAD_REQUEST`` for one that cannot be."""
    try:
        header = Header(
            segment_id=SegmentId(task.segment),
            index=task.sources[0].index,
            k=task.k,
            n=task.n,
            unit_bytes=task.unit_bytes,
            plain_bytes=task.plain_bytes,
            data_bytes=task.data_bytes,
            payer_tag=PayerTag(task.payer_tag),
        )
    except (ValueError, IndexError) as cause:
        raise _nonsense(str(cause)) from cause
    if not task.move and len(task.sources) != task.k:
        raise _nonsense("a rebuild reads k pieces")
    if task.move and [s.index for s in task.sources] != [t.index for t in task.targets]:
        raise _nonsense("what is moved is what is read")
    return Job(
        header=header,
        segment_root=task.segment_root,
        sources=tuple(Source(grant) for grant in task.sources),
        targets=tuple(Source(grant) for grant in task.targets),
        move=task.move,
    )


def _nonsense(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "take repair work", message)
