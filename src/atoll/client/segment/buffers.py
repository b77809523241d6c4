"""The one buffer pool of a worker: bounded, touched before use, recycled by itself.

A borrowed buffer is a plain ``memoryview``. It comes back to the pool when the last view of it
(slices included) is gone: a transport that still holds bytes it has not sent keeps them intact
without knowing of the pool, and nothing has to be given back by hand.

Memory that is only useful *in case* (what a replacement for a failed node would need) is lent to
the pool as a ``Keepsake``: it is dropped, oldest first, when somebody needs the room.
"""

import asyncio
import ctypes
import itertools
import mmap
import weakref
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Protocol

from atoll.core.errors import AtollError, Kind

POOL_BYTES_DEFAULT = 128 << 20
POOL_BYTES_MIN = 4 << 20
BLOCK_BYTES_MIN = 64 << 10
WAIT_S_MAX = 30.0
"""An upload or read that gets no buffer for so long is refused with ``OVERLOADED``."""
WAITERS_MAX = 4096


class Keepsake(Protocol):
    """Buffers kept for a rainy day."""

    def shed(self) -> None:
        """Drop the views at once."""


class _Loan(weakref.ref["ctypes.Array[ctypes.c_ubyte]"]):
    """Watches one borrowed buffer."""

    __slots__ = ("block", "number")

    block: mmap.mmap
    number: int


class _Waiter:
    __slots__ = ("future", "sizes")

    def __init__(self, sizes: Sequence[int], future: "asyncio.Future[None]") -> None:
        self.sizes = sizes
        self.future = future


def block_bytes_for(length: int) -> int:
    """Return the size of the block that holds ``length`` bytes: four steps to each doubling."""
    if length <= BLOCK_BYTES_MIN:
        return BLOCK_BYTES_MIN
    step = 1 << max((length - 1).bit_length() - 3, mmap.PAGESIZE.bit_length() - 1)
    return -(-length // step) * step


class BufferPool:
    """Buffers for everything that a worker encodes or decodes, at most ``bytes_max`` together.

    Belongs to one event loop; only the return of a buffer may happen on another thread.
    """

    def __init__(self, bytes_max: int = POOL_BYTES_DEFAULT) -> None:
        """Map nothing yet. Raises ``ValueError`` for a limit below ``POOL_BYTES_MIN``."""
        if bytes_max < POOL_BYTES_MIN:
            raise ValueError(f"a buffer pool needs at least {POOL_BYTES_MIN} bytes")
        self.bytes_max = bytes_max
        self.bytes_high_water = 0
        """The most that was ever borrowed at once."""
        self._in_use = 0
        self._mapped = 0
        self._idle: dict[int, list[mmap.mmap]] = {}
        self._loans: dict[int, _Loan] = {}
        self._numbers = itertools.count()
        self._returned: deque[int] = deque()
        self._kept: OrderedDict[int, tuple[Keepsake, int]] = OrderedDict()
        self._kept_bytes = 0
        self._waiters: deque[_Waiter] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def bytes_in_use(self) -> int:
        """Bytes borrowed now, in whole blocks."""
        self._collect()
        return self._in_use

    @property
    def bytes_mapped(self) -> int:
        """Bytes of memory the pool holds, borrowed or idle; never above ``bytes_max``."""
        return self._mapped

    @property
    def pressed(self) -> bool:
        """Whether more than half is borrowed for good or somebody waits: take less at a time."""
        return bool(self._waiters) or (self._in_use - self._kept_bytes) * 2 > self.bytes_max

    async def acquire(self, *sizes: int) -> list[memoryview]:
        """Borrow writable buffers of exactly these sizes, all together or none; waits in turn.

        Their content is whatever was there before. A size of 0 is an empty buffer.
        Raises ``OVERLOADED`` after ``WAIT_S_MAX`` seconds, ``TOO_LARGE`` for more than the pool.
        """
        if not self._waiters and self._make_room(sizes):
            return [self._borrow(size) for size in sizes]
        if sum(block_bytes_for(size) for size in sizes) > self.bytes_max:
            raise AtollError(Kind.TOO_LARGE, "borrow a buffer", "larger than the whole pool")
        if len(self._waiters) >= WAITERS_MAX:
            raise _overloaded()
        self._loop = asyncio.get_running_loop()
        waiter = _Waiter(sizes, self._loop.create_future())
        self._waiters.append(waiter)
        try:
            self._wake()
            async with asyncio.timeout(WAIT_S_MAX):
                await waiter.future
            return [self._borrow(size) for size in sizes]
        except TimeoutError:
            raise _overloaded() from None
        finally:
            self._waiters.remove(waiter)
            self._wake()

    def keep(self, number: int, keepsake: Keepsake, length: int) -> None:
        """Lend something of about ``length`` bytes to the pool until ``forget``.

        It may be shed from now on.
        """
        self._kept[number] = keepsake, length
        self._kept_bytes += length
        if self._waiters:
            self._wake()

    def forget(self, number: int) -> None:
        """Take a keepsake back, if it is still there."""
        kept = self._kept.pop(number, None)
        if kept is not None:
            self._kept_bytes -= kept[1]

    def new_number(self) -> int:
        """Return a number for a keepsake, never used before."""
        return next(self._numbers)

    def close(self) -> None:
        """Unmap what is idle. What is still borrowed is unmapped when its last view is gone."""
        self._collect()
        for blocks in self._idle.values():
            for block in blocks:
                self._mapped -= len(block)
                block.close()
        self._idle.clear()

    def _borrow(self, size: int) -> memoryview:
        if size == 0:
            return memoryview(bytearray())
        length = block_bytes_for(size)
        idle = self._idle.get(length)
        block = idle.pop() if idle else self._map(length)
        array = (ctypes.c_ubyte * length).from_buffer(block)
        loan = _Loan(array, self._on_gone)
        loan.block = block
        loan.number = next(self._numbers)
        self._loans[loan.number] = loan
        self._in_use += length
        self.bytes_high_water = max(self.bytes_high_water, self._in_use)
        return memoryview(array).cast("B")[:size]

    def _map(self, length: int) -> mmap.mmap:
        """Map a block with all its pages present: a first touch later would cost ten times more."""
        for idle in self._idle.values():
            while idle and self._mapped + length > self.bytes_max:
                block = idle.pop()
                self._mapped -= len(block)
                block.close()
        populate = getattr(mmap, "MAP_POPULATE", 0)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populate
        block = mmap.mmap(-1, length, flags=flags)
        self._mapped += length
        return block

    def _on_gone(self, loan: "weakref.ref[ctypes.Array[ctypes.c_ubyte]]") -> None:
        """Note a buffer's return; runs on any thread, wherever its last view went."""
        assert isinstance(loan, _Loan)
        self._returned.append(loan.number)
        if self._waiters and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _collect(self) -> None:
        while self._returned:
            block = self._loans.pop(self._returned.popleft()).block
            self._in_use -= len(block)
            self._idle.setdefault(len(block), []).append(block)

    def _make_room(self, sizes: Sequence[int]) -> bool:
        """Say whether the sizes fit, after shedding keepsakes where that is needed."""
        need = sum(block_bytes_for(size) for size in sizes if size)
        self._collect()
        while self._in_use + need > self.bytes_max:
            if not self._kept:
                return False
            keepsake, length = self._kept.popitem(last=False)[1]
            self._kept_bytes -= length
            keepsake.shed()
            self._collect()
        return True

    def _wake(self) -> None:
        """Let the first waiter go if it fits now; the others keep their turn."""
        for waiter in self._waiters:
            if waiter.future.done():
                # It was let go or gave up, and has not run yet: its room must not be given twice.
                if not waiter.future.cancelled():
                    return
                continue
            if self._make_room(waiter.sizes):
                waiter.future.set_result(None)
            return


def _overloaded() -> AtollError:
    return AtollError(
        Kind.OVERLOADED,
        "borrow a buffer",
        "this worker handles as many transfers as its memory admits",
        hint="try again shortly, or raise the worker's buffer limit",
    )
