"""What makes a folder the home of one store: its id and the key of its records' checks."""

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.pieces import crc32c
from atoll.core.ports import Disk, Rng
from atoll.node.store.log import KEY_BYTES
from atoll.node.store.logs import LOG_FOLDER

FORMAT = 1
STORE_FILES = ("store.id", "store.id.copy")
"""The same content twice: without the key no record of the logs can be told from garbage."""
_CRC_BYTES = 4


class StoreIdentity(msgspec.Struct, frozen=True, tag=True):
    """The content of ``store.id``."""

    format: int
    store: bytes
    key: bytes


def open_identity(disk: Disk, rng: Rng) -> StoreIdentity:
    """Read the store's identity, or make one in an empty folder. Blocks.

    Raises ``WRONG_FOLDER`` where there are logs and no readable identity, ``NEWER_FORMAT``.
    """
    found = [identity for name in STORE_FILES if (identity := _read(disk, name)) is not None]
    if found:
        identity = found[0]
        if identity.format > FORMAT:
            raise AtollError(
                Kind.NEWER_FORMAT,
                "open store",
                f"the store has format {identity.format}, this version knows {FORMAT}",
                hint="update Atoll on this machine",
            )
    elif disk.names(LOG_FOLDER):
        raise AtollError(
            Kind.WRONG_FOLDER,
            "open store",
            "there are logs, but neither store.id nor its copy can be read",
            hint="restore one of the two files",
        )
    else:
        identity = StoreIdentity(FORMAT, rng.bytes(16), rng.bytes(KEY_BYTES))
    if len(found) < len(STORE_FILES):
        content = msgspec.msgpack.encode(identity)
        for name in STORE_FILES:
            disk.replace(name, crc32c(content).to_bytes(_CRC_BYTES, "little") + content)
    return identity


def _read(disk: Disk, name: str) -> StoreIdentity | None:
    if not disk.exists(name):
        return None
    data = disk.read(name)
    content = data[_CRC_BYTES:]
    if crc32c(content).to_bytes(_CRC_BYTES, "little") != data[:_CRC_BYTES]:
        return None
    try:
        return msgspec.msgpack.decode(content, type=StoreIdentity)
    except msgspec.MsgspecError:
        return None
