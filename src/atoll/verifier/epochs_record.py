"""What a verifier stated with its key of the chain, and which documents it checked: durable first.

One append-only file; a record is ``length u32 | crc32 u32 | MessagePack``. A tail that was cut off
by a crash is cut away at the next start: what was not durable was not said. Nothing is ever
removed: an old statement that is contradicted costs the bond as a new one does.
"""

import struct
import zlib
from typing import Final

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Disk, DiskFile

EPOCHS_FILE: Final = "epochs.log"
RECORD_BYTES_MAX: Final = 4_096
FILE_BYTES_MAX: Final = 1 << 30
"""Some five million statements; then nothing more is signed."""
_HEAD: Final = struct.Struct(">II")


class Stated(msgspec.Struct, frozen=True, array_like=True, tag="stated"):
    """One statement that may have been signed."""

    chain_id: int
    court: bytes
    kind: int
    subject: bytes
    epoch: int
    stated: bytes

    @property
    def about(self) -> tuple[int, bytes, int, bytes, int]:
        """What it is about: of two that share this, one at most may be signed."""
        return self.chain_id, self.court, self.kind, self.subject, self.epoch


class Checked(msgspec.Struct, frozen=True, array_like=True, tag="checked"):
    """One document that comes out as published, and follows the one before."""

    coordinator_key: bytes
    epoch: int
    content: bytes
    slots_end: int
    """First slot of proofs after those of the epoch."""


class Pinned(msgspec.Struct, frozen=True, array_like=True, tag="pinned"):
    """The contracts that a coordinator named at first: it is never signed for others."""

    coordinator_key: bytes
    chain_id: int
    court: bytes
    distributor: bytes


Entry = Stated | Checked | Pinned
_DECODER: Final[msgspec.msgpack.Decoder[Entry]] = msgspec.msgpack.Decoder(Entry)


class EpochRecord:
    """The file. Blocking: hand ``open`` and ``add`` to ``Compute``."""

    def __init__(self, disk: Disk) -> None:
        """Touch nothing yet."""
        self._disk = disk
        self._file: DiskFile | None = None
        self._size = 0
        self._stated: dict[tuple[int, bytes, int, bytes, int], bytes] = {}
        self._checked: dict[tuple[bytes, int], Checked] = {}
        self._last: dict[bytes, Checked] = {}
        self._pinned: dict[bytes, Pinned] = {}

    def open(self) -> None:
        """Read what is there; cut away what was never finished."""
        new = not self._disk.exists(EPOCHS_FILE)
        file = self._disk.open(EPOCHS_FILE, create=True)
        if new:
            self._disk.sync_folder("")
        offset, size = 0, file.size()
        while offset + _HEAD.size <= size:
            length, crc = _HEAD.unpack(file.read_at(offset, _HEAD.size))
            body = file.read_at(offset + _HEAD.size, length) if length <= RECORD_BYTES_MAX else b""
            if len(body) != length or zlib.crc32(body) != crc:
                break
            self._know(_decode(body))
            offset += _HEAD.size + length
        if offset < size:
            file.truncate(offset)
            file.sync()
        self._file, self._size = file, offset

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, entry: Entry) -> None:
        """Write an entry, durably. Raises ``CONFLICT`` where it contradicts one that is there.

        Also ``DISK_FULL``.
        """
        if self._is_known(entry):
            return
        assert self._file is not None, "opened first"
        body = msgspec.msgpack.encode(entry)
        if self._size + len(body) > FILE_BYTES_MAX:
            raise AtollError(Kind.DISK_FULL, "record statement", f"{EPOCHS_FILE} is full")
        parts = [_HEAD.pack(len(body), zlib.crc32(body)), body]
        self._file.write_at(self._size, parts)
        self._file.sync()
        self._size += _HEAD.size + len(body)
        self._know(entry)

    def _is_known(self, entry: Entry) -> bool:
        """Say whether an entry is there. Raises ``CONFLICT`` where another one stands there."""
        if isinstance(entry, Stated):
            stated = self._stated.get(entry.about)
            if stated not in (None, entry.stated):
                raise _conflict("something else was stated about this before")
            return stated is not None
        if isinstance(entry, Checked):
            checked = self._checked.get((entry.coordinator_key, entry.epoch))
            if checked is not None and checked.content != entry.content:
                raise _conflict(f"epoch {entry.epoch} had another document before")
            return checked is not None
        pinned = self._pinned.get(entry.coordinator_key)
        if pinned not in (None, entry):
            raise _conflict("the coordinator named other contracts at first")
        return pinned is not None

    def _know(self, entry: Entry) -> None:
        if isinstance(entry, Stated):
            self._stated[entry.about] = entry.stated
        elif isinstance(entry, Checked):
            self._checked[entry.coordinator_key, entry.epoch] = entry
            last = self._last.get(entry.coordinator_key)
            if last is None or last.epoch < entry.epoch:
                self._last[entry.coordinator_key] = entry
        else:
            self._pinned[entry.coordinator_key] = entry

    def checked(self, coordinator_key: bytes, epoch: int) -> Checked | None:
        """Return a document that was checked."""
        return self._checked.get((coordinator_key, epoch))

    def last_checked(self, coordinator_key: bytes) -> Checked | None:
        """Return the newest document of a coordinator that was checked."""
        return self._last.get(coordinator_key)

    def statements(self) -> int:
        """Return how many statements were made."""
        return len(self._stated)


def _decode(body: bytes) -> Entry:
    try:
        entry: Entry = _DECODER.decode(body)
        return entry
    except msgspec.MsgspecError as cause:
        raise AtollError(
            Kind.CORRUPT,
            "read statements",
            f"a record of {EPOCHS_FILE} cannot be read: {cause}",
            hint="do not remove it: a key that states two things loses its bond",
        ) from cause


def _conflict(message: str) -> AtollError:
    return AtollError(Kind.CONFLICT, "record statement", message)
