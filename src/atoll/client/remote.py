"""The control plane over the network, for a gateway that does not share the database."""

from collections.abc import Sequence

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, prove_request
from atoll.core.messages import (
    MESSAGE_BYTES_MAX,
    Answer,
    Failure,
    Message,
    decode,
    encode,
)
from atoll.core.ports import Address, Clock, PieceTransport, Reply

CONTROL_PATH = "/v1/control"
CONTROL_TIMEOUT_S = 30.0
CONTENT_TYPE = "application/msgpack"


REPLAY_TRIES_MAX = 64
"""Equal questions of one millisecond under one key that are told apart."""


class RemoteControl:
    """``core.messages.ControlPlane`` at one of several coordinators over one database.

    Each question is signed by the gateway's key. A coordinator that cannot be reached is passed
    over for the next; one that was reached and did not answer is not, for it may have acted.
    """

    def __init__(
        self,
        transport: PieceTransport,
        addresses: Sequence[Address],
        identity: Identity,
        clock: Clock,
    ) -> None:
        """Raises ``CONFIG`` without an address."""
        if not addresses:
            raise AtollError(Kind.CONFIG, "reach coordinator", "no coordinator's address is known")
        self._transport = transport
        self._addresses = list(addresses)
        self._identity = identity
        self._clock = clock
        self._first = 0

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Send a ``ControlRequest``; return its answer. Raises ``AtollError``."""
        body = encode(request)
        if len(body) > MESSAGE_BYTES_MAX:
            raise AtollError(Kind.TOO_LARGE, "ask coordinator", "the question is too long")
        fault: AtollError | None = None
        for turn in range(len(self._addresses)):
            place = (self._first + turn) % len(self._addresses)
            address = self._addresses[place]
            try:
                reply = await self._send(address, body)
            except AtollError as caught:
                if caught.kind is not Kind.UNREACHABLE:
                    raise
                fault = caught
                continue
            self._first = place
            found: Answer = decode(reply.body, answer)
            return found
        assert fault is not None
        raise fault

    async def _send(self, address: Address, body: bytes) -> Reply:
        """Send one signed question until it is taken for a new one. Raises ``AtollError``.

        Two equal questions of one millisecond (from this process or another under the same key)
        have the same signature, and the second looks like a replay of the first. It was not acted
        upon, so it may be signed for a moment later.
        """
        now_ms = self._clock.now_ms()
        for later_ms in range(REPLAY_TRIES_MAX):
            proof = prove_request(self._identity, "POST", CONTROL_PATH, body, now_ms + later_ms)
            headers = {RequestProof.HEADER: proof.to_header(), "content-type": CONTENT_TYPE}
            reply = await self._transport.call(
                address, "POST", CONTROL_PATH, headers, body, CONTROL_TIMEOUT_S
            )
            if reply.status < 300:
                return reply
            failure: Failure = decode(reply.body, Failure)
            error = failure.to_error()
            if error.kind is not Kind.REPLAYED or later_ms == REPLAY_TRIES_MAX - 1:
                raise error
        raise AssertionError("the last try returned or raised")
