"""A customer who speaks S3 to the gateway: signed requests, XML answers, over the network."""

import hashlib
import re
from collections.abc import Sequence
from html import unescape

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import BucketInfo
from atoll.core.ports import Address, Reply
from atoll.core.sigv4 import Credentials, canonical_query, encode_path, sign_headers
from atoll.sim.clock import SimClock
from atoll.sim.incarnation import Incarnation
from atoll.sim.surroundings import Surroundings
from atoll.sim.transport import SimPieceTransport

GATEWAY_ADDRESS = Address("127.0.0.1", 9000)
REGION = "sim"
ACCESS_KEY = "ATOLLSIMULATED"
SECRET = "a secret of no value"  # noqa: S105 - of a simulated customer
REQUEST_S_MAX = 60.0
PAGE_KEYS = 50
PART_BYTES_MIN = 5 << 20

_KINDS = {
    "NoSuchKey": Kind.OBJECT_NOT_FOUND,
    "PreconditionFailed": Kind.PRECONDITION_FAILED,
    "OperationAborted": Kind.CONFLICT,
    "ConditionalRequestConflict": Kind.CONFLICT,
    "SlowDown": Kind.OVERLOADED,
    "ServiceUnavailable": Kind.OVERLOADED,
    "InternalError": Kind.INTERNAL,
    "RequestTimeout": Kind.TIMEOUT,
}
"""What a customer may be told; any other code is a violation."""

Pairs = Sequence[tuple[str, str]]


class S3Customer:
    """Does what ``sim.machines.GatewayMachine`` does, from outside."""

    def __init__(self, world: Surroundings, life: Incarnation) -> None:
        """A customer that never dies."""
        self._clock = SimClock(life)
        self._transport = SimPieceTransport(life, world.network)
        self._credentials = Credentials(ACCESS_KEY, SECRET, REGION)

    async def put(self, bucket: BucketInfo, key: str, data: bytes, *, new: bool = False) -> None:
        """Store an object; with ``new`` only if there is none of that key."""
        headers = {"if-none-match": "*"} if new else {}
        await self._ask("PUT", bucket, key, (), data, headers)

    async def put_parts(self, bucket: BucketInfo, key: str, data: bytes) -> None:
        """Store an object as a multipart upload."""
        begun = await self._ask("POST", bucket, key, (("uploads", ""),))
        upload = _texts(begun.body, "UploadId")[0]
        listed = ""
        for number, begin in enumerate(range(0, len(data), PART_BYTES_MIN), 1):
            part = data[begin : begin + PART_BYTES_MIN]
            query = (("partNumber", str(number)), ("uploadId", upload))
            etag = (await self._ask("PUT", bucket, key, query, part)).headers["etag"]
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        await self._ask("POST", bucket, key, (("uploadId", upload),), body)

    async def get(self, bucket: BucketInfo, key: str, start: int, end: int | None) -> bytes:
        """Read a range of an object (``end`` None: to its end)."""
        if start == 0 and end is None:
            return (await self._ask("GET", bucket, key)).body
        last = "" if end is None else str(end - 1)
        headers = {"range": f"bytes={start}-{last}"}
        reply = await self._send("GET", bucket, key, (), b"", headers)
        if reply.status == 416:
            return b""
        return _accepted(reply).body

    async def delete(self, bucket: BucketInfo, key: str) -> None:
        """Remove an object."""
        await self._ask("DELETE", bucket, key)

    async def listing(self, bucket: BucketInfo) -> dict[str, int]:
        """Return all keys with their sizes."""
        found: dict[str, int] = {}
        token = ""
        while True:
            query = [("list-type", "2"), ("max-keys", str(PAGE_KEYS))]
            query += [("continuation-token", token)] if token else []
            body = (await self._ask("GET", bucket, "", query)).body
            sizes = map(int, _texts(body, "Size"))
            found |= dict(zip(_texts(body, "Key"), sizes, strict=True))
            tokens = _texts(body, "NextContinuationToken")
            if not tokens:
                return found
            token = tokens[0]

    async def _ask(
        self,
        method: str,
        bucket: BucketInfo,
        key: str,
        query: Pairs = (),
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        return _accepted(await self._send(method, bucket, key, query, body, headers or {}))

    async def _send(
        self,
        method: str,
        bucket: BucketInfo,
        key: str,
        query: Pairs,
        body: bytes,
        headers: dict[str, str],
    ) -> Reply:
        path = encode_path(f"/{bucket.name}/{key}")
        pairs = [(name.encode(), value.encode()) for name, value in query]
        host = f"{GATEWAY_ADDRESS.host}:{GATEWAY_ADDRESS.port}"
        signed = sign_headers(
            self._credentials,
            method,
            path.encode(),
            pairs,
            {**headers, "host": host},
            hashlib.sha256(body).hexdigest(),
            self._clock.now_ms(),
        )
        del signed["host"]  # the transport sends it
        target = f"{path}?{canonical_query(pairs)}" if pairs else path
        return await self._transport.call(
            GATEWAY_ADDRESS, method, target, signed, body, REQUEST_S_MAX
        )


def _texts(body: bytes, tag: str) -> list[str]:
    return [unescape(text) for text in re.findall(f"<{tag}>([^<]*)</{tag}>", body.decode())]


def _accepted(reply: Reply) -> Reply:
    """Return a success; raise what an error document says, under whatever status."""
    if reply.status < 300 and b"<Error>" not in reply.body[:300]:
        return reply
    code = (_texts(reply.body, "Code") or [str(reply.status)])[0]
    message = (_texts(reply.body, "Message") or [""])[0]
    kind = _KINDS.get(code, Kind.BAD_REQUEST)
    raise AtollError(kind, "ask S3", f"{reply.status} {code}: {message}")
