"""The disk watched: what it says of its own end, and how full its owner makes it.

A disk that fails a sync, rots, or warns by SMART is left while it can still be read: the node says
``evacuating`` and moves its pieces, the least safe ones first. A disk that its owner fills is
shared: the node gives up room before there is none.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from atoll.core.errors import AtollError
from atoll.core.ports import Clock, Compute, Disk, Host
from atoll.node.part import NodePart, Step
from atoll.node.settings import Settings
from atoll.node.store.store import PieceStore

_LOG = logging.getLogger(__name__)
SMART_S = 3600.0
ROT_WINDOW_MS = 24 * 3_600_000
ROTTEN_PIECES_MIN = 5
ROTTEN_PER_MILLE = 10
"""So many rotten pieces within a day, and such a share of all: no lone cosmic ray any more."""
SQUEEZE_TARGET_PERCENT = 150
"""Below the reserve, so much of it is made free again."""


@dataclass(slots=True)
class RotCount:
    """Pieces found rotten within the window."""

    seen: int = 0
    marks: deque[tuple[int, int]] = field(default_factory=deque)

    def look(self, total: int, now_ms: int) -> int:
        """Take the count since the start; return how many came within the window."""
        if total > self.seen:
            self.marks.append((now_ms, total - self.seen))
            self.seen = total
        while self.marks and self.marks[0][0] < now_ms - ROT_WINDOW_MS:
            self.marks.popleft()
        return sum(count for _, count in self.marks)


def rot_warning(rotten: int, pieces: int) -> str:
    """Return what so much rot means; empty for nothing."""
    if rotten < ROTTEN_PIECES_MIN or rotten * 1000 < (pieces + rotten) * ROTTEN_PER_MILLE:
        return ""
    return f"{rotten} of {pieces + rotten} pieces were found rotten within a day"


def squeezed_bytes(
    free_bytes: int, reserve_bytes: int, used_bytes: int, reclaimable_bytes: int
) -> int | None:
    """Return to how many bytes live pieces must shrink so that the disk stays usable; None: stay.

    ``reclaimable_bytes`` are dead already and come back by themselves.
    """
    if free_bytes >= reserve_bytes:
        return None
    need = reserve_bytes * SQUEEZE_TARGET_PERCENT // 100 - free_bytes - reclaimable_bytes
    return max(0, used_bytes - need) if need > 0 else None


class DiskWatch(NodePart):
    """Looks at the disk; says when to leave it and when to give up room."""

    def __init__(
        self,
        store: PieceStore,
        disk: Disk,
        compute: Compute,
        clock: Clock,
        host: Host,
        settings: Settings,
        released_bytes: Callable[[], int],
        interval_s: float,
    ) -> None:
        """``released_bytes`` are pieces moved away whose bytes are still there."""
        self._store = store
        self._disk = disk
        self._compute = compute
        self._clock = clock
        self._host = host
        self._settings = settings
        self._released_bytes = released_bytes
        self._rot = RotCount()
        self._dismissed: set[str] = set()
        self._warned = ""
        self._smart_s = float("-inf")
        self.squeeze_bytes: int | None = None
        """What the owner's own files leave for pieces; None where there is room."""
        self.steps = (Step("watch the disk", self.look, interval_s),)

    async def look(self) -> None:
        """Look once."""
        await self._look_at_room()
        kind, warning = await self._find_warning()
        if warning and kind not in self._dismissed and not self._settings.kept.evacuating:
            self._warned = kind
            await self._evacuate(warning)

    def dismiss(self) -> None:
        """The provider knows and stays: what warned so far warns no more."""
        self._rot = RotCount(seen=self._store.counts.rotten)
        if self._warned and self._warned != "rot":
            self._dismissed.add(self._warned)

    async def _find_warning(self) -> tuple[str, str]:
        """Return what kind of warning there is, and in words; empty for none."""
        if self._store.failed:
            return "write", "the disk failed a write"
        rotten = self._rot.look(self._store.counts.rotten, self._clock.now_ms())
        pieces = self._store.volume.index.totals.pieces
        warning = rot_warning(rotten, pieces)
        if warning:
            return "rot", warning
        now_s = self._clock.monotonic()
        if now_s - self._smart_s >= SMART_S:
            self._smart_s = now_s
            return "smart", await self._compute.run(self._host.disk_warning)
        return "", ""

    async def _evacuate(self, reason: str) -> None:
        _LOG.error("the disk is failing: %s; its pieces move elsewhere", reason)
        kept = msgspec.structs.replace(
            self._settings.kept, evacuating=reason, began_ms=0, statements=[]
        )
        try:
            await self._settings.keep(kept)
        except AtollError as cause:
            # It must be left all the more.
            _LOG.warning("cannot write settings: %s", cause)
            self._settings.take(kept)

    async def _look_at_room(self) -> None:
        free_bytes = await self._compute.run(self._disk.free_bytes)
        volume = self._store.volume
        totals, reserve = volume.index.totals, self._store.config.reserve_bytes
        dead = volume.logs.physical_bytes - totals.used_bytes - totals.trash_bytes
        log = volume.logs.active
        ahead = log.allocated - log.tail if log is not None else 0
        reclaimable = max(0, dead - ahead) + self._released_bytes()
        target = squeezed_bytes(free_bytes + ahead, reserve, totals.used_bytes, reclaimable)
        if target is not None:
            lower = target if self.squeeze_bytes is None else min(target, self.squeeze_bytes)
            if lower != self.squeeze_bytes:
                self._squeeze(lower)
        elif self.squeeze_bytes is not None and (
            free_bytes * 100 >= reserve * (SQUEEZE_TARGET_PERCENT - 10)
        ):
            self._squeeze(None)

    def _squeeze(self, target: int | None) -> None:
        if target is None:
            _LOG.info("the disk has room again")
        else:
            _LOG.warning("the disk fills up: shrinking to %d bytes of pieces", target)
        self.squeeze_bytes = target
        for listener in self._settings.listeners:
            listener()
