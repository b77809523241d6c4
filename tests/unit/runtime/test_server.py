import asyncio
import stat

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address
from atoll.runtime.certificate import keep_certificate
from atoll.runtime.memory import keep_memory
from atoll.runtime.server import HttpServer, check_port_free, open_socket
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
