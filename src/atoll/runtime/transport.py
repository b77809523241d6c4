"""Pieces and messages over HTTP/1.1: the real answer to the ``PieceTransport`` port."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import MESSAGE_BYTES_MAX
from atoll.core.piece_http import (
    ORDER_HEADER,
    accepted,
    check_length,
    order_value,
    piece_path,
    read_path,
    short_answer,
    unheard,
)
from atoll.core.ports import Address, PiecePart, Reply
from atoll.runtime.http import CONNECTIONS_PER_NODE_MAX, AnswerHead, Connection, Pool

GATHER_BYTES_MAX = 64 << 10
"""A piece up to this size is gathered and sent with its head in one go."""


class HttpPieceTransport:
    """``core.ports.PieceTransport`` for a process: kept connections, pinned certificates.

    The timeout of ``put_piece`` and of a stream bounds every wait for the network, not the sum;
    that of ``get_piece`` and ``call`` bounds the whole call.
    """

    def __init__(self, *, connections_per_node_max: int = CONNECTIONS_PER_NODE_MAX) -> None:
        """Open nothing yet; connections belong to the loop that uses them."""
        self._pool = Pool(connections_per_node_max)

    async def put_piece(
        self,
        address: Address,
        piece_id: bytes,
        order: bytes,
        body: AsyncIterator[Buffer],
        body_bytes: int,
        timeout_s: float,
    ) -> bytes:
        """Send one piece and return the node's receipt.

        A buffer that ``body`` yields is not looked at any more once the next one is asked for.
        """
        head = _head("PUT", piece_path(piece_id), address, _order(order), body_bytes)
        if body_bytes <= GATHER_BYTES_MAX:
            whole = b"".join([bytes(part) async for part in body])
            check_length(len(whole), body_bytes)
            answer, receipt = await self._exchange(
                address, head, whole, MESSAGE_BYTES_MAX, timeout_s, again=True
            )
            return accepted(answer.status, receipt, address)
        connection = await self._pool.acquire(address, timeout_s)
        try:
            connection.send_head(head)
            whole_sent = await _send_all(connection, body, body_bytes, timeout_s)
            answer = await connection.head(timeout_s)
            receipt = await connection.body(answer, MESSAGE_BYTES_MAX, timeout_s)
        except BaseException:
            connection.abort()
            raise
        # After an early answer the node still waits for the rest of the body.
        connection.done(keep=answer.keep and whole_sent)
        return accepted(answer.status, receipt, address)

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
        head = _head("GET", read_path(piece_id, part, offset, length), address, _order(order))
        limit = max(MESSAGE_BYTES_MAX, length)
        answer, body = await self._exchange(address, head, b"", limit, timeout_s, again=True)
        body = accepted(answer.status, body, address)
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
    ) -> "HttpPieceStream":
        """Start reading a piece's data area."""
        path = read_path(piece_id, PiecePart.DATA, offset, length)
        head = _head("GET", path, address, _order(order))
        connection = await self._pool.acquire(address, timeout_s)
        try:
            connection.send_head(head)
            answer = await connection.head(timeout_s)
            if answer.status >= 300:
                body = await connection.body(answer, MESSAGE_BYTES_MAX, timeout_s)
                accepted(answer.status, body, address)
            if answer.body_bytes != length:
                raise short_answer(address, answer.body_bytes, length)
        except BaseException:
            connection.abort()
            raise
        return HttpPieceStream(connection, answer, length, timeout_s)

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
        fields = [method, path, *headers, *headers.values()]
        if any("\r" in f or "\n" in f for f in fields) or " " in path:
            raise AtollError(Kind.BAD_REQUEST, "call", "a path or header that breaks its line")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = _head(method, path, address, lines, len(body))
        answer, received = await self._exchange(
            address, head, body, MESSAGE_BYTES_MAX, timeout_s, again=method in ("GET", "HEAD")
        )
        return Reply(answer.status, answer.headers(), received)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def _exchange(
        self,
        address: Address,
        head: bytes,
        body: bytes,
        limit: int,
        timeout_s: float,
        *,
        again: bool,
    ) -> tuple[AnswerHead, bytes]:
        """Send a request that is whole in memory, return the whole answer.

        A kept connection that turns out to be closed is replaced by a new one, once: at any time
        with ``again`` (the request is idempotent), else only before anything was sent.
        """
        until = asyncio.get_running_loop().time() + timeout_s
        fresh = False
        while True:
            connection = await self._pool.acquire(address, timeout_s)
            fresh = fresh or not connection.used
            sent = False
            try:
                connection.send_head(head, body)
                sent = True
                answer = await connection.head(timeout_s, bodyless=head.startswith(b"HEAD "))
                left = max(0.0, until - asyncio.get_running_loop().time())
                received = await connection.body(answer, limit, left)
            except AtollError as fault:
                connection.abort()
                if fault.kind is not Kind.UNREACHABLE:
                    raise
                if not fresh and (again or not sent):
                    fresh = True
                    continue
                if again or not sent:
                    raise
                raise unheard(address, fault) from fault
            except BaseException:
                connection.abort()
                raise
            connection.done(keep=answer.keep)
            return answer, received


class HttpPieceStream:
    """``core.ports.PieceStream`` over one answer."""

    __slots__ = ("_connection", "_keep", "_left", "_timeout_s")

    def __init__(
        self, connection: Connection, answer: AnswerHead, length: int, timeout_s: float
    ) -> None:
        """Read ``length`` bytes of body."""
        self._connection: Connection | None = connection
        self._keep = answer.keep
        self._left = length
        self._timeout_s = timeout_s

    async def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with the next bytes, received straight into it where possible."""
        connection = self._connection
        if connection is None or len(buffer) > self._left:
            raise AtollError(Kind.UNREACHABLE, "read piece", "the stream is at its end")
        try:
            await connection.read_into(buffer, self._timeout_s)
        except BaseException:
            self._connection = None
            connection.abort()
            raise
        self._left -= len(buffer)

    async def close(self) -> None:
        """Stop; the connection is kept if the stream was read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.done(keep=self._keep and self._left == 0)


def _order(order: bytes) -> str:
    return f"{ORDER_HEADER}: {order_value(order)}\r\n"


def _head(method: str, path: str, address: Address, lines: str, body_bytes: int = -1) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    length = f"content-length: {body_bytes}\r\n" if body_bytes >= 0 else ""
    return (
        f"{method} {path} HTTP/1.1\r\nhost: {host}:{address.port}\r\n{lines}{length}\r\n"
    ).encode("latin-1")


async def _send_all(
    connection: Connection, body: AsyncIterator[Buffer], body_bytes: int, timeout_s: float
) -> bool:
    """Send the body; stop early, with False, where the node answers before it has all of it."""
    sent = 0
    async for part in body:
        sent += memoryview(part).nbytes
        if sent > body_bytes:
            check_length(sent, body_bytes)
        if not await connection.send_part(part, timeout_s):
            return False
    check_length(sent, body_bytes)
    return True
