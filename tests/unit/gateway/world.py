"""A gateway over the real metadata on SQLite; only the nodes' side is a dictionary."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from atoll.coordinator.metadata.service import MetadataConfig, MetadataService
from atoll.coordinator.metadata.uploads import UploadService
from atoll.core.capsule import StreamOrigin
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import BucketInfo, SegmentRecord, StoredPiece
from atoll.core.scheme import scheme_for, unit_bytes_for
from atoll.gateway.app import Gateway
from atoll.gateway.config import GatewayConfig
from atoll.gateway.s3.codec.compiled import compile_codec
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase
from atoll.runtime.rng import SystemRng

CODEC = compile_codec()
ACCESS, SECRET = "AKIDCUSTOMER", "customer-secret"
STRANGER = ("AKIDSTRANGER", "stranger-secret")
VIEW_BYTES = 100_000


class MemoryObjects:
    """Keeps segments in a dictionary, as the nodes would on their disks."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.fail_with: AtollError | None = None
        self.serial = 0

    async def write_object(
        self,
        bucket: BucketInfo,
        key: str,
        size: int,
        source: AsyncIterator[memoryview],
        origin: StreamOrigin | None = None,
    ) -> list[SegmentRecord]:
        data = b"".join([bytes(view) async for view in source])
        if self.fail_with is not None:
            raise self.fail_with
        if len(data) != size:
            raise AtollError(Kind.BAD_REQUEST, "write object", "another length than said")
        records = []
        for start in range(0, size, 64 << 20):
            part = data[start : start + (64 << 20)]
            self.serial += 1
            segment = hashlib.sha256(str(self.serial).encode()).digest()[:16]
            self.kept[segment] = part
            scheme = scheme_for(len(part), 20)
            records.append(
                SegmentRecord(
                    segment=segment,
                    serial=self.serial,
                    plain_bytes=len(part),
                    k=scheme.k,
                    n=scheme.n,
                    unit_bytes=unit_bytes_for(len(part), scheme.k),
                    root=bytes(32),
                    wrapped_key=b"wrapped",
                    pieces=[StoredPiece(index=i, alias=i + 1) for i in range(scheme.n)],
                )
            )
        return records

    async def read_object(
        self,
        bucket: BucketInfo,
        key: str,
        segments: Sequence[SegmentRecord],
        start: int,
        end: int,
    ) -> AsyncIterator[memoryview]:
        data = memoryview(b"".join(self.kept[segment.segment] for segment in segments))[start:end]
        if self.fail_with is not None:
            raise self.fail_with
        for at in range(0, len(data), VIEW_BYTES):
            yield data[at : at + VIEW_BYTES]


class Control:
    """The metadata's services as one control plane."""

    def __init__(self, metadata: MetadataService, uploads: UploadService) -> None:
        self.handlers = {**metadata.handlers, **uploads.handlers}

    async def ask(self, request: Any, answer: type[Any]) -> Any:
        return await self.handlers[type(request)](request)


class Answer:
    """What came back over ASGI."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status: int = messages[0]["status"]
        self.pairs = [(k.decode(), v.decode("latin-1")) for k, v in messages[0]["headers"]]
        self.headers = dict(self.pairs)
        self.chunks = [bytes(m.get("body", b"")) for m in messages[1:]]
        self.body = b"".join(self.chunks)
        self.complete = not messages[-1].get("more_body", False)

    @property
    def code(self) -> str:
        """The error's code."""
        text = self.body.decode(errors="replace")
        return text.partition("<Code>")[2].partition("</Code>")[0]


class Customer:
    """Signs with botocore and calls the app as an HTTP server would."""

    def __init__(self, gateway: Gateway, access: str = ACCESS, secret: str = SECRET) -> None:
        self.gateway = gateway
        self.credentials = botocore.credentials.Credentials(access, secret)

    async def __call__(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        host: str = "127.0.0.1:9000",
    ) -> Answer:
        """Send a signed request. ``target`` is the path with its query, encoded."""
        request = botocore.awsrequest.AWSRequest(
            method=method, url=f"http://{host}{target}", data=body, headers=headers or {}
        )
        botocore.auth.S3SigV4Auth(self.credentials, "s3", "us-east-1").add_auth(request)
        sent = {"host": host, **dict(request.headers.items())}
        if method in ("PUT", "POST"):
            sent.setdefault("content-length", str(len(body)))
        return await self.send(method, target, sent, [body])

    async def send(
        self, method: str, target: str, headers: dict[str, str], parts: list[bytes | None]
    ) -> Answer:
        """Send as it is, the body in these cuts; None among them is a client that leaves."""
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), str(v).encode("utf-8")) for k, v in headers.items()],
        }
        waiting = list(parts)
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not waiting:
                return {"type": "http.disconnect"}
            part = waiting.pop(0)
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}

        async def send(message: Any) -> None:
            messages.append(dict(message))

        await self.gateway.app(scope, receive, send)
        if not messages:
            raise ConnectionError("the gateway answered nothing")
        return Answer(messages)


class World:
    """The gateway and what stands behind it."""

    def __init__(self, database: SqlDatabase) -> None:
        clock, rng = SystemClock(), SystemRng()
        config = MetadataConfig(secrets_key=bytes(32))
        self.metadata = MetadataService(clock, rng, database, config)
        uploads = UploadService(clock, rng, database, config, self.metadata)
        self.control = Control(self.metadata, uploads)
        self.objects = MemoryObjects()
        self.compute = ThreadCompute(2)
        self.clock, self.rng = clock, rng
        self.gateway = self.make()
        self.customer = Customer(self.gateway)

    def make(self, config: GatewayConfig | None = None) -> Gateway:
        """Return another gateway over the same cloud."""
        return Gateway(
            control=self.control,
            objects=self.objects,
            clock=self.clock,
            rng=self.rng,
            compute=self.compute,
            config=config,
            codec=CODEC,
        )
