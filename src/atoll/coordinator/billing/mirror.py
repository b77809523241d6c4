"""Copies published documents to a second folder, on another disk if the operator is wise."""

import logging
from functools import partial
from typing import Final

from atoll.coordinator.billing import store
from atoll.coordinator.billing.model import EPOCHS_PAGE_MAX, BillingConfig, State
from atoll.coordinator.part import Part, Step
from atoll.core.ports import Compute, Database, Disk
from atoll.economy.settlement.mirror import DiskTarget, copy_epoch
from atoll.economy.settlement.source import DiskSource

PAUSE_S: Final = 5.0
_ALL: Final = 1 << 62
log = logging.getLogger(__name__)


class EpochMirror(Part):
    """Keeps a mirror complete: the newest epochs first, then all that there ever were, once."""

    def __init__(
        self, database: Database, compute: Compute, config: BillingConfig, mirror: Disk
    ) -> None:
        """Copy from ``config.disk`` to ``mirror``."""
        self._database = database
        self._sources = [DiskSource("the coordinator", config.disk, compute)]
        self._target = DiskTarget(mirror, compute)
        self._copied_to = 0
        """All epochs up to this one are there."""
        self.steps = [Step("mirror epochs", self.copy, PAUSE_S)]

    async def copy(self) -> int:
        """Copy what is missing; return how many files were written. Raises as ``copy_epoch``."""
        written, before, newest = 0, _ALL, 0
        while True:
            rows = await self._database.read(
                partial(store.page, before=before, limit=EPOCHS_PAGE_MAX)
            )
            for row in rows:
                if row.epoch <= self._copied_to:
                    break
                if row.state is State.PUBLISHED:
                    newest = max(newest, row.epoch)
                    written += await copy_epoch(self._sources, self._target, row.epoch, row.content)
            if not rows or rows[-1].epoch <= self._copied_to + 1:
                self._copied_to = max(newest, self._copied_to)
                return written
            before = rows[-1].epoch
