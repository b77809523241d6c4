"""The verifier's HTTP interface: proofs in, verdicts and evidence out to everybody. Plain ASGI.

Specified in ``docs/spec/proofs.md``. Whoever calls is nobody: all that counts is signed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from atoll import __version__
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import node_id_of
from atoll.core.messages import MESSAGE_BYTES_MAX, encode, failure_of
from atoll.core.messages.proofs import VERDICTS_MAX
from atoll.core.proofs.signed import encode_statement
from atoll.verifier.service import EVIDENCE_PATH, VERDICTS_PATH, VerifierService

_LOG = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
PROOFS_PATH = "/v1/proofs"
BODIES_AT_ONCE_MAX = 32
"""Bodies being received: each may have 8 MiB."""
REFUSALS_SHOWN_MAX = 20
_BODIES = msgspec.msgpack.Decoder(list[bytes])


class Facts(msgspec.Struct, frozen=True):
    """The answer of ``/v1/verifier``."""

    key: str
    operator: str
    version: str
    slot: int
    proofs: int
    failed: int
    slots_kept: int
    evidence: int
    coordinators: list[str]
    liars: list[str]
    account: str = ""
    """Of the chain, with which it signs epochs; empty where it has none."""
    epochs_signed: int = 0
    """Signatures since the start."""
    epochs_refused: list[str] = []
    """Why others were refused, the newest last."""


class VerifierApp:
    """The ASGI app over one service."""

    def __init__(self, service: VerifierService) -> None:
        """Serve a service, started or soon to be."""
        self._service = service
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            status, body = await self._answer(scope["method"], scope["path"], receive)
        except AtollError as error:
            await _send(send, error.meaning.http_status, encode(failure_of(error)))
            return
        except Exception as bug:  # noqa: BLE001 - a bug is answered, not fatal
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            failure = AtollError(Kind.INTERNAL, "answer request", f"unexpected: {bug!r}")
            await _send(send, 500, encode(failure_of(failure)))
            return
        kind = b"application/json" if body[:1] == b"{" else b"application/msgpack"
        await _send(send, status, body, kind)

    async def _answer(self, method: str, path: str, receive: Receive) -> tuple[int, bytes]:
        service = self._service
        if method == "POST" and path == PROOFS_PATH:
            return 200, encode_statement(await service.take(await self._body(receive)))
        if method == "POST" and path == VERDICTS_PATH:
            await service.hear(_list(await self._body(receive)))
            return 200, msgspec.msgpack.encode(None)
        if method == "POST" and path == EVIDENCE_PATH:
            service.accuse(_list(await self._body(receive)))
            return 200, msgspec.msgpack.encode(None)
        if method in ("GET", "HEAD"):
            return 200, self._show(path)
        raise AtollError(Kind.NOT_FOUND, "answer request", f"nothing answers {method} {path}")

    def _show(self, path: str) -> bytes:
        service = self._service
        if path in ("/v1/verifier", "/health", "/v1/health"):
            return msgspec.json.encode(self._facts())
        if path == EVIDENCE_PATH:
            found = [
                encode_statement(one) for desk in service.desks for one in desk.evidence.values()
            ]
            return msgspec.msgpack.encode(found)
        parts = path.strip("/").split("/")
        if len(parts) == 4 and parts[:2] == ["v1", "proofs"]:
            return self._proof(parts[2], parts[3])
        if len(parts) == 3 and parts[:2] == ["v1", "verdicts"] and parts[2].isdigit():
            return self._verdicts(int(parts[2]))
        raise AtollError(Kind.NOT_FOUND, "answer request", f"nothing is at {path}")

    def _facts(self) -> Facts:
        service = self._service
        return Facts(
            key=service.identity.public_key.hex(),
            operator=service.config.operator,
            version=__version__,
            slot=max((d.state.slot for d in service.desks if d.state is not None), default=0),
            proofs=service.proofs,
            failed=service.failed,
            slots_kept=len(service.record.slots()),
            evidence=sum(len(desk.evidence) for desk in service.desks),
            coordinators=[desk.key.hex() for desk in service.desks],
            liars=sorted({key.hex() for desk in service.desks for key in desk.liars}),
            account="0x" + service.epochs.account.hex() if service.epochs else "",
            epochs_signed=service.epochs.signed if service.epochs else 0,
            epochs_refused=service.epochs.refusals[-REFUSALS_SHOWN_MAX:] if service.epochs else [],
        )

    def _proof(self, node: str, slot: str) -> bytes:
        record = self._service.record
        slots = record.slots()[::-1] if slot == "latest" else [int(slot) if slot.isdigit() else -1]
        for number in slots:
            for key in record.nodes(number):
                if node_id_of(key).hex() == node.lower():
                    said = record.get(number, key)
                    if said is not None:
                        return msgspec.msgpack.encode(said)
        raise AtollError(
            Kind.NOT_FOUND,
            "show proof",
            "no proof of this node and slot is kept here",
            hint="ask another verifier; proofs are kept for a while only",
        )

    def _verdicts(self, slot: int) -> bytes:
        found = []
        for desk in self._service.desks:
            for (number, _), case in desk.cases.items():
                if number == slot:
                    found += [
                        [body, sorted(signatures.items())]
                        for body, signatures in case.bodies.items()
                    ]
        return msgspec.msgpack.encode(found)

    async def _body(self, receive: Receive) -> bytes:
        if self._bodies >= BODIES_AT_ONCE_MAX:
            raise AtollError(Kind.OVERLOADED, "read request", "too many requests at once")
        self._bodies += 1
        try:
            async with asyncio.timeout(self._service.config.body_stall_s):
                return await _read(receive)
        except TimeoutError:
            raise AtollError(Kind.TIMEOUT, "read request", "the body comes too slowly") from None
        finally:
            self._bodies -= 1


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    length = 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise AtollError(Kind.CANCELLED, "read request", "the caller went away")
        part: bytes = event.get("body", b"")
        length += len(part)
        if length > MESSAGE_BYTES_MAX:
            raise AtollError(
                Kind.TOO_LARGE, "read request", f"the body has over {MESSAGE_BYTES_MAX} bytes"
            )
        parts.append(part)
        if not event.get("more_body", False):
            return b"".join(parts)


def _list(body: bytes) -> list[bytes]:
    try:
        return _BODIES.decode(body)[:VERDICTS_MAX]
    except msgspec.MsgspecError as cause:
        raise AtollError(Kind.BAD_REQUEST, "read request", str(cause)) from cause


async def _send(send: Send, status: int, body: bytes, kind: bytes = b"application/msgpack") -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
