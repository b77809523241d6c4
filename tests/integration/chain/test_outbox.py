"""The outbox against a real EVM: killed chains and senders, gaps, raised fees, branches."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.chain import (
    ECHO_CREATION,
    LocalChain,
    give_funds,
    open_chain,
    sign,
    stand,
    until,
)

from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.model import (
    EMBEDDED,
    EMBEDDED_CHAIN_ID,
    ChainProfile,
    Intent,
    IntentState,
    IntentStatus,
)
from atoll.economy.chain.outbox import Outbox
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase

pytestmark = pytest.mark.xdist_group("chain")
EAGER = replace(EMBEDDED, resend_ms=0, bump_ms=0, refuse_ms=0)
PATIENT = replace(EAGER, bump_ms=3_600_000)


class ManualClock(SystemClock):
    """A clock that a test turns on."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


def outbox_of(
    database: SqlDatabase, *signers: Signer, profile: ChainProfile = PATIENT, chain_id: int = 0
) -> Outbox:
    return Outbox(SystemClock(), database, chain_id or EMBEDDED_CHAIN_ID, signers, profile)


async def finish(outbox: Outbox, chain: RpcChain) -> None:
    for _ in range(50):
        await outbox.step(chain)
        if not (await outbox.state()).pending:
            return
    raise AssertionError(await outbox.state())


async def known(outbox: Outbox, key: str) -> IntentStatus:
    found = await outbox.status(key)
    assert found is not None
    return found


async def make_echo(outbox: Outbox, chain: RpcChain, signer: Signer) -> bytes:
    await give_funds(chain, signer.address)
    await outbox.submit(Intent("make echo", signer.address, b"", ECHO_CREATION))
    await finish(outbox, chain)
    return (await known(outbox, "make echo")).contract


async def say(outbox: Outbox, signer: Signer, to: bytes, count: int) -> list[str]:
    keys = [f"say/{number}" for number in range(count)]
    for key in keys:
        await outbox.submit(Intent(key, signer.address, to, key.encode()))
    return keys


async def heard(chain: RpcChain, echo: bytes) -> list[bytes]:
    head = await chain.block()
    assert head is not None
    return [entry.data for entry in await chain.logs(0, head.number, [echo])]


async def test_what_is_wanted_happens_once_and_in_order(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    outbox = outbox_of(money, operator)
    echo = await make_echo(outbox, chain, operator)
    keys = await say(outbox, operator, echo, 5)
    assert await say(outbox, operator, echo, 5) == keys, "wanting again does nothing"
    await finish(outbox, chain)
    assert await heard(chain, echo) == [key.encode() for key in keys]
    nonces = [(await known(outbox, key)).nonce for key in keys]
    assert nonces == [1, 2, 3, 4, 5]
    with pytest.raises(AtollError) as error:
        await outbox.submit(Intent("say/0", operator.address, echo, b"something else"))
    assert error.value.kind is Kind.CONFLICT


@pytest.mark.parametrize("keeps_state", [True, False])
async def test_a_killed_chain_gets_everything_back_with_the_same_hashes(
    money: SqlDatabase,
    server: LocalChain,
    chain: RpcChain,
    operator: Signer,
    deployer: Signer,
    keeps_state: bool,
) -> None:
    outbox = outbox_of(money, operator, deployer)
    await give_funds(chain, operator.address, deployer.address)
    echo = await make_echo(outbox, chain, deployer)
    keys = await say(outbox, operator, echo, 20)
    await finish(outbox, chain)
    before = {key: (await known(outbox, key)).transaction for key in keys}
    assert server.state is not None
    if keeps_state:
        await until(server.state.exists)
    server.kill()
    if not keeps_state:
        server.state.unlink(missing_ok=True)
    await say_more(outbox, operator, echo)  # service goes on without a chain
    with pytest.raises(AtollError) as error:
        await outbox.step(chain)
    assert error.value.kind is Kind.UNREACHABLE
    server.start()
    await give_funds(chain, operator.address, deployer.address)
    await finish(outbox, chain)
    after = {key: (await known(outbox, key)).transaction for key in keys}
    assert after == before
    assert sorted(await heard(chain, echo)) == sorted([*(k.encode() for k in keys), b"meanwhile"])
    for key in keys:
        found = await chain.receipt(after[key])
        assert found is not None
        assert found.succeeded
    state = await outbox.state()
    assert (state.pending, state.failed, state.refused) == (0, 0, 0)


async def say_more(outbox: Outbox, signer: Signer, to: bytes) -> None:
    await outbox.submit(Intent("meanwhile", signer.address, to, b"meanwhile"))


@pytest.mark.parametrize("stage", ["signed", "stored", "sent", "noted"])
async def test_a_sender_killed_between_any_two_steps_sends_once(
    money: SqlDatabase,
    server: LocalChain,
    chain: RpcChain,
    operator: Signer,
    folder: Path,
    stage: str,
) -> None:
    outbox = outbox_of(money, operator)
    echo = await make_echo(outbox, chain, operator)
    keys = await say(outbox, operator, echo, 3)
    await money.close()
    script = Path(__file__).with_name("dying_sender.py")
    ended = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        *(str(folder), server.url, stage),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert await ended.wait() == -signal.SIGKILL
    again = SqlDatabase(f"sqlite:///{folder}/money.db")
    try:
        successor = outbox_of(again, operator)
        await finish(successor, chain)
        assert await heard(chain, echo) == [key.encode() for key in keys]
        assert await chain.nonce(operator.address) == 4
        assert (await successor.state()).final == 4
    finally:
        await again.close()


async def test_a_reorganisation_brings_everything_back(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    outbox = outbox_of(money, operator)
    echo = await make_echo(outbox, chain, operator)
    snapshot = await chain.ask("evm_snapshot")
    keys = await say(outbox, operator, echo, 4)
    await finish(outbox, chain)
    before = [await known(outbox, key) for key in keys]
    assert await chain.ask("evm_revert", snapshot) is True
    assert await heard(chain, echo) == []
    await finish(outbox, chain)
    after = [await known(outbox, key) for key in keys]
    assert [s.transaction for s in after] == [s.transaction for s in before]
    assert await heard(chain, echo) == [key.encode() for key in keys]


async def test_confirmations_are_waited_for(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    outbox = outbox_of(money, operator, profile=replace(PATIENT, confirmations=3))
    await give_funds(chain, operator.address)
    await outbox.submit(Intent("make echo", operator.address, b"", ECHO_CREATION))
    await outbox.step(chain)
    states = []
    for _ in range(3):
        await outbox.step(chain)
        states.append((await known(outbox, "make echo")).state)
        await chain.ask("evm_mine")
    assert states == [IntentState.MINED, IntentState.MINED, IntentState.FINAL]


async def test_a_missing_nonce_is_filled(
    money: SqlDatabase, server: LocalChain, chain: RpcChain, operator: Signer
) -> None:
    """A database from before the last transactions, and a chain that forgot them: a gap."""
    await give_funds(chain, operator.address)
    for nonce in range(3):  # signed by the database that was lost
        foreign = sign(operator, nonce, operator.address, b"", await chain.fees())
        await chain.send_raw(foreign.raw)
        await stand(chain, foreign.hash)
    outbox = outbox_of(money, operator)
    echo = await make_echo(outbox, chain, operator)
    assert (await known(outbox, "make echo")).nonce == 3, "it goes on after them"
    assert server.state is not None
    server.kill()
    server.state.unlink(missing_ok=True)
    server.start()
    await give_funds(chain, operator.address)
    await finish(outbox, chain)
    assert await chain.nonce(operator.address) == 4
    assert (await chain.code(echo)) != b"", "at the same address as before"


async def test_a_stuck_transaction_pays_more_and_goes(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    await give_funds(chain, operator.address)
    await chain.ask("evm_setAutomine", False)
    clock = ManualClock()
    profile = replace(EMBEDDED, fee_wei_floor=0, resend_ms=1_000, bump_ms=10_000)
    outbox = Outbox(clock, money, EMBEDDED_CHAIN_ID, [operator], profile)
    await outbox.submit(Intent("make echo", operator.address, b"", ECHO_CREATION))
    await outbox.step(chain)
    first = await chain.ask("eth_getTransactionBySenderAndNonce", hex_of(operator), "0x0")
    for _ in range(3):
        clock.ahead_ms += 11_000
        await outbox.step(chain)
    newest = await chain.ask("eth_getTransactionBySenderAndNonce", hex_of(operator), "0x0")
    assert newest["hash"] != first["hash"]
    paid, at_first = int(newest["maxFeePerGas"], 16), int(first["maxFeePerGas"], 16)
    assert paid * 100 >= at_first * 195, "three raises of a quarter"
    await chain.ask("evm_setAutomine", True)
    await chain.ask("evm_mine")
    await finish(outbox, chain)
    found = await known(outbox, "make echo")
    assert found.transaction.hex() == newest["hash"][2:]
    assert await chain.nonce(operator.address) == 1, "once, whatever was sent"


def hex_of(signer: Signer) -> str:
    return "0x" + signer.address.hex()


async def test_a_nonce_used_by_another_is_signed_anew_once_that_is_settled(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    await give_funds(chain, operator.address)
    outbox = outbox_of(money, operator, profile=replace(PATIENT, confirmations=2))
    await chain.ask("evm_setAutomine", False)
    await outbox.submit(Intent("make echo", operator.address, b"", ECHO_CREATION))
    await outbox.step(chain)
    assert (await known(outbox, "make echo")).nonce == 0
    fees = await chain.fees()
    dear = replace(fees, base_wei=fees.base_wei * 500, tip_wei=fees.tip_wei * 500)
    foreign = sign(operator, 0, operator.address, b"", dear)
    await chain.send_raw(foreign.raw)
    await chain.ask("evm_mine")
    await stand(chain, foreign.hash)
    await outbox.step(chain)
    assert (await known(outbox, "make echo")).state is IntentState.SIGNED, "not settled yet"
    await chain.ask("evm_mine")
    await outbox.step(chain)
    await chain.ask("evm_setAutomine", True)
    await outbox.step(chain)
    await chain.ask("evm_mine")
    await finish(outbox, chain)
    found = await known(outbox, "make echo")
    assert (found.state, found.nonce) == (IntentState.FINAL, 1)
    assert (await chain.code(found.contract)) != b""


async def test_another_chain_is_refused_before_anything_is_signed(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    outbox = outbox_of(money, operator, chain_id=8453)
    await outbox.submit(Intent("make echo", operator.address, b"", ECHO_CREATION))
    with pytest.raises(AtollError) as error:
        await outbox.step(chain)
    assert error.value.kind is Kind.CONFIG
    assert (await known(outbox, "make echo")).state is IntentState.WANTED
    assert await chain.nonce(operator.address) == 0


async def test_what_the_contract_would_undo_is_given_up_and_nothing_else(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    clock = ManualClock()
    profile = replace(PATIENT, refuse_ms=60_000)
    outbox = Outbox(clock, money, EMBEDDED_CHAIN_ID, [operator], profile)
    echo = await make_echo(outbox, chain, operator)
    await outbox.submit(Intent("bad", operator.address, echo, b"\xff"))
    await outbox.submit(Intent("good", operator.address, echo, b"good"))
    await outbox.step(chain)
    bad = await known(outbox, "bad")
    assert (bad.state, bad.nonce) == (IntentState.WANTED, -1)
    assert "refuses" in bad.problem
    assert (await known(outbox, "good")).state is IntentState.FINAL
    clock.ahead_ms = 60_000
    await outbox.step(chain)
    assert (await known(outbox, "bad")).state is IntentState.REFUSED
    assert await heard(chain, echo) == [b"good"]


async def test_what_the_contract_undoes_is_told_as_failed(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    outbox = outbox_of(money, operator)
    echo = await make_echo(outbox, chain, operator)
    await outbox.submit(Intent("bad", operator.address, echo, b"\xff", gas=100_000))
    await finish(outbox, chain)
    bad = await known(outbox, "bad")
    assert (bad.state, bad.succeeded, bad.nonce) == (IntentState.FAILED, False, 1)


async def test_a_chain_dearer_than_allowed_waits(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    await give_funds(chain, operator.address)
    dear = outbox_of(money, operator, profile=replace(PATIENT, fee_wei_max=10, fee_wei_floor=0))
    await dear.submit(Intent("make echo", operator.address, b"", ECHO_CREATION))
    await dear.step(chain)
    state = await dear.state()
    assert (state.wanted, state.problems[0][0]) == (1, "make echo")
    await finish(outbox_of(money, operator), chain)


async def test_an_account_without_funds_waits_for_them(
    money: SqlDatabase, chain: RpcChain, operator: Signer
) -> None:
    outbox = outbox_of(money, operator)
    await outbox.submit(Intent("make echo", operator.address, b"", ECHO_CREATION))
    await outbox.step(chain)
    state = await outbox.state()
    assert state.pending == 1
    assert state.problems
    await give_funds(chain, operator.address)
    await finish(outbox, chain)
    assert (await known(outbox, "make echo")).state is IntentState.FINAL


async def test_two_processes_on_one_database_send_once(
    money: SqlDatabase, server: LocalChain, chain: RpcChain, operator: Signer, folder: Path
) -> None:
    outbox = outbox_of(money, operator)
    echo = await make_echo(outbox, chain, operator)
    other_database = SqlDatabase(f"sqlite:///{folder}/money.db")
    other_chain = await open_chain(server.url)
    try:
        other = outbox_of(other_database, operator)
        keys = await say(outbox, operator, echo, 20)
        await asyncio.gather(finish(outbox, chain), finish(other, other_chain))
        assert await heard(chain, echo) == [key.encode() for key in keys]
        assert await chain.nonce(operator.address) == 21
    finally:
        await other_chain.close()
        await other_database.close()


@pytest.mark.parametrize(
    "intent",
    [
        Intent("", b"o" * 20, b"", b""),
        Intent("k" * 201, b"o" * 20, b"", b""),
        Intent("k", b"x" * 20, b"", b""),
        Intent("k", b"o" * 20, b"", b"", value_wei=-1),
        Intent("k", b"o" * 20, b"", b"", gas=1 << 25),
        Intent("k", b"o" * 20, b"", bytes(200_000)),
    ],
)
async def test_what_cannot_be_is_refused_at_once(
    money: SqlDatabase, operator: Signer, intent: Intent
) -> None:
    outbox = outbox_of(money, operator)
    wanted = replace(
        intent, sender=operator.address if intent.sender == b"o" * 20 else intent.sender
    )
    with pytest.raises(AtollError) as error:
        await outbox.submit(wanted)
    assert error.value.kind is Kind.BAD_REQUEST


async def test_the_last_block_seen_is_remembered_while_the_chain_is_away(
    money: SqlDatabase, server: LocalChain, chain: RpcChain, operator: Signer
) -> None:
    outbox = outbox_of(money, operator)
    assert (await outbox.last_seen())[0] == -1
    await make_echo(outbox, chain, operator)
    await outbox.step(chain)
    server.kill()
    with pytest.raises(AtollError):
        await outbox.step(chain)
    block, time_s, seen_ms = await outbox.last_seen()
    assert block == 1
    assert abs(seen_ms // 1000 - time_s) < 60
