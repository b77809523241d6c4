"""Which source of documents ``atoll epoch`` reads: the one named, else the cloud of a folder."""

from contextlib import AsyncExitStack
from pathlib import Path

from atoll.cli.epoch_sources import BucketSource, DoorSource, FolderSource, Source
from atoll.cli.places import EPOCHS, cloud_folder, read_running
from atoll.cli.s3 import Door, is_remote, parse_place
from atoll.core.errors import AtollError, Kind


async def open_source(place: str | None, data: Path | None, stack: AsyncExitStack) -> Source:
    """Return the source that is meant: the one named, else the cloud of a folder.

    Raises ``UNREACHABLE`` where there is none, ``CONFIG`` for a name that is none.
    """
    from atoll.cli.wire import address_of
    from atoll.runtime.transport import HttpPieceTransport

    if place is not None and is_remote(place):
        client = Door(data, None, None, None).client()
        await stack.enter_async_context(client)
        return BucketSource(client, parse_place(place).bucket)
    url = place if place is not None and "://" in place else ""
    if place is not None and not url:
        return FolderSource(Path(place))
    folder = cloud_folder(data)
    running = None if url else read_running(folder)
    if not url and running is None:
        if (folder / EPOCHS).is_dir():
            return FolderSource(folder / EPOCHS)
        raise AtollError(
            Kind.UNREACHABLE,
            "find epochs",
            f"no cloud runs in {folder}, and none was settled there",
            hint="name a coordinator or a folder of documents with --from",
        )
    transport = HttpPieceTransport()
    stack.push_async_callback(transport.close)
    return DoorSource(transport, address_of(url or (running.coordinator if running else ""), ""))
