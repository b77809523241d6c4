"""What happens on the line: slow completions, broken reads, Expect, stale memories."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import boto3
import botocore.config
import pytest
from tests.unit.gateway.world import ACCESS, SECRET, Customer, World

from atoll.core import sigv4
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CompleteUpload
from atoll.core.sigv4 import Credentials
from atoll.gateway.config import GatewayConfig


async def started(customer: Customer) -> tuple[str, bytes]:
    """Begin an upload with one part; return its target and the body that completes it."""
    made = await customer("POST", "/store/m?uploads=")
    identifier = made.body.decode().partition("<UploadId>")[2].partition("<")[0]
    part = await customer("PUT", f"/store/m?partNumber=1&uploadId={identifier}", body=b"part")
    body = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{part.headers['etag']}</ETag></Part></CompleteMultipartUpload>"
    ).encode()
    return f"/store/m?uploadId={identifier}", body


def slowed(world: World, error: AtollError | None) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold completions back; return when one has come, and what lets it fail or go on."""
    come, event = asyncio.Event(), asyncio.Event()
    complete = world.control.handlers[CompleteUpload]

    async def wait(request: Any) -> Any:
        come.set()
        await event.wait()
        if error is not None:
            raise error
        return await complete(request)

    world.control.handlers[CompleteUpload] = wait
    return come, event


@pytest.mark.parametrize("fails", [False, True])
async def test_a_slow_completion_shows_that_it_lives(world: World, fails: bool) -> None:
    customer = Customer(world.make(GatewayConfig(keep_alive_s=0.01)))
    target, body = await started(customer)
    error = AtollError(Kind.TOO_FEW_NODES, "complete", "too few") if fails else None
    _, event = slowed(world, error)
    asyncio.get_running_loop().call_later(0.1, event.set)
    answer = await customer("POST", target, body=body)
    assert answer.status == 200
    assert "content-length" not in answer.headers
    assert answer.chunks[1] == b" "
    text = answer.body.decode()
    assert text.startswith("<?xml")
    assert text.count("<?xml") == 1
    assert ("<Code>ServiceUnavailable</Code>" in text) is fails
    assert ("<ETag>" in text) is not fails


async def test_a_quick_failure_of_a_completion_keeps_its_status(customer: Customer) -> None:
    target, body = await started(customer)
    wrong = body.replace(b"<PartNumber>1<", b"<PartNumber>2<")
    answer = await customer("POST", target, body=wrong)
    assert (answer.status, answer.code) == (400, "InvalidPart")


async def test_a_completion_goes_on_when_its_client_leaves(world: World) -> None:
    customer = world.customer
    target, body = await started(customer)
    come, event = slowed(world, None)
    call = asyncio.create_task(customer("POST", target, body=body))
    await come.wait()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    event.set()
    await asyncio.gather(*world.gateway.services.background)
    assert (await customer("GET", "/store/m")).body == b"part"


async def test_a_read_that_breaks_amid_the_body_never_looks_whole(world: World) -> None:
    await world.customer("PUT", "/store/k", body=bytes(300_000))

    async def read(*_: Any) -> AsyncIterator[memoryview]:
        yield memoryview(bytes(100_000))
        raise AtollError(Kind.DATA_LOST, "read", "a node vanished")

    world.objects.read_object = read  # type: ignore[assignment, method-assign]
    answer = await world.customer("GET", "/store/k")
    assert answer.status == 200
    assert answer.headers["content-length"] == "300000"
    assert not answer.complete


async def test_over_http_a_broken_read_breaks_the_connection(world: World, endpoint: str) -> None:
    await world.customer("PUT", "/store/k", body=bytes(300_000))

    async def read(*_: Any) -> AsyncIterator[memoryview]:
        yield memoryview(bytes(100_000))
        raise AtollError(Kind.DATA_LOST, "read", "a node vanished")

    world.objects.read_object = read  # type: ignore[assignment, method-assign]
    _, got = await exchange(world, endpoint, "GET", b"", {})
    assert got.startswith(b"HTTP/1.1 200")
    assert len(got) < 300_000


async def test_a_client_that_leaves_amid_a_read_frees_the_nodes(
    world: World, endpoint: str
) -> None:
    await world.customer("PUT", "/store/k", body=bytes(3 << 20))
    gone, freed = asyncio.Event(), asyncio.Event()
    views_left = 512

    async def read(*_: Any) -> AsyncIterator[memoryview]:
        nonlocal views_left
        try:
            yield memoryview(bytes(1 << 20))
            await gone.wait()
            while views_left:
                views_left -= 1
                yield memoryview(bytes(4096))
                await asyncio.sleep(0)
        finally:
            freed.set()

    world.objects.read_object = read  # type: ignore[assignment, method-assign]
    host, _, port = endpoint.removeprefix("http://").partition(":")
    signed = sigv4.sign_headers(
        Credentials(ACCESS, SECRET), "GET", b"/store/k", [], {"host": f"{host}:{port}"},
        sigv4.UNSIGNED_PAYLOAD, world.clock.now_ms(),
    )  # fmt: skip
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    writer.write(f"GET /store/k HTTP/1.1\r\n{head}\r\n".encode())
    await reader.readexactly(1 << 20)
    writer.close()
    await writer.wait_closed()
    gone.set()
    await asyncio.wait_for(freed.wait(), 10)
    assert views_left > 0


async def exchange(
    world: World, endpoint: str, method: str, body: bytes, headers: dict[str, str]
) -> tuple[bytes, bytes]:
    """Speak HTTP by hand; return what came before the body was sent, and all that came after."""
    host = endpoint.removeprefix("http://")
    address, _, port = host.partition(":")
    signed = sigv4.sign_headers(
        Credentials(ACCESS, SECRET), method, b"/store/k", [], {"host": host, **headers},
        sigv4.UNSIGNED_PAYLOAD, world.clock.now_ms(),
    )  # fmt: skip
    if "expect" not in headers or headers["content-length"] == "4":
        signed["connection"] = "close"
    reader, writer = await asyncio.open_connection(address, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    writer.write(f"{method} /store/k HTTP/1.1\r\n{head}\r\n".encode())
    early = b""
    if "expect" in headers:
        early = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    if not early.startswith(b"HTTP/1.1 4"):
        writer.write(body)
    late = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return early, late


EXPECT = {"expect": "100-continue", "content-length": "4"}


async def test_expect_continue_is_answered_before_the_body(world: World, endpoint: str) -> None:
    early, late = await exchange(world, endpoint, "PUT", b"body", EXPECT)
    assert early.startswith(b"HTTP/1.1 100")
    assert late.startswith(b"HTTP/1.1 200")
    assert (await world.customer("GET", "/store/k")).body == b"body"


async def test_a_refusal_comes_before_the_body_is_asked_for(world: World, endpoint: str) -> None:
    headers = {**EXPECT, "content-length": str(6 << 30)}
    early, late = await exchange(world, endpoint, "PUT", b"", headers)
    assert early.startswith(b"HTTP/1.1 400")
    # The client may send the body or not: only a closed connection leaves no doubt.
    assert b"connection: close" in early
    assert b"EntityTooLarge" in late


async def test_a_bucket_made_anew_elsewhere_is_found_at_once(world: World) -> None:
    here, there = world.customer, Customer(world.make())
    await here("PUT", "/store/k", body=b"old")
    assert (await here("GET", "/store/k")).body == b"old"
    assert (await there("DELETE", "/store/k")).status == 204
    assert (await there("DELETE", "/store")).status == 204
    assert (await there("PUT", "/store")).status == 200
    assert (await there("PUT", "/store/k", body=b"new")).status == 200
    assert (await here("GET", "/store/k")).body == b"new"
    assert (await here("PUT", "/store/l", body=b"x")).status == 200
    assert b"<KeyCount>2<" in (await there("GET", "/store?list-type=2")).body


async def test_virtual_host_style_works_from_boto3(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def loopback(host: Any, *rest: Any, **named: Any) -> Any:
        # Not every resolver knows that names below localhost are this machine.
        return resolve("127.0.0.1" if host == "store.localhost" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", loopback)
    port = endpoint.rpartition(":")[2]
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://localhost:{port}",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "virtual"}),
    )
    await asyncio.to_thread(s3.put_object, Bucket="store", Key="v/é", Body=b"virtual")
    got = await asyncio.to_thread(s3.get_object, Bucket="store", Key="v/é")
    assert await asyncio.to_thread(got["Body"].read) == b"virtual"
