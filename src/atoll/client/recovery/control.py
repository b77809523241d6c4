"""A control plane that keeps manifests in step: notes who writes them, waits where it is wanted."""

import msgspec

from atoll.client.recovery.writer import ManifestWriter
from atoll.core.messages import (
    Answer,
    BucketInfo,
    BucketList,
    CommitObject,
    CompleteUpload,
    ControlPlane,
    CreateBucket,
    DeleteBucket,
    DeleteObjects,
    Message,
)
from atoll.core.messages.recovery import SetManifestMode
from atoll.core.messages.retention import LockObject, SetDefaultLock

MODES_KEPT_MAX = 10_000
_WRITES = (CommitObject, CompleteUpload, DeleteObjects)
_NEWS = (CreateBucket, DeleteBucket, SetManifestMode, LockObject, SetDefaultLock)
"""What reaches manifests and nobody waits for: of a lock, the holders have its records already."""


class ManifestControl:
    """Passes requests on; a write of a bucket of mode ``sync`` is answered with its manifest."""

    def __init__(self, control: ControlPlane, writer: ManifestWriter) -> None:
        """``writer`` runs beside it."""
        self._control = control
        self._writer = writer
        self._sync: set[bytes] = set()

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Ask (see ``ControlPlane``). ``TIMEOUT``: the write is committed, its manifest waits."""
        if isinstance(request, _WRITES):
            write = msgspec.structs.replace(request, writer=self._writer.writer)
            result = await self._control.ask(write, answer)
            if request.bucket in self._sync:
                await self._writer.settled()
            else:
                self._writer.notify()
            return result
        if isinstance(request, _NEWS):
            own = msgspec.structs.replace(request, writer=self._writer.writer)
            result = await self._control.ask(own, answer)
            self._writer.notify()
        else:
            result = await self._control.ask(request, answer)
        if isinstance(result, BucketInfo):
            self._note(result)
        elif isinstance(result, BucketList):
            for bucket in result.buckets:
                self._note(bucket)
        return result

    def _note(self, bucket: BucketInfo) -> None:
        if bucket.manifests != "sync":
            self._sync.discard(bucket.bucket)
        elif len(self._sync) < MODES_KEPT_MAX:
            self._sync.add(bucket.bucket)
