"""Work that a gateway does on stored segments in the background: packing, wider schemes.

What is to be done is leased from the control plane, a step at a time; what fails is tried again.
"""

import logging
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from atoll.client.keys import Keyring
from atoll.client.labels import Labels
from atoll.client.packing.admission import Admission, Admit
from atoll.client.transfer.download import SegmentDownloader
from atoll.client.transfer.upload import SegmentUploader
from atoll.core.errors import AtollError
from atoll.core.messages import ControlPlane
from atoll.core.ports import Clock, Rng

log = logging.getLogger(__name__)

PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 600.0
FAULT_PAUSE_S = 10.0
"""Rest after work that could not be done at all."""
WORKER_BYTES = 16


Counts = TypeVar("Counts")


class BackgroundWork(ABC, Generic[Counts]):
    """One gateway worker's work of one kind, leased under an id of its own."""

    name: str
    """What it does, for the log."""
    counts_type: type[Counts]
    """Counts of what was done, all zero when made."""

    def __init__(
        self,
        control: ControlPlane,
        keyring: Keyring,
        uploader: SegmentUploader,
        downloader: SegmentDownloader,
        clock: Clock,
        rng: Rng,
        admit: Admit | None = None,
    ) -> None:
        """``admit`` says which buckets this gateway may serve; without it all."""
        self._control = control
        self._keyring = keyring
        self._labels = Labels(keyring)
        self._uploader = uploader
        self._downloader = downloader
        self._clock = clock
        self._worker = rng.bytes(WORKER_BYTES)
        self._admission = Admission(admit, clock)
        self.counts = self.counts_type()

    async def run(self) -> None:
        """Work for ever; a fault is logged and tried again later."""
        while True:
            try:
                pause_s = await self.step()
            except AtollError as fault:
                log.info("%s waits: %s", self.name, fault)
                pause_s = FAULT_PAUSE_S
            await self._clock.sleep(max(PAUSE_S_MIN, min(pause_s, PAUSE_S_MAX)))

    @abstractmethod
    async def step(self) -> float:
        """Do what is leased, if anything; return how many seconds to wait before the next."""
