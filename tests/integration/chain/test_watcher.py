"""The watcher against a real EVM: branches, an emptied chain, servers with short ranges."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.chain import (
    ECHO_CREATION,
    LocalChain,
    give_funds,
    sign,
    stand,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ChainBlock, ChainLog
from atoll.economy.chain.model import EMBEDDED, EMBEDDED_CHAIN_ID, ChainProfile, Intent
from atoll.economy.chain.outbox import Outbox
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer
from atoll.economy.chain.watcher import Watcher
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase

pytestmark = pytest.mark.xdist_group("chain")
DEEP = replace(EMBEDDED, confirmations=3)


def watcher_of(
    database: SqlDatabase, profile: ChainProfile = EMBEDDED, chain_id: int = EMBEDDED_CHAIN_ID
) -> Watcher:
    return Watcher(SystemClock(), database, chain_id, profile)


async def send(chain: RpcChain, signer: Signer, to: bytes, data: bytes) -> bytes:
    signed = sign(signer, await chain.nonce(signer.address), to, data, await chain.fees())
    await chain.send_raw(signed.raw)
    return (await stand(chain, signed.hash)).contract


@pytest.fixture
async def echo(chain: RpcChain, operator: Signer) -> bytes:
    await give_funds(chain, operator.address)
    return await send(chain, operator, b"", ECHO_CREATION)


async def told(watcher: Watcher) -> list[bytes]:
    return [event.data for event in await watcher.events() if not event.retracted]


async def test_events_are_told_once_and_in_order(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    watcher = watcher_of(money)
    for said in (b"one", b"two"):
        await send(chain, operator, echo, said)
    assert await watcher.step(chain, [echo]) == 2
    assert await told(watcher) == [b"one", b"two"]
    assert await watcher.step(chain, [echo]) == 0
    await send(chain, operator, echo, b"three")
    await watcher.step(chain, [echo])
    events = await watcher.events()
    assert [event.data for event in events] == [b"one", b"two", b"three"]
    assert await watcher.events(after=events[1].serial) == [events[2]]
    assert await watcher.events(limit=1) == [events[0]]


async def test_events_wait_for_their_confirmations(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    watcher = watcher_of(money, DEEP)
    await send(chain, operator, echo, b"one")
    seen = []
    for _ in range(4):
        await watcher.step(chain, [echo])
        seen.append(len(await watcher.events()))
        await chain.ask("evm_mine")
    assert seen == [0, 0, 1, 1]


async def test_a_branch_takes_back_what_was_not_told_yet(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    watcher = watcher_of(money, DEEP)
    await send(chain, operator, echo, b"stays")
    snapshot = await chain.ask("evm_snapshot")
    await send(chain, operator, echo, b"goes")
    await watcher.step(chain, [echo])
    await chain.ask("evm_revert", snapshot)
    await send(chain, operator, echo, b"comes")
    for _ in range(3):
        await chain.ask("evm_mine")
    await watcher.step(chain, [echo])
    assert [event.data for event in await watcher.events()] == [b"stays", b"comes"]
    assert await watcher.retracted() == []


async def test_a_branch_deeper_than_the_confirmations_is_told_as_retracted(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    watcher = watcher_of(money)
    await send(chain, operator, echo, b"stays")
    snapshot = await chain.ask("evm_snapshot")
    await send(chain, operator, echo, b"goes")
    await watcher.step(chain, [echo])
    assert await told(watcher) == [b"stays", b"goes"]
    await chain.ask("evm_revert", snapshot)
    await chain.ask("evm_mine")
    await watcher.step(chain, [echo])
    assert await told(watcher) == [b"stays"]
    assert [event.data for event in await watcher.retracted()] == [b"goes"]


async def test_a_chain_that_forgot_tells_nothing_twice(
    money: SqlDatabase, server: LocalChain, chain: RpcChain, operator: Signer
) -> None:
    outbox = Outbox(SystemClock(), money, EMBEDDED_CHAIN_ID, [operator], EMBEDDED)
    watcher = watcher_of(money)
    await give_funds(chain, operator.address)
    await outbox.submit(Intent("make", operator.address, b"", ECHO_CREATION))
    await outbox.step(chain)
    made = await outbox.status("make")
    while made is None or not made.contract:  # it is sent; the chain takes it in its own time
        await outbox.step(chain)
        made = await outbox.status("make")
    echo = made.contract
    for number in range(5):
        await outbox.submit(Intent(f"say/{number}", operator.address, echo, b"%d" % number))
    await outbox.step(chain)
    await watcher.step(chain, [echo])
    before = await watcher.events()
    assert len(before) == 5
    server.kill()
    assert server.state is not None
    server.state.unlink(missing_ok=True)
    server.start()
    await watcher.step(chain, [echo])
    assert len(await watcher.retracted()) == 5
    await give_funds(chain, operator.address)
    await outbox.step(chain)
    await watcher.step(chain, [echo])
    assert await watcher.retracted() == []
    after = await watcher.events()
    assert [(e.serial, e.transaction, e.ordinal) for e in after] == [
        (e.serial, e.transaction, e.ordinal) for e in before
    ]


class Narrow:
    """A server that refuses long ranges, as public ones do."""

    def __init__(self, chain: RpcChain, blocks_max: int) -> None:
        self._chain = chain
        self._blocks_max = blocks_max
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def logs(self, first: int, last: int, addresses: Sequence[bytes]) -> list[ChainLog]:
        if last - first + 1 > self._blocks_max:
            self.refused += 1
            raise AtollError(Kind.TOO_LARGE, "ask chain", "range too wide")
        return await self._chain.logs(first, last, addresses)


async def test_short_ranges_are_enough(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    for number in range(10):
        await send(chain, operator, echo, b"%d" % number)
    narrow: Any = Narrow(chain, 3)
    watcher = watcher_of(money)
    while await watcher.read_to() < 11:
        await watcher.step(narrow, [echo])
    assert narrow.refused > 0
    assert await told(watcher) == [b"%d" % number for number in range(10)]


class Shifty(Narrow):
    """A server that branches while it is read."""

    def __init__(self, chain: RpcChain) -> None:
        super().__init__(chain, 10_000)
        self.lies = 1

    async def block(self, number: int | None = None) -> ChainBlock | None:
        found = await self._chain.block(number)
        if number is not None and found is not None and self.lies:
            self.lies -= 1
            return replace(found, hash=b"\x66" * 32)
        return found


async def test_what_is_read_across_a_branch_does_not_count(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    await send(chain, operator, echo, b"one")
    shifty: Any = Shifty(chain)
    watcher = watcher_of(money)
    await watcher.step(shifty, [echo])
    await watcher.step(shifty, [echo])
    assert await told(watcher) == [b"one"]
    head = await chain.block()
    assert head is not None
    assert await watcher.read_to() == head.number


async def test_logs_of_blocks_that_exclude_each_other_are_a_lie(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    await send(chain, operator, echo, b"one")

    class Contradicting(Narrow):
        async def logs(self, first: int, last: int, addresses: Sequence[bytes]) -> list[ChainLog]:
            found = await self._chain.logs(first, last, addresses)
            return [replace(entry, block_hash=b"\x66" * 32) for entry in found]

    liar: Any = Contradicting(chain, 10_000)
    with pytest.raises(AtollError) as error:
        await watcher_of(money).step(liar, [echo])
    assert error.value.kind is Kind.CORRUPT
    assert await watcher_of(money).events() == []


async def test_another_chain_is_refused(money: SqlDatabase, chain: RpcChain, echo: bytes) -> None:
    with pytest.raises(AtollError) as error:
        await watcher_of(money, chain_id=1).step(chain, [echo])
    assert error.value.kind is Kind.CONFIG


async def test_reading_again_tells_nothing_twice(
    money: SqlDatabase, chain: RpcChain, operator: Signer, echo: bytes
) -> None:
    watcher = watcher_of(money)
    await send(chain, operator, echo, b"one")
    await watcher.step(chain, [echo])
    before = await watcher.events()
    await watcher.read_again()
    assert await watcher.read_to() < 1
    await watcher.step(chain, [echo])
    assert await watcher.events() == before
