"""The way in: ``POST /.atoll/v1/{operation}`` with a JSON body, signed as S3 requests are.

No bucket's name begins with a dot, so nothing of S3 is hidden by the prefix. Answers are JSON;
failures are the JSON form of ``messages.Failure`` with the status of their kind.
"""

import logging

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Failure, failure_of
from atoll.core.sigv4 import UNSIGNED_PAYLOAD
from atoll.gateway.customer.call import CustomerCall
from atoll.gateway.customer.operations import handler_of
from atoll.gateway.s3.body import IncomingBody, read_expected
from atoll.gateway.s3.call import Services
from atoll.gateway.s3.request import Request, Response
from atoll.gateway.s3.signature import Verified

CUSTOMER_PREFIX = b"/.atoll/v1/"
BODY_BYTES_MAX = 8 << 20

_log = logging.getLogger("atoll.gateway")


class CustomerDoor:
    """Answers signed requests under the prefix."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, request: Request, verified: Verified) -> Response:
        """Return the answer, a failure's included. Raises ``ClientGoneError``."""
        try:
            answer = await self._answer(request, verified)
        except AtollError as error:
            failure: Failure = failure_of(error)
            status = error.meaning.http_status
            return Response(status, [_JSON], msgspec.json.encode(failure))
        return Response(200, [_JSON], msgspec.json.encode(answer))

    async def _answer(self, request: Request, verified: Verified) -> msgspec.Struct:
        if request.method != "POST":
            raise AtollError(Kind.BAD_REQUEST, "answer request", "operations are asked by POST")
        if verified.payload_hash == UNSIGNED_PAYLOAD:
            raise AtollError(
                Kind.UNAUTHENTICATED, "answer request", "the body must be part of the signature"
            )
        handler = handler_of(request.raw_path[len(CUSTOMER_PREFIX) :].decode("latin-1"))
        services = self._services
        expected = read_expected(request, verified, sums_of_object=False)
        body = IncomingBody(request, verified, expected, services.compute, services.config)
        try:
            raw = await body.read_all(BODY_BYTES_MAX)
        finally:
            await body.close()
        return await handler(CustomerCall(services, verified.caller, raw))


_JSON = ("content-type", "application/json")
