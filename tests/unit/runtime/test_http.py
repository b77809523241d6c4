"""The HTTP client against a raw server that says what no honest server would."""

import asyncio
import hashlib

import pytest
import uvloop

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address, PiecePart
from atoll.runtime.certificate import keep_certificate
from atoll.runtime.clock import SystemClock
from atoll.runtime.http import AHEAD_BYTES, parse_head
from atoll.runtime.server import HttpServer, open_socket
from atoll.runtime.transport import HttpPieceTransport

PIECE = bytes(16)


class RawServer:
    """Answers every request head with the same bytes; counts its connections."""

    def __init__(self, answer, *, close=False, pause=False):
        self.answer, self.close_after, self.pause = answer, close, pause
        self.connections = 0
        self.requests = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = Address(*self._server.sockets[0].getsockname()[:2])
        self.transport = HttpPieceTransport()
        return self

    async def __aexit__(self, *_):
        await self.transport.close()
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                pieces = self.answer if isinstance(self.answer, list) else [self.answer]
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.close_after:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def call(self, method="GET"):
        return await self.transport.call(self.address, method, "/x", {}, b"", 5)


async def kind_of(awaitable):
    with pytest.raises(AtollError) as caught:
        await awaitable
    return caught.value.kind


async def test_connections_are_kept():
    async with RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as server:
        for _ in range(5):
            assert (await server.call()).body == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok-and-more",
    ],
)
async def test_connections_that_may_not_serve_again_are_not_kept(head):
    async with RawServer(head) as server:
        for _ in range(2):
            assert (await server.call()).body == b"ok"
        assert server.connections == 2


async def test_a_connection_closed_while_idle_is_replaced():
    async with RawServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", close=True) as server:
        for _ in range(3):
            assert (await server.call()).body == b"ok"
        assert server.connections == 3


async def test_an_answer_in_single_bytes_is_understood():
    whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 3\r\n\r\nabc"
    async with RawServer([whole[i : i + 1] for i in range(len(whole))]) as server:
        reply = await server.call()
        assert (reply.status, reply.body, reply.headers["x"]) == (200, b"abc", "y")


async def test_chunked_answers_are_put_together():
    big = bytes(range(256)) * 400
    chunks = b"5;x=y\r\nhello\r\n%x\r\n%s\r\n0\r\nTrailer: t\r\n\r\n" % (len(big), big)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with RawServer(head + chunks) as server:
        for _ in range(2):
            assert (await server.call()).body == b"hello" + big
        assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", Kind.UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\n\r\n", Kind.UNREACHABLE),
        (b"HTTP/1.1 xyz OK\r\ncontent-length: 0\r\n\r\n", Kind.UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n", Kind.UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * AHEAD_BYTES, Kind.UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", Kind.TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", Kind.UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n", Kind.TOO_LARGE),
    ],
)
async def test_nonsense_is_a_typed_error(answer, kind):
    async with RawServer(answer, close=True) as server:
        assert await kind_of(server.call()) is kind


async def test_a_body_cut_short_is_unreachable():
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + bytes(60_000)
    async with RawServer(answer, close=True) as server:
        assert await kind_of(server.call()) is Kind.UNREACHABLE


async def test_a_flood_while_nobody_reads_waits():
    length = 5_000_000
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length + b"z" * length
    async with RawServer(answer) as server:
        stream = await server.transport.open_piece(server.address, PIECE, b"o", 0, length, 5)
        for _ in range(50):
            await asyncio.sleep(0)
        buffer = bytearray(length)
        view = memoryview(buffer)
        for begin in range(0, length, 33_333):
            await stream.read_into(view[begin : begin + 33_333])
        await stream.close()
        assert buffer == b"z" * length
        await server.call()
        assert server.connections == 1


async def test_a_stream_left_early_gives_its_connection_up():
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + bytes(1000)
    async with RawServer(answer) as server:
        stream = await server.transport.open_piece(server.address, PIECE, b"o", 0, 1000, 5)
        await stream.read_into(memoryview(bytearray(10)))
        await stream.close()
        assert await kind_of(stream.read_into(memoryview(bytearray(10)))) is Kind.UNREACHABLE
        await server.call()
        assert server.connections == 2


async def test_connections_to_one_node_are_bounded_and_waiting_ends_in_time():
    async with RawServer(b"") as server:
        transport = HttpPieceTransport(connections_per_node_max=2)
        calls = [transport.call(server.address, "GET", "/", {}, b"", 0.1) for _ in range(6)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(r, AtollError) and r.kind is Kind.TIMEOUT for r in results)
        assert server.connections <= 4
        await transport.close()


@pytest.mark.parametrize("text", ["/a\r\nx: y", "/a b"])
async def test_a_path_that_would_break_the_head_is_refused(text):
    async with RawServer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as server:
        call = server.transport.call(server.address, "GET", text, {}, b"", 5)
        assert await kind_of(call) is Kind.BAD_REQUEST
        call = server.transport.call(server.address, "GET", "/", {"x": "y\r\nz: 1"}, b"", 5)
        assert await kind_of(call) is Kind.BAD_REQUEST
        assert server.requests == []


def test_heads():
    head = parse_head(b"HTTP/1.1 204 No Content\r\nX: 1", bodyless=False)
    assert (head.status, head.body_bytes, head.keep) == (204, 0, True)
    assert parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 9", bodyless=True).body_bytes == 0
    assert (
        parse_head(
            b"HTTP/1.1 200 OK\r\nX-Content-Length: 3\r\nContent-Length:9", bodyless=False
        ).body_bytes
        == 9
    )


class Sink:
    """Takes any PUT; answers with the SHA-256 of what came."""

    async def __call__(self, scope, receive, send):
        digest = hashlib.sha256()
        while True:
            message = await receive()
            digest.update(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = digest.digest()
        head = [(b"content-length", b"32")]
        await send({"type": "http.response.start", "status": 201, "headers": head})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("secure", [False, True])
def test_lent_buffers_are_free_when_the_next_is_asked_for(tmp_path, runner, secure):
    async def main():
        files = keep_certificate(tmp_path, ("127.0.0.1",), SystemClock().now_ms())
        server = HttpServer(
            Sink(), open_socket("127.0.0.1", 0), tls=files if secure else None, stop_s=1
        )
        await server.start()
        address = Address(*server.address, files.fingerprint if secure else b"")
        transport = HttpPieceTransport()
        expected = hashlib.sha256()

        async def body():
            buffer = bytearray(700_000)
            for number in range(20):
                buffer[:] = bytes([number]) * len(buffer)
                expected.update(buffer)
                yield memoryview(buffer)

        receipt = await transport.put_piece(address, PIECE, b"o", body(), 14_000_000, 10)
        assert receipt == expected.digest()
        if secure:
            stranger = Address(address.host, address.port, bytes(32))
            call = transport.get_piece(stranger, PIECE, b"o", PiecePart.HEAD, 0, 0, 5)
            assert await kind_of(call) is Kind.UNREACHABLE
        await transport.close()
        await server.stop()

    runner(main())
