"""Orders to a running supervisor over a Unix socket in its data folder.

One request and one answer per connection, each one JSON line. Only the owner of the folder can
reach the socket (mode 0600 in a folder of mode 0700).
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from pathlib import Path

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Failure, failure_of
from atoll.runtime.supervisor import ChildFacts, Supervisor

LINE_BYTES_MAX = 64 << 10
TIMEOUT_S = 5.0
_PATH_BYTES_MAX = 100
"""The kernel's limit of a socket's path is 108 bytes."""


class Order(msgspec.Struct, frozen=True):
    """What to do with a child.

    ``facts``, ``kill`` (hold it down), ``crash`` (kill, let it be restarted), ``start``, ``freeze``
    (stop it where it is) or ``thaw``.
    """

    do: str
    name: str = ""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the children stand after the order, or what was wrong with it."""

    children: list[ChildFacts] = []
    failure: Failure | None = None


def socket_path(folder: Path) -> Path:
    """Return where the supervisor of a folder listens."""
    path = folder.absolute() / "run" / "control.sock"
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        path = Path(base) / f"atoll-{os.getuid()}-{digest}" / "control.sock"
        if base and len(os.fsencode(path)) <= _PATH_BYTES_MAX:
            break
    return path


def _own_folder(path: Path) -> None:
    """Make the socket's folder; in a shared place somebody else may have been there before."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    if facts.st_uid != os.getuid() or not stat.S_ISDIR(facts.st_mode) or facts.st_mode & 0o022:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "open control socket",
            f"{path} belongs to somebody else",
            hint="remove it, or set XDG_RUNTIME_DIR to a folder of this user",
        )


class ControlServer:
    """Listens for orders and hands them to a supervisor."""

    def __init__(self, supervisor: Supervisor, path: Path) -> None:
        self._supervisor = supervisor
        self._path = path
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. The caller holds the folder's lock, so an old socket is a dead one."""
        _own_folder(self._path.parent)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, self._path, limit=LINE_BYTES_MAX
        )
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._path.parent.rmdir()  # one of its own in a shared place

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), TIMEOUT_S)
            writer.write(msgspec.json.encode(self._obey(line)) + b"\n")
            await asyncio.wait_for(writer.drain(), TIMEOUT_S)
        except (TimeoutError, ValueError, ConnectionError):
            pass
        finally:
            writer.close()

    def _obey(self, line: bytes) -> Answer:
        try:
            order = msgspec.json.decode(line, type=Order)
            match order.do:
                case "facts":
                    pass
                case "kill":
                    self._supervisor.kill(order.name, hold=True)
                case "crash":
                    self._supervisor.kill(order.name, hold=False)
                case "freeze" | "thaw":
                    self._supervisor.freeze(order.name, thaw=order.do == "thaw")
                case "start":
                    self._supervisor.release(order.name)
                case _:
                    raise AtollError(
                        Kind.BAD_REQUEST, "control process", f"unknown order {order.do!r}"
                    )
        except msgspec.MsgspecError as cause:
            return Answer(
                failure=failure_of(AtollError(Kind.BAD_REQUEST, "control process", str(cause)))
            )
        except AtollError as error:
            return Answer(failure=failure_of(error))
        return Answer(children=self._supervisor.facts())


def send_order(folder: Path, do: str, name: str = "") -> list[ChildFacts]:
    """Send an order to the supervisor of a data folder; return how its children stand.

    Blocks for a moment. Raises ``UNREACHABLE`` where none runs, else the supervisor's own error.
    """
    path = socket_path(folder)
    line = b""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as caller:
        caller.settimeout(TIMEOUT_S)
        try:
            caller.connect(os.fspath(path))
            caller.sendall(msgspec.json.encode(Order(do, name)) + b"\n")
            while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                more = caller.recv(LINE_BYTES_MAX)
                if not more:
                    break
                line += more
            answer = msgspec.json.decode(line, type=Answer)
        except (OSError, msgspec.MsgspecError) as cause:
            raise AtollError(
                Kind.UNREACHABLE,
                "control process",
                f"no running cloud answers in {folder}",
                hint="start it with `atoll up`",
            ) from cause
    if answer.failure is not None:
        raise answer.failure.to_error()
    return answer.children
