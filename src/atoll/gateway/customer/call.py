"""One request of a customer beyond S3, as its handler sees it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import BucketInfo
from atoll.gateway.s3.call import Services
from atoll.gateway.s3.signature import Caller

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CustomerCall:
    """A verified question: who asks, and the JSON body."""

    services: Services
    caller: Caller
    body: bytes

    def read(self, kind: type[Value]) -> Value:
        """Return the body as a struct of this type. Raises ``BAD_REQUEST``."""
        try:
            return msgspec.json.decode(self.body or b"{}", type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
            raise AtollError(Kind.BAD_REQUEST, "read request", str(cause)) from cause

    async def bucket(self, name: str, *, served: bool = True) -> BucketInfo:
        """Return a bucket of the caller. Raises ``BUCKET_NOT_FOUND``, ``FORBIDDEN``.

        With ``served`` also where its policy keeps this gateway from serving its data.
        """
        bucket = await self.services.buckets.find(name, fresh=True, served=served)
        if bucket.account != self.caller.account:
            raise AtollError(
                Kind.FORBIDDEN, "open bucket", "the bucket belongs to another account", about=name
            )
        return bucket


CustomerHandler = Callable[[CustomerCall], Awaitable[msgspec.Struct]]
"""Answers one operation with a struct, which is sent as JSON."""
