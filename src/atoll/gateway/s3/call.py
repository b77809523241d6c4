"""One operation at work: what it may use, and how it answers."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Answer, BucketInfo, ControlPlane, GetBucket, Message
from atoll.core.ports import Clock, Compute
from atoll.gateway.config import GatewayConfig
from atoll.gateway.locks import LockKeeper
from atoll.gateway.objects import ObjectStore
from atoll.gateway.place import GatewayPlace
from atoll.gateway.s3 import names
from atoll.gateway.s3.body import IncomingBody, read_expected
from atoll.gateway.s3.codec.compiled import Codec
from atoll.gateway.s3.codec.decode import Params
from atoll.gateway.s3.codec.encode import XML_DECLARATION
from atoll.gateway.s3.codec.model import Operation
from atoll.gateway.s3.errors import S3Error, error_xml, from_error
from atoll.gateway.s3.metadata import owner
from atoll.gateway.s3.request import Request, Response
from atoll.gateway.s3.signature import Caller, Verified

BUCKETS_CACHED_MAX = 4096
Result = TypeVar("Result")


class Buckets:
    """Looks buckets up; reads may be answered from a short-lived bounded memory."""

    def __init__(
        self, control: ControlPlane, clock: Clock, cache_s: float, place: GatewayPlace
    ) -> None:
        self._control = control
        self._place = place
        self._clock = clock
        self._cache_s = cache_s
        self._cached: OrderedDict[str, tuple[float, BucketInfo]] = OrderedDict()

    async def find(self, name: str, *, fresh: bool, served: bool = True) -> BucketInfo:
        """Return a bucket. Raises ``NoSuchBucket`` or ``InvalidBucketName``.

        With ``served``, ``FORBIDDEN`` where its policy keeps this gateway from serving it.
        """
        found = await self._find(name, fresh=fresh)
        if served:
            await self._place.admit(found)
        return found

    async def _find(self, name: str, *, fresh: bool) -> BucketInfo:
        now = self._clock.monotonic()
        if not fresh:
            cached = self._cached.get(name)
            if cached is not None and now - cached[0] < self._cache_s:
                return cached[1]
        names.check_bucket(name)
        try:
            found = await self._control.ask(GetBucket(name=name), BucketInfo)
        except AtollError:
            self.forget(name)
            raise
        self._cached[name] = (now, found)
        self._cached.move_to_end(name)
        if len(self._cached) > BUCKETS_CACHED_MAX:
            self._cached.popitem(last=False)
        return found

    def forget(self, name: str) -> None:
        """Believe nothing of this bucket any more."""
        self._cached.pop(name, None)


@dataclass(frozen=True, slots=True)
class Services:
    """What all operations of a gateway share."""

    control: ControlPlane
    objects: ObjectStore
    clock: Clock
    compute: Compute
    config: GatewayConfig
    codec: Codec
    buckets: Buckets
    place: GatewayPlace
    """Where this gateway is, and which buckets it may serve."""
    locks: LockKeeper | None = None
    """Signs locks; None where this gateway signs none."""
    background: set[asyncio.Task[Any]] = field(default_factory=set)
    """Completions that go on when their client has left; bounded by the admission limit."""


class Call:
    """One request being answered."""

    __slots__ = ("body", "operation", "params", "request", "services", "verified")

    def __init__(
        self,
        services: Services,
        request: Request,
        verified: Verified,
        operation: Operation,
        params: Params,
    ) -> None:
        self.services = services
        self.request = request
        self.verified = verified
        self.operation = operation
        self.params = params
        self.body: IncomingBody | None = None

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.verified.caller

    @property
    def config(self) -> GatewayConfig:
        """The gateway's settings."""
        return self.services.config

    async def ask(self, message: Message, answer: type[Answer]) -> Answer:
        """Ask the control plane."""
        return await self.services.control.ask(message, answer)

    async def bucket(self, *, fresh: bool = False) -> BucketInfo:
        """Return the bucket, which must be the caller's. Raises ``AccessDenied``."""
        return await self.own_bucket(self.request.bucket, fresh=fresh)

    async def own_bucket(self, name: str, *, fresh: bool) -> BucketInfo:
        """Return a named bucket, which must be the caller's. Raises ``AccessDenied``."""
        found = await self.services.buckets.find(name, fresh=fresh)
        expected = self.params.get("ExpectedBucketOwner")
        if found.account != self.caller.account or (
            expected is not None and expected != self.caller.owner_id
        ):
            raise S3Error("AccessDenied")
        return found

    async def read(
        self, make: Callable[[BucketInfo], Message], answer: type[Answer]
    ) -> tuple[BucketInfo, Answer]:
        """Ask about the bucket's content, once more if the remembered bucket is gone."""
        info = await self.bucket()
        try:
            return info, await self.ask(make(info), answer)
        except AtollError as error:
            if error.kind is not Kind.BUCKET_NOT_FOUND:
                raise
        info = await self.bucket(fresh=True)
        return info, await self.ask(make(info), answer)

    def open_body(self) -> IncomingBody:
        """Return the request's body. Raises ``S3Error`` for what its headers say wrong."""
        if self.body is None:
            completes = self.operation.name == "CompleteMultipartUpload"
            expected = read_expected(self.request, self.verified, sums_of_object=completes)
            services = self.services
            self.body = IncomingBody(
                self.request, self.verified, expected, services.compute, services.config
            )
        return self.body

    def owner(self) -> dict[str, str]:
        """Return the caller as an Owner element."""
        caller = self.caller
        return owner(caller.account, caller.owner_name, show_name=self.config.show_display_name)

    def answer(self, values: Mapping[str, Any], status: int = 0) -> Response:
        """Return the encoded answer of this operation."""
        encoder = self.services.codec.encoders[self.operation.name]
        body = b"" if self.operation.method == "HEAD" else encoder.body(values)
        headers = encoder.headers(values)
        if body:
            headers.append(("content-type", "application/xml"))
        return Response(status or self.operation.status, headers, body)

    def in_background(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Start work that goes on when the client has left."""
        task = asyncio.create_task(work)
        self.services.background.add(task)
        task.add_done_callback(self.services.background.discard)
        return task

    async def patiently(self, work: Coroutine[Any, Any, Response]) -> Response:
        """Await work; where it is slow, answer 200 at once and whitespace until it is done.

        An error after that is a 200 with an Error body, as S3 has it.
        """
        task = self.in_background(work)
        done, _ = await asyncio.wait({task}, timeout=self.config.keep_alive_s)
        if done:
            return task.result()
        return Response(200, [("content-type", "application/xml")], stream=self._wait(task))

    async def _wait(self, task: "asyncio.Task[Response]") -> AsyncIterator[bytes]:
        declaration = XML_DECLARATION.encode()
        yield declaration
        while not task.done():
            done, _ = await asyncio.wait({task}, timeout=self.config.keep_alive_s)
            if not done:
                yield b" "
        try:
            body = task.result().body
        except AtollError as error:
            body = error_xml(from_error(error), self.request.raw_path.decode("latin-1"), "", "")
        yield body.removeprefix(declaration)
