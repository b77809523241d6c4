"""Copies documents of epochs into buckets and folders, once or as they come.

Anybody may keep a mirror: what is copied is checked by its hash, so it matters to nobody who keeps
it. Whoever has a bucket ``atoll-epochs`` in the cloud that settles gets the documents put there.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from atoll.cli.epoch_sources import DoorSource, Source
from atoll.cli.places import ACCESS, AccessKey
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address
from atoll.economy.settlement.mirror import Target, copy_epoch
from atoll.runtime.folder import SECRETS, read_secret
from atoll.runtime.transport import HttpPieceTransport

if TYPE_CHECKING:
    from atoll.client import AsyncClient
    from atoll.runtime.config import Config

FOLLOW_S = 10.0
"""Between two looks for new epochs."""
_ABSENT = frozenset({Kind.NOT_FOUND, Kind.OBJECT_NOT_FOUND})
log = logging.getLogger(__name__)


class BucketTarget:
    """A bucket that documents are copied to."""

    def __init__(self, client: "AsyncClient", bucket: str) -> None:
        """Write through an S3 client, which the caller closes."""
        self._client = client
        self._bucket = bucket

    async def has(self, name: str) -> bool:
        """Say whether an object is there."""
        try:
            await self._client.head(self._bucket, name)
        except AtollError as error:
            if error.kind not in _ABSENT:
                raise
            return False
        return True

    async def read(self, name: str) -> bytes:
        """Return an object. Raises ``OBJECT_NOT_FOUND``."""
        return await self._client.get_bytes(self._bucket, name)

    async def put(self, name: str, body: bytes) -> None:
        """Put an object there."""
        await self._client.put_bytes(self._bucket, name, body)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirror has now."""

    epochs: int
    """Documents that are complete in every target."""
    files: int
    """Files that were written."""


class Mirror:
    """Keeps targets complete; remembers what is there while it lives."""

    def __init__(self, source: Source, targets: Sequence[Target]) -> None:
        """Copy from a source to all targets."""
        self._source = source
        self._targets = targets
        self._done: set[tuple[int, str]] = set()

    async def copy(self) -> Mirrored:
        """Copy what the source lists and a target lacks. Raises what they raise."""
        written = 0
        for facts in await self._source.epochs():
            if not facts.content or (facts.epoch, facts.content) in self._done:
                continue
            content = bytes.fromhex(facts.content)
            try:
                for target in self._targets:
                    written += await copy_epoch([self._source], target, facts.epoch, content)
            except AtollError as error:
                # Computed, but not published yet.
                if error.kind is not Kind.NOT_FOUND:
                    raise
                continue
            self._done.add((facts.epoch, facts.content))
        return Mirrored(len(self._done), written)


async def fill_bucket(folder: Path, config: "Config", coordinator: Address) -> None:
    """Put documents into the operator's bucket as soon as there is one; until it is cancelled.

    Runs beside a gateway of the operator's own, with the first key of its folder.
    """
    from atoll.client import AsyncClient

    settings = config.gateway
    bucket = settings.epoch_bucket
    if not bucket or settings.certificate or not (folder / SECRETS / ACCESS).exists():
        return
    access = msgspec.json.decode(read_secret(folder, ACCESS), type=AccessKey)
    said = ""
    async with AsyncExitStack() as stack:
        transport = HttpPieceTransport()
        stack.push_async_callback(transport.close)
        client = await stack.enter_async_context(
            AsyncClient(
                f"http://{settings.host}:{settings.port}",
                access.access_key,
                access.secret_key,
                settings.region,
            )
        )
        door = DoorSource(transport, coordinator)
        mirror = Mirror(door, [BucketTarget(client, bucket)])
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                if any(one.name == bucket for one in await client.list_buckets()):
                    done = await mirror.copy()
                    if done.files:
                        log.info("%d files of epochs put into %s", done.files, bucket)
                said = ""
            except AtollError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("documents of epochs wait: %s", said)
