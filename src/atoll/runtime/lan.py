"""The local network: the real answer to the ``Lan`` port (Linux)."""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from atoll.core.errors import AtollError, Kind

ANSWER_BYTES_MAX = 64 << 10
ROUTES = Path("/proc/net/route")


class LocalNetwork:
    """``core.ports.Lan`` for a process."""

    def router(self) -> tuple[str, str] | None:
        """Return the default router and this machine's address towards it; None without one."""
        host = default_router(ROUTES)
        if host is None:
            return None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
            try:
                towards.connect((host, 9))  # nothing is sent
            except OSError:
                return None
            return host, str(towards.getsockname()[0])

    async def ask(self, host: str, port: int, question: bytes, timeout_s: float) -> bytes:
        """Send a datagram, once more after a while; return the first answer."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Asking(answer, host),
                local_addr=("0.0.0.0", 0),  # noqa: S104
            )
        except OSError as cause:
            raise AtollError(Kind.UNREACHABLE, "ask router", str(cause)) from cause
        try:
            for _try in range(2):
                transport.sendto(question, (host, port))
                done, _pending = await asyncio.wait([answer], timeout=timeout_s / 2)
                if done:
                    return answer.result()
        except OSError as cause:
            raise AtollError(Kind.UNREACHABLE, "ask router", str(cause)) from cause
        finally:
            transport.close()
        raise AtollError(Kind.TIMEOUT, "ask router", "the router does not answer")

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """Make a small HTTP/1.0 call; return status and body (at most 64 KiB)."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {path} HTTP/1.0", f"host: {parts.netloc}", "connection: close"]
        lines += [f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        question = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
                try:
                    writer.write(question)
                    answer = bytearray()
                    while len(answer) < ANSWER_BYTES_MAX and (data := await reader.read(8192)):
                        answer += data
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as cause:
            raise AtollError(
                Kind.UNREACHABLE, "ask router", str(cause) or "no answer in time"
            ) from cause
        head, _, content = bytes(answer).partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1:2]
        if not status or not status[0].isdigit():
            raise AtollError(Kind.BAD_REQUEST, "ask router", "this is no answer of HTTP")
        return int(status[0]), content


class _Asking(asyncio.DatagramProtocol):
    def __init__(self, answer: "asyncio.Future[bytes]", host: str) -> None:
        self._answer = answer
        self._host = host

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        expected = ipaddress.ip_address(self._host)
        # To a group anybody may answer; the answer's content is held against the router then.
        if (expected.is_multicast or addr[0] == self._host) and not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(AtollError(Kind.UNREACHABLE, "ask router", str(exc)))


def default_router(routes: Path) -> str | None:
    """Return the router of the default route that the kernel's table names."""
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or not int(fields[3], 16) & 2:
            continue
        host = str(ipaddress.IPv4Address(struct.pack("<I", int(fields[2], 16))))
        metric = int(fields[6])
        if best is None or metric < best[0]:
            best = metric, host
    return None if best is None else best[1]
