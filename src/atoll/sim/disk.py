"""Simulated disks: what was not synced may be dropped or torn at a crash, and worse.

A ``Platter`` is the medium and outlives its process; a ``SimDisk`` is one incarnation's way to it.
The medium keeps, for every file, what a reader sees now and how to undo what is not yet durable.
At a crash each unsynced write is kept, dropped or torn by sectors, as the seed decides; creations
and removals that no ``sync_folder`` made durable may be undone too.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.sim.incarnation import Incarnation

PAGE_BYTES = 64 << 10
SECTOR_BYTES = 512
"""A torn write is torn between sectors."""


class SparseBytes:
    """Bytes by pages; pages never written read as zeros and cost nothing."""

    __slots__ = ("length", "pages")

    def __init__(self) -> None:
        self.length = 0
        self.pages: dict[int, bytearray] = {}

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes at ``offset``."""
        length = max(0, min(length, self.length - offset))
        parts = []
        while length:
            number, within = divmod(offset, PAGE_BYTES)
            count = min(length, PAGE_BYTES - within)
            page = self.pages.get(number)
            parts.append(bytes(count) if page is None else bytes(page[within : within + count]))
            offset += count
            length -= count
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset``; a gap before it reads as zeros."""
        self.length = max(self.length, offset + len(data))
        done = 0
        while done < len(data):
            number, within = divmod(offset + done, PAGE_BYTES)
            count = min(len(data) - done, PAGE_BYTES - within)
            page = self.pages.get(number)
            if page is None:
                page = self.pages[number] = bytearray(PAGE_BYTES)
            page[within : within + count] = data[done : done + count]
            done += count

    def resize(self, length: int) -> None:
        """Cut or extend (with zeros)."""
        if length < self.length:
            first, within = divmod(length, PAGE_BYTES)
            for number in [n for n in self.pages if n > first]:
                del self.pages[number]
            if first in self.pages:
                self.pages[first][within:] = bytes(PAGE_BYTES - within)
        self.length = length


@dataclass(slots=True)
class _Undo:
    """One unsynced change: how to take it back, and how to make it again."""

    offset: int
    old: bytes
    old_length: int
    new: bytes | None
    """None: a change of length only."""
    new_length: int


@dataclass(slots=True)
class _File:
    content: SparseBytes = field(default_factory=SparseBytes)
    unsynced: list[_Undo] = field(default_factory=list)


@dataclass(slots=True)
class DiskFaults:
    """What a disk does wrong. All off by default."""

    lies: bool = False
    """``sync`` returns at once and nothing becomes durable."""
    sync_fails: float = 0.0
    """Probability that a ``sync`` fails, which is final for the open file."""
    read_fails: float = 0.0
    """Probability that a read fails."""
    crash_at: int = 0
    """The process dies at its so-manieth change of this disk from now; 0: never."""


class Platter:
    """The medium under one process's folder; it survives the process."""

    def __init__(self, seed: str, capacity_bytes: int) -> None:
        """Make an empty medium of ``capacity_bytes``."""
        self._random = random.Random(seed)
        self.capacity_bytes = capacity_bytes
        self.faults = DiskFaults()
        self.files: dict[str, _File] = {}
        self._names_unsynced: list[tuple[str, _File | None, _File | None]] = []

    def used_bytes(self) -> int:
        """Return the sum of the files' lengths: what is allocated counts."""
        return sum(file.content.length for file in self.files.values())

    def check_room(self, more_bytes: int, about: str) -> None:
        """Raise ``DISK_FULL`` where ``more_bytes`` do not fit."""
        if more_bytes > 0 and self.used_bytes() + more_bytes > self.capacity_bytes:
            raise AtollError(
                Kind.DISK_FULL,
                "write file",
                "no room left on the disk",
                hint="free some space or lower the capacity this process offers",
                about=about,
            )

    def rename(self, name: str, file: _File | None) -> None:
        """Let ``name`` mean ``file`` (None: nothing), not yet durably."""
        self._names_unsynced.append((name, self.files.get(name), file))
        self._set(name, file)

    def rename_durably(self, name: str, file: _File) -> None:
        """Let ``name`` mean ``file`` for good, whatever was pending for the name."""
        self._names_unsynced = [u for u in self._names_unsynced if u[0] != name]
        self.files[name] = file

    def sync_names(self, folder: str) -> None:
        """Make creations and removals directly in ``folder`` durable."""
        if not self.faults.lies:
            self._names_unsynced = [
                u for u in self._names_unsynced if u[0].rpartition("/")[0] != folder
            ]

    def lose_power(self) -> None:
        """Keep, drop or tear what is not durable."""
        # Nothing orders names against data: each pending change of a name survives or not, and a
        # name that comes back means the file it meant before.
        for name, old, _new in reversed(self._names_unsynced):
            if self._random.random() < 0.5:
                self._set(name, old)
        self._names_unsynced.clear()
        for name in sorted(self.files):
            self._settle(self.files[name])

    def rot(self, flips: int, prefix: str = "") -> list[str]:
        """Flip ``flips`` random bits in files whose name begins so; return where."""
        names = [
            n for n in sorted(self.files) if n.startswith(prefix) and self.files[n].content.pages
        ]
        where: list[str] = []
        for _ in range(flips if names else 0):
            name = self._random.choice(names)
            content = self.files[name].content
            number = self._random.choice(sorted(content.pages))
            end = min(PAGE_BYTES, content.length - number * PAGE_BYTES)
            if end <= 0:
                continue
            within = self._random.randrange(end)
            content.pages[number][within] ^= 1 << self._random.randrange(8)
            where.append(f"{name}:{number * PAGE_BYTES + within}")
        return where

    def wipe(self) -> None:
        """Lose everything."""
        self.files.clear()
        self._names_unsynced.clear()

    def _set(self, name: str, file: _File | None) -> None:
        if file is None:
            self.files.pop(name, None)
        else:
            self.files[name] = file

    def _settle(self, file: _File) -> None:
        content = file.content
        for undo in reversed(file.unsynced):
            content.resize(max(content.length, undo.offset + len(undo.old)))
            content.write(undo.offset, undo.old)
            content.resize(undo.old_length)
        for change in file.unsynced:
            fate = self._random.random()
            if fate < 0.4:
                continue
            if change.new is None:
                content.resize(change.new_length)
            elif fate < 0.7:
                content.write(change.offset, change.new)
            else:
                self._tear(content, change.offset, change.new)
        file.unsynced.clear()

    def _tear(self, content: SparseBytes, offset: int, data: bytes) -> None:
        for begin in range(0, len(data), SECTOR_BYTES):
            if self._random.random() < 0.5:
                content.write(offset + begin, data[begin : begin + SECTOR_BYTES])


class SimFile:
    """``core.ports.DiskFile`` on a medium."""

    __slots__ = ("_broken", "_closed", "_disk", "_file", "_name")

    def __init__(self, disk: "SimDisk", file: _File, name: str) -> None:
        self._disk = disk
        self._file = file
        self._name = name
        self._broken = False
        self._closed = False

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes at ``offset``; fewer only at the end of the file."""
        self._disk.check()
        self._disk.maybe_fail_read(self._name)
        return self._file.content.read(offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes read."""
        view = memoryview(buffer).cast("B")
        data = self.read_at(offset, len(view))
        view[: len(data)] = data
        return len(data)

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        """Write all buffers at ``offset``, one after the other; return the bytes written."""
        self._check_whole("write file")
        data = b"".join(bytes(buffer) for buffer in buffers)
        self._disk.platter.check_room(offset + len(data) - self.size(), self._name)
        content = self._file.content
        old_length = content.length
        old = content.read(offset, len(data))
        content.write(offset, data)
        self._file.unsynced.append(_Undo(offset, old, old_length, data, content.length))
        self._disk.changed()
        return len(data)

    def allocate(self, length: int) -> None:
        """Reserve room so that the file can hold ``length`` bytes. Raises ``DISK_FULL``."""
        self._check_whole("allocate file")
        if length > self.size():
            self._disk.platter.check_room(length - self.size(), self._name)
            self._resize(length)

    def truncate(self, length: int) -> None:
        """Cut or extend (with zeros) the file to ``length`` bytes."""
        self._check_whole("truncate file")
        self._resize(length)

    def sync(self) -> None:
        """Return when all that was written before the call survives a loss of power."""
        self._check_whole("sync file")
        self._disk.changed()
        if self._disk.fails_sync():
            self._broken = True
            raise AtollError(Kind.INTERNAL, "sync file", "input/output error", about=self._name)
        if not self._disk.platter.faults.lies:
            self._file.unsynced.clear()

    def size(self) -> int:
        """Return the length of the file in bytes."""
        self._disk.check()
        return self._file.content.length

    def close(self) -> None:
        """Close; safe to call twice. Does not sync."""
        self._closed = True

    def _resize(self, length: int) -> None:
        content = self._file.content
        old_length = content.length
        cut = content.read(length, old_length - length) if length < old_length else b""
        content.resize(length)
        self._file.unsynced.append(_Undo(length, cut, old_length, None, length))
        self._disk.changed()

    def _check_whole(self, operation: str) -> None:
        self._disk.check()
        if self._closed:
            raise AtollError(Kind.INTERNAL, operation, "the file is closed", about=self._name)
        if self._broken:
            raise AtollError(
                Kind.INTERNAL,
                operation,
                "an earlier sync of this file failed; what it holds is unknown",
                hint="restart the process, and check the disk",
                about=self._name,
            )


class SimDisk:
    """``core.ports.Disk`` of one incarnation; its death is the medium's loss of power."""

    def __init__(
        self,
        incarnation: Incarnation,
        platter: Platter,
        seed: str,
    ) -> None:
        """Open the medium for an incarnation."""
        self._incarnation = incarnation
        self.platter = platter
        self._random = random.Random(seed)
        incarnation.at_crash(platter.lose_power)

    def open(self, name: str, *, create: bool = False) -> SimFile:
        """Open for reading and writing. Raises ``NOT_FOUND`` where it is absent and not made."""
        self._check_name(name)
        file = self.platter.files.get(name)
        if file is None:
            if not create:
                raise _absent("open file", name)
            file = _File()
            self.platter.rename(name, file)
            self.changed()
        return SimFile(self, file, name)

    def exists(self, name: str) -> bool:
        """Say whether the file is there."""
        self._check_name(name)
        return name in self.platter.files

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of files and folders in a folder; an absent one is empty."""
        self.check()
        if folder:
            self._check_name(folder)
        prefix = f"{folder}/" if folder else ""
        return sorted(
            {n[len(prefix) :].split("/")[0] for n in self.platter.files if n.startswith(prefix)}
        )

    def remove(self, name: str) -> None:
        """Remove a file; an absent one is no error."""
        self._check_name(name)
        if name in self.platter.files:
            self.platter.rename(name, None)
            self.changed()

    def replace(self, name: str, content: bytes) -> None:
        """Put ``content`` under ``name``, atomically and durably: old or new, never a mixture."""
        self._check_name(name)
        old = self.platter.files.get(name)
        freed = old.content.length if old is not None else 0
        self.platter.check_room(len(content) - freed, name)
        # The process may die before the change or after it.
        self.changed()
        file = _File()
        file.content.write(0, content)
        self.platter.rename_durably(name, file)
        self.changed()

    def read(self, name: str) -> bytes:
        """Return the whole (small) file. Raises ``NOT_FOUND``."""
        self._check_name(name)
        self.maybe_fail_read(name)
        file = self.platter.files.get(name)
        if file is None:
            raise _absent("read file", name)
        return file.content.read(0, file.content.length)

    def sync_folder(self, folder: str) -> None:
        """Return when creations and removals in ``folder`` are durable."""
        self.check()
        self.changed()
        self.platter.sync_names(folder)

    def free_bytes(self) -> int:
        """Return the room left for new data."""
        self.check()
        return max(0, self.platter.capacity_bytes - self.platter.used_bytes())

    def scratch_database(self, name: str) -> str:
        """Return where SQLite may keep a database that a crash loses."""
        self._check_name(name)
        return ":memory:"

    def check(self) -> None:
        """Raise ``Fenced`` where the incarnation is dead."""
        self._incarnation.check()

    def changed(self) -> None:
        """Count a change of the medium; the process may die right at it."""
        faults = self.platter.faults
        if faults.crash_at:
            faults.crash_at -= 1
            if faults.crash_at == 0:
                self._incarnation.crash()
                self._incarnation.check()

    def maybe_fail_read(self, name: str) -> None:
        """Raise ``INTERNAL`` where the medium's faults say that this read fails."""
        faults = self.platter.faults
        if faults.read_fails and self._random.random() < faults.read_fails:
            raise AtollError(Kind.INTERNAL, "read file", "input/output error", about=name)

    def fails_sync(self) -> bool:
        """Say whether this sync fails by the medium's faults."""
        faults = self.platter.faults
        return bool(faults.sync_fails) and self._random.random() < faults.sync_fails

    def _check_name(self, name: str) -> None:
        self.check()
        parts = name.split("/")
        if not name or any(part in {"", ".", ".."} for part in parts) or "\0" in name:
            raise AtollError(Kind.BAD_REQUEST, "find file", "not a relative name", about=name)


def _absent(operation: str, name: str) -> AtollError:
    return AtollError(Kind.NOT_FOUND, operation, "no such file", about=name)
