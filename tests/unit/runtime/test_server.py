import asyncio
import contextlib
import socket
import stat

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address
from atoll.runtime.certificate import keep_certificate
from atoll.runtime.memory import keep_memory
from atoll.runtime.server import (
    HEAD_BYTES_MAX,
    HEAD_FIELDS_MAX,
    HttpServer,
    _Protocol,
    check_port_free,
    open_socket,
)
from atoll.runtime.transport import HttpPieceTransport


async def hello(scope, receive, send):
    head = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b"hi"})


async def test_a_taken_port_is_named_with_a_hint():
    server = HttpServer(hello, open_socket("127.0.0.1", 0), stop_s=1)
    await server.start()
    for act in (check_port_free, open_socket):
        with pytest.raises(AtollError) as caught:
            act(*server.address)
        assert caught.value.kind is Kind.PORT_TAKEN
        assert "ss -ltnp" in caught.value.hint
    await server.stop()


async def test_a_shared_port_is_seen_as_taken_by_strangers():
    first = HttpServer(hello, open_socket("127.0.0.1", 0, shared=True), stop_s=1)
    await first.start()
    second = HttpServer(hello, open_socket(*first.address, shared=True), stop_s=1)
    await second.start()
    with pytest.raises(AtollError) as caught:
        check_port_free(*first.address)
    assert caught.value.kind is Kind.PORT_TAKEN
    transport = HttpPieceTransport()
    reply = await transport.call(Address(*first.address), "GET", "/", {}, b"", 5)
    assert reply.body == b"hi"
    assert "server" not in reply.headers
    assert "date" in reply.headers
    await transport.close()
    await first.stop()
    await second.stop()


def test_an_address_of_another_machine_is_a_configuration_error():
    with pytest.raises(AtollError) as caught:
        open_socket("192.0.2.1", 0)
    assert caught.value.kind is Kind.CONFIG


async def test_running_requests_may_end_and_then_the_port_is_free():
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        begun.set()
        await release.wait()
        await hello(scope, receive, send)

    server = HttpServer(slow, open_socket("127.0.0.1", 0), stop_s=5)
    await server.start()
    address = server.address
    transport = HttpPieceTransport()
    call = asyncio.create_task(transport.call(Address(*address), "GET", "/", {}, b"", 5))
    await begun.wait()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    release.set()
    assert (await call).body == b"hi"
    await transport.close()
    await stopping
    check_port_free(*address)


@contextlib.asynccontextmanager
async def serving(app=hello):
    server = HttpServer(app, open_socket("127.0.0.1", 0), stop_s=1)
    await server.start()
    yield server.address
    await server.stop()


def talk(address, pieces):
    """Send pieces in packets of their own; return all that comes until the server closes."""
    got = b""
    with socket.create_connection(address, timeout=10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A server that refuses may close before all was sent; what it said is there to read.
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                line.sendall(piece)
        with contextlib.suppress(ConnectionError):
            while more := line.recv(1 << 16):
                got += more
    return got


async def told(address, *pieces):
    return await asyncio.to_thread(talk, address, pieces)


LINE = b"GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (LINE + b"a: " + b"b" * HEAD_BYTES_MAX + b"\r\n\r\n",),
        (LINE + b"a: ", *[b"b" * 1024] * 1000),
        (LINE, *[b"a: b\r\n" * 100] * 1000),
        (LINE + b"a:b\r\n" * (HEAD_FIELDS_MAX + 1) + b"\r\n",),
        (b"GET /" + b"p" * HEAD_BYTES_MAX + b" HTTP/1.1\r\nhost: x\r\n\r\n",),
    ],
    ids=["one header", "a header without end", "headers without end", "many headers", "the path"],
)
async def test_a_head_beyond_its_limits_is_refused(pieces):
    async with serving() as address:
        assert (await told(address, *pieces)).startswith(b"HTTP/1.1 431")


async def test_a_large_head_within_the_limits_is_served_in_any_pieces():
    head = LINE + b"connection: close\r\na: " + b"b" * (HEAD_BYTES_MAX - 100) + b"\r\n\r\n"
    async with serving() as address:
        for size in (len(head), 5000):
            pieces = [head[start : start + size] for start in range(0, len(head), size)]
            assert (await told(address, *pieces)).endswith(b"hi")


async def test_a_body_behind_a_split_head_counts_not_as_head():
    body = bytes(4 * HEAD_BYTES_MAX)

    async def length(scope, receive, send):
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        assert size == len(body)
        await hello(scope, receive, send)

    head = b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % len(body)
    follows = LINE + b"connection: close\r\n\r\n"
    async with serving(length) as address:
        closing = head + b"connection: close\r\n"
        assert (await told(address, closing, b"\r\n" + body)).endswith(b"hi")
    async with serving() as address:
        # Answered before its body came; the next request begins in the read that ends the body.
        answer = await told(address, head + b"\r\n" + body + follows[:9], follows[9:])
        assert answer.count(b"hi") == 2


async def test_a_head_that_does_not_end_in_time_is_given_up(monkeypatch):
    monkeypatch.setattr(_Protocol, "head_s_max", 0.05)
    async with serving() as address:
        assert await told(address) == b""
        assert await told(address, b"\r\n") == b""
        assert (await told(address, LINE)).startswith(b"HTTP/1.1 408")
        answer = await told(address, LINE + b"\r\n", b"GET")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in answer


async def test_a_slow_answer_is_not_cut_by_the_time_for_heads(monkeypatch):
    monkeypatch.setattr(_Protocol, "head_s_max", 0.02)

    async def slow(scope, receive, send):
        await asyncio.sleep(0.1)
        await hello(scope, receive, send)

    async with serving(slow) as address:
        answer = await told(address, LINE + b"\r\n" + LINE[:9])
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"hi" in answer


async def test_a_client_that_takes_nothing_of_its_answer_is_dropped(monkeypatch):
    monkeypatch.setattr(_Protocol, "send_stall_s_max", 0.05)
    ended = asyncio.Event()

    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        ended.set()

    async with serving(large) as address:
        reader, writer = await asyncio.open_connection(*address, limit=1024)
        writer.write(LINE + b"\r\n")
        await asyncio.wait_for(ended.wait(), 10)
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < 64 << 20
        writer.close()


async def test_garbage_is_answered_400():
    async with serving() as address:
        assert (await told(address, b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")


def test_a_certificate_is_made_once_and_its_key_is_private(tmp_path):
    first = keep_certificate(tmp_path / "tls", ("127.0.0.1", "node.example"), 1_800_000_000_000)
    again = keep_certificate(tmp_path / "tls", ("127.0.0.1",), 1_900_000_000_000)
    assert first == again
    assert len(first.fingerprint) == 32
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600


def test_a_broken_certificate_is_named(tmp_path):
    files = keep_certificate(tmp_path, ("127.0.0.1",), 1_800_000_000_000)
    files.certificate.write_text("nonsense")
    with pytest.raises(AtollError) as caught:
        keep_certificate(tmp_path, ("127.0.0.1",), 1_800_000_000_000)
    assert caught.value.kind is Kind.CONFIG


def test_the_allocator_takes_the_thresholds():
    assert keep_memory() in (True, False)
