"""The SDK against an endpoint that fails on purpose."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.client.sdk.answers import delete_body, error_of, read_complete, read_listing
from atoll.client.sdk.asynchronous import AsyncClient
from atoll.client.sdk.checksum import crc64nvme, crc_text
from atoll.client.sdk.model import PART_BYTES_MIN, Access, Options
from atoll.core.errors import AtollError, Kind
from atoll.runtime.server import HttpServer, open_socket

MIB = 1 << 20


@dataclass
class Fault:
    """What the endpoint does to the next request: a status, or a cut after so many bytes."""

    status: int = 0
    cut_at: int = -1
    body: bytes = b""


@dataclass
class Endpoint:
    """Serves one object; records what was asked; fails as told."""

    content: bytes = b""
    etag: str = "one"
    crc: str = ""
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    stored: bytes = b""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.asked.append((scope["method"], scope["raw_path"].decode(), headers))
        body = b""
        while (event := await receive())["type"] == "http.request":
            body += event["body"]
            if not event["more_body"]:
                break
        fault = self.faults.pop(0) if self.faults else Fault()
        if fault.status:
            await self._answer(send, fault.status, fault.body, {})
            return
        if scope["method"] == "PUT":
            self.stored = body
            await self._answer(send, 200, b"", {"etag": f'"{self.etag}"'})
            return
        found = re.match(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        start = int(found.group(1)) if found else 0
        end = int(found.group(2)) + 1 if found and found.group(2) else len(self.content)
        if headers.get("if-match", f'"{self.etag}"') != f'"{self.etag}"':
            await self._answer(send, 412, b"", {})
            return
        facts = {"etag": f'"{self.etag}"', "x-amz-checksum-crc64nvme": self.crc}
        if found:
            facts["content-range"] = f"bytes {start}-{end - 1}/{len(self.content)}"
        part = self.content[start:end]
        await self._answer(send, 206 if found else 200, part, facts, fault.cut_at)

    @staticmethod
    async def _answer(
        send: Callable[[Any], Awaitable[None]],
        status: int,
        body: bytes,
        headers: dict[str, str],
        cut_at: int = -1,
    ) -> None:
        headers = {"content-length": str(len(body)), **{k: v for k, v in headers.items() if v}}
        names = [(k.encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": names})
        if cut_at >= 0:
            await send({"type": "http.response.body", "body": body[:cut_at], "more_body": True})
            raise ConnectionResetError("cut on purpose")
        await send({"type": "http.response.body", "body": body})


class Waits:
    """A clock that never waits and remembers how long it should have."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def now_ms(self) -> int:
        return 1_800_000_000_000

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


@dataclass
class World:
    endpoint: Endpoint
    client: AsyncClient
    waits: Waits


@pytest.fixture
async def world() -> AsyncIterator[World]:
    endpoint, waits = Endpoint(), Waits()
    server = HttpServer(endpoint.app, open_socket("127.0.0.1", 0))
    await server.start()
    url = "http://{}:{}".format(*server.address)
    options = Options(part_bytes=PART_BYTES_MIN, attempts=3, parallel=2)
    client = AsyncClient(
        url, "KEY", "SECRET", "us-east-1", options=options, clock=waits, chance=lambda: 1.0
    )
    yield World(endpoint, client, waits)
    await client.close()
    await server.stop()


async def test_what_may_pass_is_tried_again_with_growing_waits(world: World) -> None:
    world.endpoint.faults = [Fault(503), Fault(500)]
    assert await world.client.put_bytes("bucket", "key", b"body") == "one"
    assert world.endpoint.stored == b"body"
    assert world.waits.waited == [0.2, 0.4]


async def test_progress_counts_a_repeated_body_once(world: World, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (3 * MIB))
    world.endpoint.faults = [Fault(503)]
    seen: list[int] = []
    await world.client.put_file(file, "bucket", "key", progress=lambda p: seen.append(p.done_bytes))
    assert seen[-1] == 3 * MIB
    assert max(seen) == 3 * MIB
    assert len(seen) > 3, "it is told while it moves, not only at the end"


async def test_attempts_have_an_end(world: World) -> None:
    world.endpoint.faults = [Fault(503)] * 9
    with pytest.raises(AtollError) as failed:
        await world.client.head("bucket", "key")
    assert failed.value.kind is Kind.OVERLOADED
    assert len(world.endpoint.asked) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, Kind.FORBIDDEN),
        (404, Kind.OBJECT_NOT_FOUND),
        (412, Kind.PRECONDITION_FAILED),
        (501, Kind.NOT_IMPLEMENTED),
        (400, Kind.BAD_REQUEST),
        (301, Kind.BAD_REQUEST),
    ],
)
async def test_what_will_not_pass_is_not_tried_again(world: World, status: int, kind: Kind) -> None:
    world.endpoint.faults = [Fault(status)]
    with pytest.raises(AtollError) as failed:
        await world.client.get_bytes("bucket", "key")
    assert failed.value.kind is kind
    assert len(world.endpoint.asked) == 1


async def test_a_download_goes_on_at_the_byte_where_it_was_cut(
    world: World, tmp_path: Path
) -> None:
    content = bytes(range(256)) * (2 * MIB // 256)
    world.endpoint.content, world.endpoint.crc = content, crc_text(crc64nvme(content))
    world.endpoint.faults = [Fault(), Fault(cut_at=MIB), Fault(cut_at=MIB // 2)]
    await world.client.get_file("bucket", "key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content
    ranges = [h["range"] for m, _, h in world.endpoint.asked if m == "GET"]
    assert ranges[0] == f"bytes=0-{2 * MIB - 1}"
    begins = [int(r.removeprefix("bytes=").split("-")[0]) for r in ranges]
    assert begins == sorted(set(begins)), "no byte is asked for twice"
    assert begins[-1] > 0


async def test_wrong_bytes_never_get_the_name(world: World, tmp_path: Path) -> None:
    world.endpoint.content, world.endpoint.crc = b"wrong", crc_text(crc64nvme(b"right"))
    with pytest.raises(AtollError) as failed:
        await world.client.get_file("bucket", "key", tmp_path / "file")
    assert failed.value.kind is Kind.CORRUPT
    assert os.listdir(tmp_path) == []
    with pytest.raises(AtollError):
        await world.client.get_bytes("bucket", "key")


async def test_an_object_that_changes_on_the_way_is_refused(world: World, tmp_path: Path) -> None:
    world.endpoint.content = b"x" * MIB
    original = world.endpoint.app

    async def changing(scope: Any, receive: Any, send: Any) -> None:
        await original(scope, receive, send)
        world.endpoint.etag = "two"

    world.endpoint.app = changing  # type: ignore[method-assign]
    server = HttpServer(changing, open_socket("127.0.0.1", 0))
    await server.start()
    async with AsyncClient("http://{}:{}".format(*server.address), "K", "S") as client:
        with pytest.raises(AtollError) as failed:
            await client.get_file("bucket", "key", tmp_path / "file")
    await server.stop()
    assert failed.value.kind is Kind.PRECONDITION_FAILED


async def test_an_endpoint_that_is_not_there_is_said(tmp_path: Path) -> None:
    async with AsyncClient(
        "http://127.0.0.1:1", "K", "S", options=Options(attempts=2), clock=Waits()
    ) as client:
        with pytest.raises(AtollError) as failed:
            await client.list_buckets()
    assert failed.value.kind is Kind.UNREACHABLE
    assert "127.0.0.1:1" in str(failed.value)
    assert failed.value.message == "the endpoint cannot be reached: connection refused"


async def test_requests_are_signed_and_carry_checksums(world: World) -> None:
    await world.client.put_bytes("bucket", "odd key/ü//..%", b"123456789")
    method, path, headers = world.endpoint.asked[0]
    assert (method, path) == ("PUT", "/bucket/odd%20key/%C3%BC//..%25")
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=KEY/")
    assert headers["x-amz-checksum-crc64nvme"] == "rosUhgp5mIg="  # the algorithm's check value
    assert "SECRET" not in str(headers)


async def test_one_failing_part_cancels_the_others(world: World, tmp_path: Path) -> None:
    world.endpoint.content = b"x" * (12 * MIB)
    world.endpoint.faults = [Fault(), Fault(403)]
    with pytest.raises(AtollError) as failed:
        await world.client.get_file("bucket", "key", tmp_path / "file")
    assert failed.value.kind is Kind.FORBIDDEN
    left = [t for t in asyncio.all_tasks() if "fetch" in repr(t) or "send" in repr(t.get_coro())]
    assert len(left) == 0


# --- answers --------------------------------------------------------------------------------------


def test_an_error_is_read_from_its_body() -> None:
    body = b"<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>"
    error = error_of("list objects", 404, body, "attic")
    assert (error.kind, error.message) == (Kind.BUCKET_NOT_FOUND, "gone")


@pytest.mark.parametrize("body", [b"", b"<html>", b"<Error", b"\x00\xff", b"<Error/>"])
def test_a_broken_error_is_read_by_its_status(body: bytes) -> None:
    assert error_of("x", 503, body, "").kind is Kind.OVERLOADED
    assert error_of("x", 502, body, "").kind is Kind.INTERNAL


def test_entities_are_never_resolved() -> None:
    bomb = b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><Error><Code>&a;</Code></Error>"
    assert "root:" not in str(error_of("x", 400, bomb, ""))


def test_a_late_error_in_a_200_is_an_error() -> None:
    with pytest.raises(AtollError):
        read_complete(b"<Error><Code>InternalError</Code></Error>", "b/k")


@given(st.binary(max_size=200))
def test_no_answer_breaks_the_reader(body: bytes) -> None:
    for read in (read_listing, lambda b: error_of("x", 500, b, "")):
        with contextlib.suppress(AtollError):
            read(body)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])), max_size=5))
def test_keys_survive_the_body_of_a_deletion(keys: list[str]) -> None:
    from lxml import etree

    found = [k.text or "" for k in etree.fromstring(delete_body(keys)).iterfind("Object/Key")]
    assert found == keys


@pytest.mark.parametrize("size", ["", "x", "-", "1e5", "9" * 5000])
def test_a_size_that_is_no_number_is_an_error(size: str) -> None:
    with pytest.raises(AtollError):
        read_listing(f"<R><Contents><Key>k</Key><Size>{size}</Size></Contents></R>".encode())


# --- settings -------------------------------------------------------------------------------------


def test_access_comes_from_arguments_then_environment() -> None:
    known = {
        "AWS_ENDPOINT_URL": "http://e:1/",
        "AWS_ACCESS_KEY_ID": "env",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_REGION": "eu",
    }
    access = Access.found(access_key="given", environment=known)
    assert (access.endpoint, access.access_key, access.region) == ("http://e:1", "given", "eu")
    assert "hidden" not in repr(access)


@pytest.mark.parametrize(
    "missing", ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
)
def test_what_is_missing_is_said(missing: str) -> None:
    known = {
        "AWS_ENDPOINT_URL": "http://e",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    del known[missing]
    with pytest.raises(AtollError) as refused:
        Access.found(environment=known)
    assert refused.value.kind is Kind.CONFIG


@given(st.integers(0, 5 << 40))
def test_parts_hold_every_object(size: int) -> None:
    part = Options().part_bytes_for(size)
    assert part * 10_000 >= size
    assert part <= 5 << 30
