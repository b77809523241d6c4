"""The contract of ``core.ports.Chain``: one suite, against each chain that we run."""

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.fixtures.chain import (
    ECHO,
    ECHO_CREATION,
    LocalChain,
    give_funds,
    new_folder,
    open_chain,
    sign,
    stand,
    start_anvil,
    start_python_chain,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ChainCall
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer, contract_address

NOBODY = b"\x09" * 20
STARTS = {"anvil": start_anvil, "py-evm": start_python_chain}

pytestmark = pytest.mark.xdist_group("chain-port")


@pytest.fixture(scope="module", params=list(STARTS))
def server(request: pytest.FixtureRequest) -> Iterator[LocalChain]:
    folder = new_folder()
    running = STARTS[request.param](folder)
    yield running
    running.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def chain(server: LocalChain) -> AsyncIterator[RpcChain]:
    opened = await open_chain(server.url)
    yield opened
    await opened.close()


@pytest.fixture
async def provider(chain: RpcChain, request: pytest.FixtureRequest) -> Signer:
    """Somebody with funds, another one in each test."""
    signer = Signer.derived(b"s" * 32, request.node.name)
    await give_funds(chain, signer.address)
    return signer


async def echo_of(chain: RpcChain, signer: Signer) -> bytes:
    signed = sign(signer, await chain.nonce(signer.address), b"", ECHO_CREATION, await chain.fees())
    await chain.send_raw(signed.raw)
    return (await stand(chain, signed.hash)).contract


async def test_it_says_which_chain_it_is(chain: RpcChain) -> None:
    assert await chain.chain_id() == EMBEDDED_CHAIN_ID


async def test_blocks_follow_each_other_and_end(chain: RpcChain, provider: Signer) -> None:
    await echo_of(chain, provider)
    newest = await chain.block()
    assert newest is not None
    assert newest.number >= 1
    before = await chain.block(newest.number - 1)
    assert before is not None
    assert newest.parent == before.hash
    assert newest.time_s >= before.time_s
    assert await chain.block(newest.number + 100) is None


async def test_a_contract_is_made_where_it_was_foretold(chain: RpcChain, provider: Signer) -> None:
    nonce = await chain.nonce(provider.address)
    address = await echo_of(chain, provider)
    assert address == contract_address(provider.address, nonce)
    assert await chain.code(address) == ECHO
    assert await chain.code(NOBODY) == b""
    assert await chain.nonce(provider.address) == nonce + 1


async def test_a_nonce_is_used_once(chain: RpcChain, provider: Signer) -> None:
    fees = await chain.fees()
    first = sign(provider, 0, b"", ECHO_CREATION, fees)
    assert await chain.send_raw(first.raw) == first.hash
    assert (await stand(chain, first.hash)).succeeded
    used = sign(provider, 0, NOBODY, b"", fees, gas=50_000)
    with pytest.raises(AtollError) as error:
        await chain.send_raw(used.raw)
    assert error.value.kind is Kind.CONFLICT


async def test_what_is_no_transaction_is_refused(chain: RpcChain) -> None:
    with pytest.raises(AtollError) as error:
        await chain.send_raw(b"\x02nonsense")
    assert error.value.kind is Kind.CONFLICT


async def test_a_transaction_for_another_chain_is_refused(
    chain: RpcChain, provider: Signer
) -> None:
    foreign = sign(provider, 0, NOBODY, b"", await chain.fees(), chain_id=8453)
    with pytest.raises(AtollError) as error:
        await chain.send_raw(foreign.raw)
    assert error.value.kind is Kind.CONFLICT
    assert await chain.receipt(foreign.hash) is None


async def test_a_refusal_is_told_before_and_after(chain: RpcChain, provider: Signer) -> None:
    address = await echo_of(chain, provider)
    refused = ChainCall(address, b"\xff", provider.address)
    for ask in (chain.call, chain.estimate_gas):
        with pytest.raises(AtollError) as error:
            await ask(refused)
        assert error.value.kind is Kind.PRECONDITION_FAILED
    assert await chain.call(ChainCall(address, b"fine", provider.address)) == b""
    gas = await chain.estimate_gas(ChainCall(address, b"fine", provider.address))
    assert 21_000 < gas < 40_000
    signed = sign(
        provider, await chain.nonce(provider.address), address, b"\xff", await chain.fees()
    )
    await chain.send_raw(signed.raw)
    found = await stand(chain, signed.hash)
    assert not found.succeeded
    assert found.logs == ()


async def test_logs_are_those_of_the_contracts_asked_for(chain: RpcChain, provider: Signer) -> None:
    one, other = await echo_of(chain, provider), await echo_of(chain, provider)
    receipts = []
    for to, said in ((one, b"first"), (other, b"elsewhere"), (one, b"second")):
        signed = sign(provider, await chain.nonce(provider.address), to, said, await chain.fees())
        await chain.send_raw(signed.raw)
        receipts.append(await stand(chain, signed.hash))
    first, last = receipts[0].block_number, receipts[-1].block_number
    found = await chain.logs(first, last, [one])
    assert [entry.data for entry in found] == [b"first", b"second"]
    assert (*found,) == (*receipts[0].logs, *receipts[2].logs)
    assert len(await chain.logs(first, last, [one, other])) == 3
    assert await chain.logs(first, last, []) == []
    assert await chain.logs(first, last, [NOBODY]) == []


async def test_balances_and_fees_are_numbers(chain: RpcChain, provider: Signer) -> None:
    assert await chain.balance(provider.address) > 10**20
    assert await chain.balance(NOBODY) == 0
    fees = await chain.fees()
    assert fees.base_wei >= 0
    assert fees.tip_wei > 0


async def test_an_unknown_transaction_has_no_receipt(chain: RpcChain) -> None:
    assert await chain.receipt(b"\x07" * 32) is None


async def test_nobody_there_is_unreachable() -> None:
    nowhere = await open_chain("http://127.3.1.1:1")
    with pytest.raises(AtollError) as error:
        await nowhere.chain_id()
    assert error.value.kind is Kind.UNREACHABLE
    await nowhere.close()
