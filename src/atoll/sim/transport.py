"""The simulated answer to ``PieceTransport``: true requests to true apps, over a faulty network."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote

from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import MESSAGE_BYTES_MAX
from atoll.core.piece_http import (
    ORDER_HEADER,
    accepted,
    check_length,
    check_plain_allowed,
    order_value,
    piece_path,
    read_path,
    short_answer,
    unheard,
)
from atoll.core.ports import Address, PiecePart, Reply
from atoll.sim.incarnation import Incarnation
from atoll.sim.network import Exchange, Network

PART_BYTES_MAX = 64 << 10
"""Bytes that travel as one: what a socket hands over at a time."""


class SimPieceTransport:
    """``core.ports.PieceTransport`` of one incarnation."""

    def __init__(self, incarnation: Incarnation, network: Network) -> None:
        """Connect an incarnation to the network."""
        self._incarnation = incarnation
        self._network = network
        network.join(incarnation)

    async def put_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        body: AsyncIterator[Buffer],
        body_bytes: int,
        timeout_s: float,
    ) -> bytes:
        """Send one piece and return the node's receipt."""
        headers = {ORDER_HEADER: order_value(order), "content-length": str(body_bytes)}
        with _closing(
            await self._open(address, "PUT", piece_path(piece_id), headers, timeout_s)
        ) as exchange:
            await self._send(exchange, address, body, body_bytes, timeout_s)
            answer = await self._whole(exchange, address, MESSAGE_BYTES_MAX, timeout_s)
        return accepted(exchange.status, answer, address)

    async def get_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        part: PiecePart,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> bytes:
        """Return a part of a piece record, whole in memory."""
        path = read_path(piece_id, part, offset, length)
        headers = {ORDER_HEADER: order_value(order)}
        with _closing(await self._open(address, "GET", path, headers, timeout_s)) as exchange:
            exchange.request.end()
            limit = max(MESSAGE_BYTES_MAX, length)
            body = await self._whole(exchange, address, limit, timeout_s)
        body = accepted(exchange.status, body, address)
        if part is PiecePart.DATA and len(body) != length:
            raise short_answer(address, len(body), length)
        return body

    async def open_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        offset: int,
        length: int,
        timeout_s: float,
    ) -> "SimPieceStream":
        """Start reading a piece's data area."""
        path = read_path(piece_id, PiecePart.DATA, offset, length)
        headers = {ORDER_HEADER: order_value(order)}
        exchange = await self._open(address, "GET", path, headers, timeout_s)
        try:
            exchange.request.end()
            await self._head(exchange, address, timeout_s)
            if exchange.status >= 300:
                body = await self._whole(exchange, address, MESSAGE_BYTES_MAX, timeout_s)
                accepted(exchange.status, body, address)
            announced = int(exchange.headers.get("content-length", -1))
            if announced != length:
                raise short_answer(address, announced, length)
        except BaseException:
            exchange.caller_gone()
            raise
        return SimPieceStream(self._incarnation, exchange, address, length, timeout_s)

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        """Send a small message; return the answer, whatever its status."""
        sent = {name.lower(): value for name, value in headers.items()}
        sent["content-length"] = str(len(body))
        with _closing(await self._open(address, method, path, sent, timeout_s)) as exchange:
            try:
                for begin in range(0, len(body), PART_BYTES_MAX):
                    if exchange.answer.broken or exchange.started.is_set():
                        break
                    part = body[begin : begin + PART_BYTES_MAX]
                    await self._in_time(self._network.carry(exchange, part), address, timeout_s)
                exchange.request.end()
                answer = await self._whole(exchange, address, MESSAGE_BYTES_MAX, timeout_s)
            except AtollError as fault:
                if fault.kind is Kind.UNREACHABLE and method not in ("GET", "HEAD"):
                    raise unheard(address, fault) from fault
                raise
        return Reply(exchange.status, exchange.headers, answer)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _open(
        self, address: Address, method: str, target: str, headers: dict[str, str], timeout_s: float
    ) -> Exchange:
        self._incarnation.check()
        check_plain_allowed(address)
        raw_path, _, query = target.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "https" if address.fingerprint else "http",
            "method": method,
            "path": unquote(raw_path),
            "raw_path": raw_path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": [
                (b"host", f"{address.host}:{address.port}".encode()),
                *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
            ],
            "client": [self._incarnation.name, 0],
            "state": {},
        }
        opening = self._network.open(self._incarnation, address, scope, timeout_s)
        exchange: Exchange = await self._in_time(opening, address, timeout_s)
        return exchange

    async def _send(
        self,
        exchange: Exchange,
        address: Address,
        body: AsyncIterator[Buffer],
        body_bytes: int,
        timeout_s: float,
    ) -> None:
        sent = 0
        async for part in body:
            view = memoryview(part).cast("B")
            sent += len(view)
            if sent > body_bytes:
                check_length(sent, body_bytes)
            for begin in range(0, len(view), PART_BYTES_MAX):
                if exchange.answer.broken or exchange.started.is_set():
                    return
                data = bytes(view[begin : begin + PART_BYTES_MAX])
                await self._in_time(self._network.carry(exchange, data), address, timeout_s)
        check_length(sent, body_bytes)
        exchange.request.end()

    async def _head(self, exchange: Exchange, address: Address, timeout_s: float) -> None:
        await self._in_time(exchange.started.wait(), address, timeout_s)
        if exchange.answer.broken and not exchange.status:
            raise _broken(exchange, address)

    async def _whole(
        self, exchange: Exchange, address: Address, limit: int, timeout_s: float
    ) -> bytes:
        await self._head(exchange, address, timeout_s)
        parts = bytearray()
        while True:
            part = await self._in_time(exchange.answer.take(limit + 1), address, timeout_s)
            if not part:
                break
            parts += part
            if len(parts) > limit:
                raise AtollError(Kind.TOO_LARGE, "read answer", "the answer is longer than allowed")
        if not exchange.answer.ended:
            raise _broken(exchange, address)
        announced = exchange.headers.get("content-length")
        if announced is not None and int(announced) != len(parts):
            raise short_answer(address, len(parts), int(announced))
        return bytes(parts)

    async def _in_time(self, awaitable: Any, address: Address, timeout_s: float) -> Any:
        return await _in_time(self._incarnation, awaitable, address, timeout_s)


class SimPieceStream:
    """``core.ports.PieceStream`` over one exchange."""

    def __init__(
        self,
        incarnation: Incarnation,
        exchange: Exchange,
        address: Address,
        length: int,
        timeout_s: float,
    ) -> None:
        """Read ``length`` bytes of answer."""
        self._incarnation = incarnation
        self._exchange = exchange
        self._address = address
        self._left = length
        self._timeout_s = timeout_s

    async def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the next bytes."""
        if len(buffer) > self._left:
            raise AtollError(Kind.UNREACHABLE, "read piece", "the stream is at its end")
        have = 0
        while have < len(buffer):
            part = await _in_time(
                self._incarnation,
                self._exchange.answer.take(len(buffer) - have),
                self._address,
                self._timeout_s,
            )
            if not part:
                self._left = 0
                raise _broken(self._exchange, self._address)
            buffer[have : have + len(part)] = part
            have += len(part)
        self._left -= have

    async def close(self) -> None:
        """Stop; safe to call at any time and more than once."""
        self._incarnation.check()
        self._exchange.caller_gone()


class _closing:  # noqa: N801 - used like contextlib.closing
    """Tell the server that the caller is gone, whatever way the block is left."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> Exchange:
        return self._exchange

    def __exit__(self, *_: object) -> None:
        # A dead caller's way out has no effect: the network told the server already.
        if not self._exchange.caller.dead:
            self._exchange.caller_gone()


def _broken(exchange: Exchange, address: Address) -> AtollError:
    why = exchange.answer.broken or "the stream ended early"
    return AtollError(Kind.UNREACHABLE, "call", why, about=str(address))


async def _in_time(
    incarnation: Incarnation, awaitable: Any, address: Address, timeout_s: float
) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            result = await awaitable
    except TimeoutError as cause:
        raise AtollError(
            Kind.TIMEOUT, "call", f"nothing came for {timeout_s:g} s", about=str(address)
        ) from cause
    incarnation.check()
    return result
