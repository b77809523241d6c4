"""The data folder: whose it is, which format it has, who holds it, and the secrets inside.

A folder carries a marker, ``atoll.json``. A folder without one is taken only if it holds nothing
but what is laid down before a first start (``atoll.toml``, ``certificates/*.cert``), so a wrong
path never mixes with somebody's files. A lock, held for the life of the process, keeps a second
one out. Secrets are files of mode 0600 in ``secrets/``.
"""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import platformdirs

from atoll.core.errors import AtollError, Kind

FORMAT = 1
"""Version of the folder's layout that this code reads and writes."""
MARKER = "atoll.json"
LOCK = "lock"
SECRETS = "secrets"
SETTINGS = "atoll.toml"
CERTIFICATES = "certificates"
SECRET_BYTES_MAX = 64 << 10


class Marker(msgspec.Struct, frozen=True):
    """What the marker file says."""

    kind: str
    """``cloud``, ``coordinator``, ``gateway``, ``node`` or ``verifier``."""
    format: int
    created_ms: int
    ephemeral: bool = False


def default_folder(kind: str) -> Path:
    """Return where a party keeps its data when nobody says: under the XDG data folder."""
    return Path(platformdirs.user_data_dir("atoll", appauthor=False)) / kind


class Folder:
    """An opened data folder. Close it (or let the process end) to let the next one in."""

    def __init__(self, path: Path, marker: Marker, *, fresh: bool, lock: int | None) -> None:
        self.path = path
        self.marker = marker
        self.fresh = fresh
        """True where this call made the folder."""
        self._lock = lock

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def secret(self, name: str, make: Callable[[], bytes] | None = None) -> bytes:
        """Return a secret; ``make`` it where it is absent.

        Raises ``CONFIG`` where it is absent and cannot be made, or others may read it.
        """
        return read_secret(self.path, name, make)


def open_folder(
    path: Path,
    kind: str,
    now_ms: int,
    *,
    also: Collection[str] = (),
    lock: bool = True,
    ephemeral: bool = False,
) -> Folder:
    """Open a data folder, or make it. A folder of a kind in ``also`` is opened, never made.

    Raises ``WRONG_FOLDER`` (foreign files, another kind, no right to write), ``NEWER_FORMAT``,
    ``CONFLICT`` (another process holds it; its pid is named) and ``DISK_FULL``.
    """
    path = path.expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        marker = read_marker(path)
        fresh = marker is None
        if marker is None:
            _require_new(path)
            path.chmod(0o700)
            marker = Marker(kind=kind, format=FORMAT, created_ms=now_ms, ephemeral=ephemeral)
        _require_kind(path, marker, (kind, *also))
        held = _take_lock(path) if lock else None
        if fresh:
            write_file(path / MARKER, msgspec.json.encode(marker) + b"\n")
    except OSError as cause:
        raise folder_error(path, cause) from cause
    return Folder(path, marker, fresh=fresh, lock=held)


def read_marker(path: Path) -> Marker | None:
    """Return a folder's marker, or None where there is none. Raises ``WRONG_FOLDER``."""
    try:
        raw = (path / MARKER).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        marker = msgspec.json.decode(raw, type=Marker)
    except msgspec.MsgspecError as cause:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "open data folder",
            f"{path / MARKER} cannot be read as a marker of Atoll",
            hint="choose another folder with --data, or restore the marker from a backup",
        ) from cause
    if marker.format > FORMAT:
        raise AtollError(
            Kind.NEWER_FORMAT,
            "open data folder",
            f"{path} has format {marker.format}, this program knows formats up to {FORMAT}",
            hint="upgrade atoll, or choose another folder with --data; nothing was changed",
        )
    return marker


def _require_new(path: Path) -> None:
    """Raise ``WRONG_FOLDER`` where a folder holds more than what may lie there beforehand."""
    foreign = sorted(p.name for p in path.iterdir() if not _may_precede(p))
    if foreign:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "open data folder",
            f"{path} is not a data folder of Atoll: it holds {foreign[0]!r} and no {MARKER}",
            hint="choose an empty or new folder with --data; nothing was changed",
        )


def _may_precede(place: Path) -> bool:
    """Say whether an entry may lie in a folder before its first start."""
    if place.name == CERTIFICATES and place.is_dir():
        return all(p.suffix == ".cert" and p.is_file() for p in place.iterdir())
    return place.name in (LOCK, SETTINGS) and place.is_file()


def _require_kind(path: Path, marker: Marker, kinds: Collection[str]) -> None:
    if marker.kind not in kinds:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "open data folder",
            f"{path} holds a {marker.kind}, not a {' or '.join(kinds)}",
            hint="choose another folder with --data; nothing was changed",
        )


def _take_lock(path: Path) -> int:
    handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as cause:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        os.close(handle)
        if cause.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise AtollError(
            Kind.CONFLICT,
            "open data folder",
            f"{path} is in use by process {holder or '(unknown)'}",
            hint="stop that one first, or give this one another folder with --data",
            about=holder,
        ) from cause
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def lock_holder(path: Path) -> int | None:
    """Return the pid that holds a folder now, or None."""
    try:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(handle, 32, 0).strip()
        return int(text) if text.isdigit() else None
    else:
        return None
    finally:
        os.close(handle)


def folder_error(path: Path, cause: OSError) -> AtollError:
    """Say what the operating system refused in a folder, in words a person can act on."""
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return AtollError(
            Kind.DISK_FULL,
            "write data folder",
            f"the disk that holds {path} is full",
            hint="free some space, or choose another folder with --data",
        )
    reason = cause.strerror or str(cause)
    return AtollError(
        Kind.WRONG_FOLDER,
        "open data folder",
        f"{cause.filename or path}: {reason.lower()}",
        hint="choose a folder that this user may write with --data",
    )


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put ``content`` under a name, atomically and durably, with the given mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_secret(path: Path, name: str, make: Callable[[], bytes] | None = None) -> bytes:
    """Return ``secrets/name`` of a folder; ``make`` and keep it where it is absent."""
    place = path / SECRETS / name
    try:
        facts = place.stat()
    except FileNotFoundError:
        if make is None:
            raise AtollError(
                Kind.CONFIG,
                "read secret",
                f"{place} is missing",
                hint="run the command that makes this folder first, or restore it from a backup",
            ) from None
        content = make()
        try:
            (path / SECRETS).mkdir(mode=0o700, exist_ok=True)
            write_file(place, content)
        except OSError as cause:
            raise folder_error(path, cause) from cause
        return content
    if stat.S_IMODE(facts.st_mode) & 0o077:
        raise AtollError(
            Kind.CONFIG,
            "read secret",
            f"{place} may be read by other users (mode {stat.S_IMODE(facts.st_mode):04o})",
            hint=f"chmod 600 {place}",
        )
    if facts.st_size > SECRET_BYTES_MAX:
        raise AtollError(Kind.CONFIG, "read secret", f"{place} is too large to be a secret")
    return place.read_bytes()


def write_secret(path: Path, name: str, content: bytes) -> None:
    """Keep a secret under ``secrets/name`` with mode 0600."""
    try:
        (path / SECRETS).mkdir(mode=0o700, exist_ok=True)
        write_file(path / SECRETS / name, content)
    except OSError as cause:
        raise folder_error(path, cause) from cause
