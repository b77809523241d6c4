"""Real files: one folder of one process, with the durability that the ports promise.

Facts relied on: after a failed ``fsync`` Linux may drop the dirty pages and report success the
next time, so a failure is final for the file; a new or renamed file is durable only once its
folder is synced too.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind

VECTORS_MAX = 1024
"""Buffers of one ``pwritev`` call (IOV_MAX on Linux)."""
UNFINISHED_SUFFIX = ".new~"
"""Ends the name of a file that ``replace`` has not yet put in place; never listed."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def _failure(operation: str, cause: OSError, about: str) -> AtollError:
    if cause.errno in _FULL:
        return AtollError(
            Kind.DISK_FULL,
            operation,
            "no room left on the disk",
            hint="free some space or lower the capacity this process offers",
            about=about,
        )
    if cause.errno == errno.ENOENT:
        return AtollError(Kind.NOT_FOUND, operation, "no such file", about=about)
    return AtollError(Kind.INTERNAL, operation, cause.strerror or str(cause), about=about)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RealFile:
    """``core.ports.DiskFile`` over a file descriptor."""

    __slots__ = ("_broken", "_descriptor", "_name")

    def __init__(self, descriptor: int, name: str) -> None:
        """Take over an open descriptor; ``name`` is for messages."""
        self._descriptor = descriptor
        self._name = name
        self._broken = False

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes at ``offset``; fewer only at the end of the file."""
        try:
            data = os.pread(self._descriptor, length, offset)
            if len(data) == length or not data:
                return data
            parts = [data]
            have = len(data)
            while have < length:
                data = os.pread(self._descriptor, length - have, offset + have)
                if not data:
                    break
                parts.append(data)
                have += len(data)
        except OSError as cause:
            raise _failure("read file", cause, self._name) from cause
        return b"".join(parts)

    def read_into(self, offset: int, buffer: Buffer) -> int:
        """Fill ``buffer`` from ``offset``; return the bytes read."""
        view = memoryview(buffer).cast("B")
        have = 0
        try:
            while have < len(view):
                count = os.preadv(self._descriptor, [view[have:]], offset + have)
                if count == 0:
                    break
                have += count
        except OSError as cause:
            raise _failure("read file", cause, self._name) from cause
        return have

    def write_at(self, offset: int, buffers: Sequence[Buffer]) -> int:
        """Write all buffers at ``offset``, one after the other; return the bytes written."""
        self._check_whole("write file")
        views = [view for view in (memoryview(b).cast("B") for b in buffers) if len(view)]
        written = 0
        try:
            while views:
                count = os.pwritev(self._descriptor, views[:VECTORS_MAX], offset + written)
                written += count
                views = _after(views, count)
        except OSError as cause:
            raise _failure("write file", cause, self._name) from cause
        return written

    def allocate(self, length: int) -> None:
        """Reserve room so that the file can hold ``length`` bytes. Raises ``DISK_FULL``."""
        self._check_whole("allocate file")
        size = self.size()
        if length <= size:
            return
        try:
            os.posix_fallocate(self._descriptor, size, length - size)
        except OSError as cause:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise _failure("allocate file", cause, self._name) from cause

    def truncate(self, length: int) -> None:
        """Cut or extend (with zeros) the file to ``length`` bytes."""
        self._check_whole("truncate file")
        try:
            os.ftruncate(self._descriptor, length)
        except OSError as cause:
            raise _failure("truncate file", cause, self._name) from cause

    def sync(self) -> None:
        """Return when all that was written before the call survives a loss of power."""
        self._check_whole("sync file")
        try:
            os.fdatasync(self._descriptor)
        except OSError as cause:
            self._broken = True
            raise _failure("sync file", cause, self._name) from cause

    def size(self) -> int:
        """Return the length of the file in bytes."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close; safe to call twice. Does not sync."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_whole(self, operation: str) -> None:
        if self._broken:
            raise AtollError(
                Kind.INTERNAL,
                operation,
                "an earlier sync of this file failed; what it holds is unknown",
                hint="restart the process, and check the disk",
                about=self._name,
            )


def _after(views: list[memoryview], count: int) -> list[memoryview]:
    """Return what is left of ``views`` once their first ``count`` bytes are written."""
    for position, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[position + 1 :]]
        count -= len(view)
    return []


class FolderDisk:
    """``core.ports.Disk`` over one folder of the real file system."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        """Use ``root``, which is made (readable by its owner only) where it is absent."""
        self.root = root.absolute()
        self._make_folder(self.root)

    def open(self, name: str, *, create: bool = False) -> RealFile:
        """Open for reading and writing. Raises ``NOT_FOUND`` where it is absent and not made."""
        path = self._path(name)
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            self._make_folder(path.parent)
            flags |= os.O_CREAT
        try:
            return RealFile(os.open(path, flags, 0o600), name)
        except OSError as cause:
            raise _failure("open file", cause, name) from cause

    def exists(self, name: str) -> bool:
        """Say whether the file is there."""
        return self._path(name).is_file()

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of files and folders in a folder; an absent one is empty."""
        try:
            found = os.listdir(self._path(folder) if folder else self.root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as cause:
            raise _failure("list folder", cause, folder) from cause
        return sorted(name for name in found if not name.endswith(UNFINISHED_SUFFIX))

    def remove(self, name: str) -> None:
        """Remove a file; an absent one is no error."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as cause:
            raise _failure("remove file", cause, name) from cause

    def replace(self, name: str, content: bytes) -> None:
        """Put ``content`` under ``name``, atomically and durably: old or new, never a mixture."""
        path = self._path(name)
        self._make_folder(path.parent)
        unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
        try:
            self._write_whole(unfinished, content)
            os.replace(unfinished, path)
            _sync_folder(path.parent)
        except OSError as cause:
            unfinished.unlink(missing_ok=True)
            raise _failure("replace file", cause, name) from cause

    def read(self, name: str) -> bytes:
        """Return the whole (small) file. Raises ``NOT_FOUND``."""
        try:
            return self._path(name).read_bytes()
        except OSError as cause:
            raise _failure("read file", cause, name) from cause

    def sync_folder(self, folder: str) -> None:
        """Return when creations and removals in ``folder`` are durable."""
        path = self._path(folder) if folder else self.root
        try:
            _sync_folder(path)
        except FileNotFoundError:
            return
        except OSError as cause:
            raise _failure("sync folder", cause, folder) from cause

    def free_bytes(self) -> int:
        """Return the room left for new data."""
        figures = os.statvfs(self.root)
        return figures.f_bavail * figures.f_frsize

    def scratch_database(self, name: str) -> str:
        """Return the path where SQLite may keep a database that can be rebuilt."""
        path = self._path(name)
        self._make_folder(path.parent)
        return str(path)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if not name or any(part in {"", ".", ".."} for part in parts) or "\0" in name:
            raise AtollError(Kind.BAD_REQUEST, "find file", "not a relative name", about=name)
        return self.root.joinpath(*parts)

    @staticmethod
    def _make_folder(path: Path) -> None:
        """Make a folder and its parents; each new entry is durable in its parent."""
        missing: list[Path] = []
        here = path
        while not here.exists():
            missing.append(here)
            here = here.parent
        try:
            for folder in reversed(missing):
                folder.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(folder.parent)
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a folder")
        except OSError as cause:
            raise _failure("make folder", cause, str(path)) from cause

    @staticmethod
    def _write_whole(path: Path, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
