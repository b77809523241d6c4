"""``atoll epoch mirror``: copies documents to folders and buckets, once or as they come."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from atoll.cli.epoch_bucket import FOLLOW_S, BucketTarget, Mirror, Mirrored
from atoll.cli.epoch_open import open_source
from atoll.cli.output import say
from atoll.cli.s3 import Door, is_remote, parse_place
from atoll.core.errors import AtollError
from atoll.economy.settlement.mirror import DiskTarget, Target
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.disk import FolderDisk


async def keep_mirror(
    place: str | None, data: Path | None, targets: Sequence[str], *, follow: bool
) -> Mirrored:
    """Copy documents to ``s3://BUCKET`` and folders; with ``follow`` until interrupted.

    Raises ``BUCKET_NOT_FOUND``, and what the source raises.
    """
    async with AsyncExitStack() as stack:
        compute = ThreadCompute(1)
        stack.callback(compute.close)
        found: list[Target] = []
        for target in targets:
            if is_remote(target):
                client = await stack.enter_async_context(Door(data, None, None, None).client())
                found.append(BucketTarget(client, parse_place(target).bucket))
            else:
                found.append(DiskTarget(FolderDisk(Path(target)), compute))
        mirror = Mirror(await open_source(place, data, stack), found)
        done = await mirror.copy()
        while follow:
            say(f"{done.epochs} epochs, {done.files} files written")
            await asyncio.sleep(FOLLOW_S)
            done = await _try(mirror) or done
        return done


async def _try(mirror: Mirror) -> Mirrored | None:
    """Copy; a source or target that is away for a while is tried again."""
    try:
        return await mirror.copy()
    except AtollError as error:
        if not error.meaning.transient:
            raise
        say(f"waits: {error.message}")
        return None
