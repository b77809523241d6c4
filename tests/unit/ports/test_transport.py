"""What both piece transports promise, against a small node of the test's own."""

import asyncio
import base64
import urllib.parse

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import encode, failure_of
from atoll.core.ports import Address, PiecePart

PIECE = bytes(range(16))
BIG = 3_000_001


async def answer(send, status, body, *, announced=None):
    length = len(body) if announced is None else announced
    head = [(b"content-length", b"%d" % length), (b"X-Kind", b"test")]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def refuse(send, kind):
    failure = failure_of(AtollError(kind, "test", "refused", hint="try later"))
    await answer(send, 507 if kind is Kind.DISK_FULL else 403, encode(failure))


async def read_all(receive):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


class Node:
    def __init__(self):
        self.pieces = {}
        self.seen = []
        self.gone = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.seen.append((scope["method"], scope["path"], dict(scope["headers"])))
        if scope["method"] == "PUT":
            body = await read_all(receive)
            if body is None:
                self.gone.set()
                return
            self.pieces[scope["path"]] = body
            await answer(send, 201, b"receipt %d" % len(body))
        elif scope["method"] == "GET":
            query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
            offset, length = int(query["offset"]), int(query["length"])
            data = self.pieces.get(scope["path"])
            if data is None:
                await refuse(send, Kind.NOT_FOUND)
            else:
                await answer(send, 200, data[offset : offset + length])
        else:
            body = await read_all(receive)
            await answer(send, 418, scope["path"].encode() + b"|" + body)


async def parts(data, size):
    buffer = bytearray(size)
    for begin in range(0, len(data), size):
        part = data[begin : begin + size]
        buffer[: len(part)] = part
        yield memoryview(buffer)[: len(part)]
        buffer[:] = b"\xff" * size  # a sender that kept the buffer would send this


@pytest.mark.parametrize("length", [0, 1, 4096, 65536, 65537, BIG])
def test_a_piece_comes_back_as_it_went(world, length):
    async def check(w):
        node = Node()
        address = await w.serve(node)
        data = w.rng.bytes(length)
        receipt = await w.transport.put_piece(
            address, PIECE, b"order", parts(data, 100_000), length, 10
        )
        assert receipt == b"receipt %d" % length
        assert node.pieces[f"/v1/pieces/{PIECE.hex()}"] == data
        assert base64.b64decode(node.seen[0][2][b"x-atoll-order"]) == b"order"
        got = await w.transport.get_piece(address, PIECE, b"o", PiecePart.DATA, 0, length, 10)
        assert got == data
        stream = await w.transport.open_piece(address, PIECE, b"o", 0, length, 10)
        buffer = bytearray(length)
        view = memoryview(buffer)
        for begin in range(0, length, 77_777):
            await stream.read_into(view[begin : begin + 77_777])
        await stream.close()
        await stream.close()
        assert buffer == data

    world.run(check)


def test_a_range_is_read(world):
    async def check(w):
        address = await w.serve(Node())
        await w.transport.put_piece(address, PIECE, b"o", parts(b"0123456789", 3), 10, 10)
        got = await w.transport.get_piece(address, PIECE, b"o", PiecePart.DATA, 3, 4, 10)
        assert got == b"3456"

    world.run(check)


def test_a_refusal_is_the_nodes_own_error(world):
    async def check(w):
        address = await w.serve(Node())
        reads = (
            w.transport.get_piece(address, PIECE, b"o", PiecePart.DATA, 0, 1, 10),
            w.transport.open_piece(address, PIECE, b"o", 0, 1, 10),
        )
        for read in reads:
            with pytest.raises(AtollError) as caught:
                await read
            assert caught.value.kind is Kind.NOT_FOUND
            assert caught.value.hint == "try later"

    world.run(check)


def test_a_refusal_before_the_body_ends_the_sending(world):
    async def full(scope, receive, send):
        await receive()
        await refuse(send, Kind.DISK_FULL)

    async def check(w):
        address = await w.serve(full)
        for _ in range(3):
            with pytest.raises(AtollError) as caught:
                await w.transport.put_piece(
                    address, PIECE, b"o", parts(bytes(20_000_000), 500_000), 20_000_000, 10
                )
            assert caught.value.kind is Kind.DISK_FULL

    world.run(check)


def test_a_refusal_without_a_reason_is_internal(world):
    async def broken(scope, receive, send):
        await answer(send, 500, b"<html>")

    async def check(w):
        address = await w.serve(broken)
        with pytest.raises(AtollError) as caught:
            await w.transport.get_piece(address, PIECE, b"o", PiecePart.HEAD, 0, 0, 10)
        assert caught.value.kind is Kind.INTERNAL

    world.run(check)


def test_call_returns_any_status_and_headers_in_lower_case(world):
    async def check(w):
        address = await w.serve(Node())
        reply = await w.transport.call(address, "POST", "/v1/x", {"X-Proof": "p"}, b"body", 10)
        assert (reply.status, reply.body) == (418, b"/v1/x|body")
        assert reply.headers["x-kind"] == "test"

    world.run(check)


def test_nobody_there_is_unreachable(world):
    async def check(w):
        address = await w.silence()
        with pytest.raises(AtollError) as caught:
            await w.transport.call(address, "GET", "/", {}, b"", 10)
        assert caught.value.kind is Kind.UNREACHABLE

    world.run(check)


def test_an_answer_that_breaks_leaves_a_question_with_effects_unheard(world):
    async def breaks(scope, receive, send):
        await read_all(receive)
        head = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"x" * 60, "more_body": True})
        raise RuntimeError("the coordinator dies")

    async def check(w):
        address = await w.serve(breaks)
        for method, kind in (("POST", Kind.TIMEOUT), ("GET", Kind.UNREACHABLE)):
            with pytest.raises(AtollError) as caught:
                await w.transport.call(address, method, "/", {}, b"body", 5)
            assert caught.value.kind is kind

    world.run(check)


def test_silence_is_a_timeout(world):
    async def hang(scope, receive, send):
        await asyncio.Event().wait()

    async def check(w):
        address = await w.serve(hang)
        calls = (
            w.transport.call(address, "POST", "/", {}, b"", 0.05),
            w.transport.get_piece(address, PIECE, b"o", PiecePart.DATA, 0, 9, 0.05),
            w.transport.open_piece(address, PIECE, b"o", 0, 9, 0.05),
            w.transport.put_piece(address, PIECE, b"o", parts(b"x" * 9, 9), 9, 0.05),
        )
        for call in calls:
            with pytest.raises(AtollError) as caught:
                await call
            assert caught.value.kind is Kind.TIMEOUT

    world.run(check)


def test_a_stream_that_stalls_is_a_timeout(world):
    async def stall(scope, receive, send):
        head = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"x" * 60, "more_body": True})
        await asyncio.Event().wait()

    async def check(w):
        address = await w.serve(stall)
        stream = await w.transport.open_piece(address, PIECE, b"o", 0, 100, 0.05)
        buffer = memoryview(bytearray(100))
        await stream.read_into(buffer[:50])
        with pytest.raises(AtollError) as caught:
            await stream.read_into(buffer[50:])
        assert caught.value.kind is Kind.TIMEOUT
        await stream.close()

    world.run(check)


def test_a_stream_that_ends_early_is_unreachable(world):
    async def short(scope, receive, send):
        head = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"x" * 60, "more_body": True})
        raise RuntimeError("the node dies")

    async def check(w):
        address = await w.serve(short)
        stream = await w.transport.open_piece(address, PIECE, b"o", 0, 100, 5)
        with pytest.raises(AtollError) as caught:
            await stream.read_into(memoryview(bytearray(100)))
        assert caught.value.kind is Kind.UNREACHABLE
        await stream.close()

    world.run(check)


def test_another_length_than_asked_for_is_refused(world):
    async def check(w):
        address = await w.serve(Node())
        await w.transport.put_piece(address, PIECE, b"o", parts(b"0123456789", 3), 10, 10)
        for call in (
            w.transport.get_piece(address, PIECE, b"o", PiecePart.DATA, 5, 10, 10),
            w.transport.open_piece(address, PIECE, b"o", 5, 10, 10),
        ):
            with pytest.raises(AtollError) as caught:
                await call
            assert caught.value.kind is Kind.UNREACHABLE

    world.run(check)


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_body_of_another_length_than_announced_is_the_callers_error(world, size):
    async def check(w):
        address = await w.serve(Node())
        for announced in (size - 1, size + 1):
            with pytest.raises(AtollError) as caught:
                await w.transport.put_piece(
                    address, PIECE, b"o", parts(bytes(size), 60_000), announced, 5
                )
            assert caught.value.kind is Kind.BAD_REQUEST

    world.run(check)


def test_a_cancelled_put_disconnects_the_node(world):
    async def check(w):
        node = Node()
        address = await w.serve(node)
        begun = asyncio.Event()

        async def slow():
            yield bytes(70_000)
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(w.transport.put_piece(address, PIECE, b"o", slow(), 100_000, 10))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            await node.gone.wait()
        assert not node.pieces

    world.run(check)


def test_plain_http_stays_on_this_machine(world):
    async def check(w):
        with pytest.raises(AtollError) as caught:
            await w.transport.call(Address("192.0.2.7", 80), "GET", "/", {}, b"", 1)
        assert caught.value.kind is Kind.FORBIDDEN

    world.run(check)


def test_many_at_once(world):
    async def check(w):
        node = Node()
        address = await w.serve(node)
        ids = [bytes([i]) * 16 for i in range(150)]
        await asyncio.gather(
            *(w.transport.put_piece(address, i, b"o", parts(i, 16), 16, 30) for i in ids)
        )
        got = await asyncio.gather(
            *(w.transport.get_piece(address, i, b"o", PiecePart.DATA, 0, 16, 30) for i in ids)
        )
        assert got == ids

    world.run(check)
