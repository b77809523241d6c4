"""The root ASGI app of the S3 endpoint: admission, address, signature, codec, operation, answer.

Never mounted under another app: mounts rewrite ``//`` and trailing ``/``, and every byte of the
path counts here. Routes and signatures come from ``raw_path`` and ``query_string``.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from typing import Any

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import ControlPlane
from atoll.core.messages.policy import PartyFacts
from atoll.core.ports import Clock, Compute, Rng
from atoll.gateway.config import GatewayConfig
from atoll.gateway.customer.door import CUSTOMER_PREFIX, CustomerDoor
from atoll.gateway.locks import LockKeeper
from atoll.gateway.objects import ObjectStore
from atoll.gateway.place import GatewayPlace
from atoll.gateway.s3.body import ClientGoneError
from atoll.gateway.s3.call import Buckets, Call, Services
from atoll.gateway.s3.codec.compiled import Codec, compile_codec
from atoll.gateway.s3.codec.model import Operation
from atoll.gateway.s3.codec.router import COPY_HEADER
from atoll.gateway.s3.errors import S3Error, error_xml, from_error, not_implemented
from atoll.gateway.s3.operations import (
    HANDLERS,
    LONG_XML,
    LONG_XML_BYTES_MAX,
    XML_BYTES_MAX,
)
from atoll.gateway.s3.request import Receive, Request, Response, Scope, Send, header_pairs
from atoll.gateway.s3.signature import Authenticator

HEALTH_PATH = b"/-/health"
"""Answered without a signature; no bucket can be called ``-``."""
REQUEST_TARGET_BYTES_MAX = 16 << 10
XML_BYTES_TOTAL_MAX = 64 << 20
"""XML bodies being read in one process; one that would exceed it is answered 503 SlowDown."""
WATCHED_BYTES_MIN = 512 << 10
"""A body that has sent so much is watched for a client that leaves; shorter ones just end."""

_log = logging.getLogger("atoll.gateway")


class Gateway:
    """One S3 endpoint. ``app`` is the ASGI callable."""

    def __init__(
        self,
        *,
        control: ControlPlane,
        objects: ObjectStore,
        clock: Clock,
        rng: Rng,
        compute: Compute,
        config: GatewayConfig | None = None,
        codec: Codec | None = None,
        locks: LockKeeper | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Wire the endpoint. ``codec`` may be shared between gateways of one process.

        With ``identity`` it signs what it says about itself and what it hands out.
        """
        self.config = config or GatewayConfig()
        facts = self.config.facts or PartyFacts(public_key=b"", role="gateway")
        place = GatewayPlace(control, clock, identity, facts)
        self._rng = rng
        self._auth = Authenticator(
            control, clock, self.config.region, self.config.credential_cache_s
        )
        self.services = Services(
            control=control,
            objects=objects,
            clock=clock,
            compute=compute,
            config=self.config,
            codec=codec or compile_codec(),
            buckets=Buckets(control, clock, self.config.bucket_cache_s, place),
            place=place,
            locks=locks,
        )
        self._customer = CustomerDoor(self.services)
        self._running = 0
        self._xml_bytes = 0

    @property
    def requests_running(self) -> int:
        """Requests being answered now, uploads completing in the background included."""
        return self._running + len(self.services.background)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI 3)."""
        if scope["type"] != "http":
            return
        request_id = self._rng.bytes(8).hex().upper()
        if scope.get("raw_path") == HEALTH_PATH:
            body = b'{"state":"serving"}'
            await _send(send, Response(200, [("content-type", "application/json")], body), "", "")
            return
        if self.requests_running >= self.config.concurrent_requests_max:
            await self._refuse(scope, send, S3Error("SlowDown"), request_id)
            return
        self._running += 1
        if (b"expect", b"100-continue") in scope["headers"]:
            receive, send = _expecting(receive, send)
        try:
            await self._serve(scope, receive, send, request_id)
        finally:
            self._running -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        try:
            response = await self._answer(scope, receive)
        except ClientGoneError:
            return
        except AtollError as error:
            told = from_error(error)
            if told.status >= 500 and told.kind is not Kind.NOT_IMPLEMENTED:
                _log.warning("%s %s: %s", scope["method"], request_id, error)
            await self._refuse(scope, send, told, request_id)
            return
        except Exception:  # noqa: BLE001 - a bug is answered 500 and logged, never a dropped line
            _log.exception("%s %s: a bug", scope["method"], request_id)
            await self._refuse(scope, send, S3Error("InternalError"), request_id)
            return
        try:
            await _send(send, response, request_id, scope["method"], receive)
        except AtollError as error:
            # The status is out. Ending without the last bytes makes the server cut the line, so
            # that the client cannot take a part for the whole.
            _log.warning("%s %s: broke off: %s", scope["method"], request_id, error)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > REQUEST_TARGET_BYTES_MAX:
            raise S3Error("InvalidURI")
        request = Request(scope, receive, self.config.base_domains)
        if request.method == "OPTIONS":
            raise S3Error("AccessForbidden", Method="OPTIONS", ResourceType="OBJECT")
        verified = await self._auth.authenticate(request)
        if request.raw_path.startswith(CUSTOMER_PREFIX):
            return await self._customer.answer(request, verified)
        operation = self._route(request)
        handler = HANDLERS.get(operation.name)
        if handler is None:
            raise not_implemented(operation.name)
        decoder = self.services.codec.decoders[operation.name]
        params = decoder.decode(request.headers, request.query)
        call = Call(self.services, request, verified, operation, params)
        try:
            if decoder.read_body is not None:
                await self._read_xml(call)
            return await handler(call)
        except AtollError as error:
            raise _located(error, request) from error
        finally:
            if call.body is not None:
                await call.body.close()

    async def _read_xml(self, call: Call) -> None:
        """Read and decode a body that is XML or text, verified and of bounded length."""
        operation, headers = call.operation, call.request.headers
        decoder = self.services.codec.decoders[operation.name]
        if "content-length" not in headers and "transfer-encoding" not in headers:
            decoder.decode_body(b"", call.params)
            return
        body = call.open_body()
        known = body.expected.md5 or body.expected.algorithm
        if operation.checksum_required and (body.size or decoder.body_required) and not known:
            raise S3Error(
                "InvalidRequest",
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            )
        limit = LONG_XML_BYTES_MAX if operation.name in LONG_XML else XML_BYTES_MAX
        if body.size <= limit and self._xml_bytes + body.size > XML_BYTES_TOTAL_MAX:
            raise S3Error("SlowDown")
        self._xml_bytes += body.size
        try:
            raw = await body.read_all(limit)
            decoder.decode_body(raw, call.params)
        finally:
            self._xml_bytes -= body.size

    def _route(self, request: Request) -> Operation:
        codec = self.services.codec
        fixed = codec.router.fixed(request.method, f"/{request.bucket}")
        if fixed is not None and request.level == "bucket" and not request.query:
            return fixed
        form = request.headers.get("content-type", "").startswith("multipart/form-data")
        if request.method == "POST" and request.level == "bucket" and form:
            raise not_implemented("PostObject")
        return codec.router.find(
            request.method, request.level, request.query, COPY_HEADER in request.headers
        )

    async def _refuse(self, scope: Scope, send: Send, error: S3Error, request_id: str) -> None:
        resource = scope.get("raw_path", b"/").decode("latin-1")
        body = error_xml(error, resource, request_id, _host_id(request_id))
        headers = [("content-type", "application/xml")]
        if error.code in ("SlowDown", "ServiceUnavailable"):
            headers.append(("retry-after", "1"))
        if "Region" in error.fields:
            headers.append(("x-amz-bucket-region", error.fields["Region"]))
        if scope["method"] == "HEAD":
            await _send(send, Response(error.status, headers), request_id, "HEAD")
            return
        await _send(send, Response(error.status, headers, body), request_id, scope["method"])


def _expecting(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Close the connection after an answer given before the body was asked for.

    A client that waits for 100 Continue may then send its body or not; on a connection kept open
    its next request could be taken for that body (RFC 9110 section 10.1.1).
    """
    asked = False

    async def watched_receive() -> Any:
        nonlocal asked
        asked = True
        return await receive()

    async def watched_send(message: Any) -> None:
        if message["type"] == "http.response.start" and not asked:
            message["headers"].append((b"connection", b"close"))
        await send(message)

    return watched_receive, watched_send


def _located(error: AtollError, request: Request) -> S3Error:
    """Return the error with the bucket or key it is about."""
    told = from_error(error)
    if told.code == "NoSuchKey":
        told.fields.setdefault("Key", request.key)
    elif told.code in ("NoSuchBucket", "BucketNotEmpty"):
        told.fields.setdefault("BucketName", request.bucket)
    elif told.code == "NoSuchUpload" and "uploadId" in request.query:
        told.fields.setdefault("UploadId", request.query["uploadId"])
    elif told.code == "PreconditionFailed" and "Condition" not in told.fields:
        named = "If-Match" if "if-match" in request.headers else "If-None-Match"
        told.fields["Condition"] = named
    if told is not error and error.kind is Kind.CONFLICT and "if-none-match" in request.headers:
        return S3Error("ConditionalRequestConflict")
    return told


def _host_id(request_id: str) -> str:
    return base64.b64encode(request_id.encode()).decode("ascii")


async def _send(
    send: Send,
    response: Response,
    request_id: str,
    method: str,
    receive: Receive | None = None,
) -> None:
    """Send an answer with the headers that every one has."""
    headers = header_pairs(response.headers)
    headers.append((b"server", b"Atoll"))
    if request_id:
        headers.append((b"x-amz-request-id", request_id.encode()))
        headers.append((b"x-amz-id-2", _host_id(request_id).encode()))
    stream = response.stream
    length = len(response.body) if response.length is None else response.length
    if not (stream is not None and response.length is None) and response.status not in (204, 304):
        headers.append((b"content-length", str(length).encode()))
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    if method == "HEAD" or stream is None:
        await send(start)
        await send({"type": "http.response.body", "body": response.body, "more_body": False})
        return
    await send(start)
    await _send_stream(send, stream, receive)


async def _send_stream(send: Send, stream: AsyncIterator[Any], receive: Receive | None) -> None:
    """Send a body view by view; stop, and free what feeds it, when the client has left."""
    sent_bytes = 0
    leaving: asyncio.Task[None] | None = None
    try:
        async for view in stream:
            await send({"type": "http.response.body", "body": view, "more_body": True})
            sent_bytes += len(view)
            if leaving is not None:
                if leaving.done():
                    return
            elif receive is not None and sent_bytes >= WATCHED_BYTES_MIN:
                leaving = asyncio.create_task(_left(receive))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        if leaving is not None:
            leaving.cancel()
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def _left(receive: Receive) -> None:
    """Return when the client has closed the connection. Servers do not say it when we send."""
    while (await receive())["type"] != "http.disconnect":
        pass
