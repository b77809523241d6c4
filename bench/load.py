"""A load generator that costs little: requests are signed before the clock starts.

Threads over blocking sockets, one connection each; bodies are sent from and received into buffers
made once. It runs in a process of its own, so that its CPU time is counted apart.
"""

import datetime
import hashlib
import hmac
import json
import resource
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from urllib.parse import quote

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 120.0
HEAD_BYTES_MAX = 64 << 10
LATENCIES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: ``count`` requests of ``method`` over ``connections`` connections."""

    host: str
    port: int
    access_key: str
    secret: str
    region: str
    bucket: str
    prefix: str
    method: str
    object_bytes: int
    count: int
    connections: int


@dataclass(slots=True)
class Outcome:
    """What came back. Latencies in milliseconds."""

    ok: int
    failed: int
    seconds: float
    bytes: int
    load_cpu_s: float
    latency_ms_p50: float
    latency_ms_p99: float
    first_error: str


def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for word in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return key


def signed_head(plan: Plan, key: str, stamp: datetime.datetime, signing_key: bytes) -> bytes:
    """Return the request head of one object, SigV4-signed with an unsigned payload."""
    date, moment = stamp.strftime("%Y%m%d"), stamp.strftime("%Y%m%dT%H%M%SZ")
    path = "/" + quote(f"{plan.bucket}/{key}", safe="/-_.~")
    host = f"{plan.host}:{plan.port}"
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = (
        f"{plan.method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\n"
        f"x-amz-date:{moment}\n\n{names}\nUNSIGNED-PAYLOAD"
    )
    scope = f"{date}/{plan.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
    length = f"content-length: {plan.object_bytes}\r\n" if plan.method == "PUT" else ""
    return (
        f"{plan.method} {path} HTTP/1.1\r\nhost: {host}\r\nx-amz-date: {moment}\r\n"
        f"x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n{length}"
        f"authorization: AWS4-HMAC-SHA256 Credential={plan.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}\r\n\r\n"
    ).encode()


class _Connection:
    def __init__(self, plan: Plan) -> None:
        self._socket = socket.create_connection((plan.host, plan.port), CONNECT_TIMEOUT_S)
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)

    def exchange(self, head: bytes, body: memoryview | None) -> tuple[int, int, bytes]:
        """Send one request; return status, body length and the start of the body."""
        self._socket.sendall(head)
        if body is not None and len(body):
            self._socket.sendall(body)
        view, filled = memoryview(self._buffer), 0
        while (end := self._buffer.find(b"\r\n\r\n", 0, filled)) < 0:
            if filled >= HEAD_BYTES_MAX:
                raise OSError("answer head too long")
            filled += self._receive(view[filled:])
        lines = bytes(view[:end]).decode("latin-1").split("\r\n")
        status, length = int(lines[0].split(" ", 2)[1]), 0
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        got, start = filled - end - 4, bytes(view[end + 4 : min(filled, end + 400)])
        while got < length:
            got += self._receive(view[: min(len(view), length - got)])
        return status, length, start

    def _receive(self, into: memoryview) -> int:
        count = self._socket.recv_into(into)
        if not count:
            raise OSError("connection closed by the server")
        return count

    def close(self) -> None:
        self._socket.close()


class _Tally:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ok = self.failed = self.bytes = 0
        self.latencies: list[float] = []
        self.first_error = ""

    def note(self, ok: bool, size: int, seconds: float, error: str) -> None:
        with self.lock:
            self.ok += ok
            self.failed += not ok
            self.bytes += size if ok else 0
            if len(self.latencies) < LATENCIES_MAX:
                self.latencies.append(seconds * 1000)
            self.first_error = self.first_error or error


def _work(plan: Plan, heads: list[bytes], body: memoryview | None, tally: _Tally) -> None:
    connection = _Connection(plan)
    for head in heads:
        began = time.perf_counter()
        try:
            status, length, start = connection.exchange(head, body)
            error = "" if status == 200 else f"{status} {start[:300]!r}"
        except OSError as cause:
            error, length = repr(cause), 0
            connection.close()
            connection = _Connection(plan)
        size = plan.object_bytes if plan.method == "PUT" else length
        if not error and plan.method == "GET" and length != plan.object_bytes:
            error = f"answered {length} bytes instead of {plan.object_bytes}"
        tally.note(not error, size, time.perf_counter() - began, error)
    connection.close()


def run(plan: Plan) -> Outcome:
    """Carry out a plan and return what came back."""
    stamp = datetime.datetime.now(datetime.UTC)
    signing_key = _signing_key(plan.secret, stamp.strftime("%Y%m%d"), plan.region)
    keys = [f"{plan.prefix}{number:07d}" for number in range(plan.count)]
    heads = [signed_head(plan, key, stamp, signing_key) for key in keys]
    pattern = hashlib.shake_256(plan.prefix.encode()).digest(1 << 16)
    whole = (pattern * (plan.object_bytes // len(pattern) + 1))[: plan.object_bytes]
    body = memoryview(whole) if plan.method == "PUT" else None
    tally = _Tally()
    shares = [heads[i :: plan.connections] for i in range(plan.connections)]
    threads = [
        threading.Thread(target=_work, args=(plan, share, body, tally)) for share in shares if share
    ]
    cpu_before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    latencies = sorted(tally.latencies) or [0.0]
    return Outcome(
        ok=tally.ok,
        failed=tally.failed,
        seconds=seconds,
        bytes=tally.bytes,
        load_cpu_s=cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime,
        latency_ms_p50=latencies[len(latencies) // 2],
        latency_ms_p99=latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)],
        first_error=tally.first_error,
    )


def main() -> None:
    """Read a plan as JSON from standard input, write the outcome as JSON."""
    json.dump(asdict(run(Plan(**json.load(sys.stdin)))), sys.stdout)


if __name__ == "__main__":
    main()
