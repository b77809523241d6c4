"""A server that lies, stammers or is ill: always a typed error, never a wrong fact."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp.web
import pytest
from tests.fixtures.chain import open_chain

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ChainCall
from atoll.economy.chain import rpc
from atoll.economy.chain.rpc import RpcChain

WORD = "0x" + "01" * 32
ADDRESS = b"\x02" * 20
GARBAGE: list[Any] = [
    True,
    17,
    -1,
    "",
    "0x",
    "hello",
    "0x" + "f" * 65,
    [],
    [1],
    {},
    {"number": "0x1"},
    {"hash": 5},
]
Answer = Callable[[dict[str, Any]], aiohttp.web.StreamResponse | Awaitable[Any]]


class Liar:
    """A server that answers what a test wants."""

    def __init__(self) -> None:
        self.answer: Answer = lambda request: aiohttp.web.json_response({})
        self.url = ""
        self.whole: Callable[[aiohttp.web.Request], Awaitable[Any]] | None = None

    async def serve(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        if self.whole is not None:
            return await self.whole(request)
        asked = json.loads(await request.read())
        found = self.answer(asked)
        return found if isinstance(found, aiohttp.web.StreamResponse) else await found

    def result(self, value: Any) -> None:
        self.answer = lambda request: aiohttp.web.json_response(
            {"jsonrpc": "2.0", "id": request["id"], "result": value}
        )

    def error(self, value: Any) -> None:
        self.answer = lambda request: aiohttp.web.json_response(
            {"jsonrpc": "2.0", "id": request["id"], "error": value}
        )

    def raw(self, body: bytes, status: int = 200) -> None:
        self.answer = lambda _: aiohttp.web.Response(body=body, status=status)


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    found = Liar()
    app = aiohttp.web.Application()
    app.router.add_post("/", found.serve)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    found.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield found
    await runner.cleanup()


@pytest.fixture
async def chain(liar: Liar) -> AsyncIterator[RpcChain]:
    opened = await open_chain(liar.url)
    yield opened
    await opened.close()


def questions(chain: RpcChain) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "chain_id": chain.chain_id,
        "block": lambda: chain.block(5),
        "newest": chain.block,
        "call": lambda: chain.call(ChainCall(ADDRESS, b"")),
        "estimate": lambda: chain.estimate_gas(ChainCall(ADDRESS, b"")),
        "send": lambda: chain.send_raw(b"\x02raw"),
        "receipt": lambda: chain.receipt(b"\x01" * 32),
        "logs": lambda: chain.logs(1, 9, [ADDRESS]),
        "nonce": lambda: chain.nonce(ADDRESS),
        "balance": lambda: chain.balance(ADDRESS),
        "code": lambda: chain.code(ADDRESS),
        "fees": chain.fees,
    }


# Empty lists and empty bytes are answers that may be true.
TRUE_ANSWERS = {("logs", "[]"), ("call", '"0x"'), ("code", '"0x"')}


async def test_garbage_is_corrupt(liar: Liar, chain: RpcChain) -> None:
    for garbage in GARBAGE:
        liar.result(garbage)
        for name, ask in questions(chain).items():
            if (name, json.dumps(garbage)) in TRUE_ANSWERS:
                continue
            if name == "receipt" and isinstance(garbage, dict):
                assert await ask() is None, "it names no block"
                continue
            with pytest.raises(AtollError) as error:
                await ask()
            assert error.value.kind is Kind.CORRUPT, (name, garbage)
            assert error.value.hint


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b"5", b"null", b'{"jsonrpc"', b"\xff\xfe", b"[" * 100_000, b"{}"],
)
async def test_what_is_no_json_rpc_is_corrupt(liar: Liar, chain: RpcChain, body: bytes) -> None:
    liar.raw(body)
    for ask in questions(chain).values():
        with pytest.raises(AtollError) as error:
            await ask()
        assert error.value.kind is Kind.CORRUPT


async def test_another_hash_than_that_of_the_transaction_is_a_lie(
    liar: Liar, chain: RpcChain
) -> None:
    liar.result(WORD)
    with pytest.raises(AtollError) as error:
        await chain.send_raw(b"\x02raw")
    assert error.value.kind is Kind.CORRUPT


async def test_another_block_is_a_lie(liar: Liar, chain: RpcChain) -> None:
    liar.result({"number": "0x6", "hash": WORD, "parentHash": WORD, "timestamp": "0x1"})
    with pytest.raises(AtollError) as error:
        await chain.block(5)
    assert error.value.kind is Kind.CORRUPT


async def test_too_long_an_answer_is_cut_off(
    liar: Liar, chain: RpcChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "ANSWER_BYTES_MAX", 1 << 20)
    sent = 0

    async def serve(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        nonlocal sent
        response = aiohttp.web.StreamResponse()
        await response.prepare(request)
        try:
            while sent < 1 << 28:
                await response.write(b" " * (1 << 16))
                sent += 1 << 16
        except ConnectionError:
            pass
        return response

    liar.whole = serve
    with pytest.raises(AtollError) as error:
        await chain.chain_id()
    assert error.value.kind is Kind.CORRUPT
    assert sent < 1 << 26, "it was not read to its end"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Kind.UNAUTHENTICATED),
        (403, Kind.FORBIDDEN),
        (429, Kind.OVERLOADED),
        (500, Kind.UNREACHABLE),
        (502, Kind.UNREACHABLE),
    ],
)
async def test_http_errors_have_kinds(liar: Liar, chain: RpcChain, status: int, kind: Kind) -> None:
    liar.raw(b"", status)
    with pytest.raises(AtollError) as error:
        await chain.chain_id()
    assert error.value.kind is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"code": 3, "message": "execution reverted"}, Kind.PRECONDITION_FAILED),
        ({"code": -32000, "message": "execution reverted: paused"}, Kind.PRECONDITION_FAILED),
        ({"code": -32000, "message": "invalid opcode: INVALID"}, Kind.PRECONDITION_FAILED),
        ({"code": -32601, "message": "no such method"}, Kind.NOT_IMPLEMENTED),
        ({"code": -32005, "message": "limit exceeded"}, Kind.OVERLOADED),
        ({"code": "three", "message": 5}, Kind.INTERNAL),
        ("a text", Kind.INTERNAL),
        ([], Kind.INTERNAL),
        ({"code": 3, "message": "x", "data": {"data": "0x12zz"}}, Kind.PRECONDITION_FAILED),
    ],
)
async def test_refusals_have_kinds(liar: Liar, chain: RpcChain, answer: Any, kind: Kind) -> None:
    liar.error(answer)
    with pytest.raises(AtollError) as error:
        await chain.call(ChainCall(ADDRESS, b""))
    assert error.value.kind is kind


async def test_what_is_known_already_counts_as_sent(liar: Liar, chain: RpcChain) -> None:
    liar.error({"code": -32000, "message": "already known"})
    assert len(await chain.send_raw(b"\x02raw")) == 32
    liar.error({"code": -32003, "message": "nonce too low"})
    with pytest.raises(AtollError) as error:
        await chain.send_raw(b"\x02raw")
    assert error.value.kind is Kind.CONFLICT


async def test_a_refused_range_of_logs_is_too_large(liar: Liar, chain: RpcChain) -> None:
    liar.error({"code": -32602, "message": "range too wide"})
    with pytest.raises(AtollError) as error:
        await chain.logs(1, 5000, [ADDRESS])
    assert error.value.kind is Kind.TOO_LARGE


async def test_silence_is_a_timeout(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "TIMEOUT_S", 0.2)
    chain = await open_chain(liar.url)

    async def silent(_: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    liar.answer = silent
    with pytest.raises(AtollError) as error:
        await chain.chain_id()
    assert error.value.kind is Kind.TIMEOUT
    await chain.close()
