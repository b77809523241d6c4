"""The contracts on a real EVM: once, in order, at the same addresses, whatever is cut off."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.chain import (
    FUNDS_WEI,
    LocalChain,
    give_funds,
    open_chain,
    open_database,
    start_anvil,
    start_python_chain,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainCall
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi, book
from atoll.economy.chain.deploy import Deployer, Plan
from atoll.economy.chain.embedded import ACCOUNT_ROLES
from atoll.economy.chain.link import ChainLink, LinkConfig, profile_of
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID, IntentState
from atoll.economy.chain.rpc import RpcChain
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase

pytestmark = pytest.mark.xdist_group("chain")
SEED = b"d" * 32
PUBLIC_ID = 84_532


def link_of(
    database: SqlDatabase, server: LocalChain, config: LinkConfig | None = None
) -> ChainLink:
    async def open_it() -> Chain:
        return await open_chain(server.url)

    return ChainLink(SystemClock(), database, SEED, config or LinkConfig(), open_it)


async def step_until_deployed(link: ChainLink) -> None:
    for _ in range(100):
        await link.step()
        if link.deployed is not None and link.deployed.done:
            return
    raise AssertionError(link.problem)


async def view(chain: Chain, link: ChainLink, name: str, function: str, *values: object) -> object:
    contract = (await link.contracts())[name]
    artifact = load(name)
    answer = await chain.call(
        ChainCall(contract.address, abi.call_data(artifact, function, *values))
    )
    return abi.read_answer(artifact, function, answer)


async def test_all_contracts_stand_and_know_each_other(
    money: SqlDatabase, server: LocalChain
) -> None:
    link = link_of(money, server)
    try:
        await step_until_deployed(link)
        contracts = await link.contracts()
        assert list(contracts) == sorted(order_of(link))
        chain = await link.chain()
        for contract in contracts.values():
            checked = await book.check_contract(chain, contract)
            assert (checked.verdict, checked.current) == ("as deployed", True)
        vesting = "0x" + contracts["Vesting"].address.hex()
        total = await view(chain, link, "Vesting", "TOTAL")
        assert await view(chain, link, "Token", "balanceOf", vesting) == total
        # The timelock's delay is long enough, by this chain's time, to own the parameters.
        timelock = "0x" + contracts["Timelock"].address.hex()
        assert str(await view(chain, link, "Parameters", "owner")).lower() == timelock
        distributor = await view(chain, link, "Escrow", "distributor")
        assert str(distributor).lower() == "0x" + contracts["EpochDistributor"].address.hex()
        await link.step()
        names = set()
        for event in await link.watcher.events():
            name = next(n for n, c in contracts.items() if c.address == event.address)
            read = abi.read_event(load(name), event)
            assert read is not None, "everything that our contracts say is in their ABI"
            names.add((name, read[0]))
        assert {("Token", "Transfer"), ("Bond", "Connected"), ("SlashCourt", "Connected")} <= names
    finally:
        await link.close()


def order_of(link: ChainLink) -> list[str]:
    return link._deployment.order()


async def test_a_chain_in_python_holds_them_too(money: SqlDatabase, folder: Path) -> None:
    slow = start_python_chain(folder)
    link = link_of(money, slow)
    try:
        await step_until_deployed(link)
        before = await link.contracts()
        await link.step()
        told = len(await link.watcher.events())
        assert told > 0
        slow.restart()  # it keeps nothing
        await link.step()
        while (await link.outbox.state()).pending or await link.watcher.retracted():
            await link.step()
        assert await link.contracts() == before
        chain = await link.chain()
        for contract in before.values():
            assert (await book.check_contract(chain, contract)).verdict == "as deployed"
        assert len(await link.watcher.events()) == told
    finally:
        await link.close()
        slow.kill()


async def test_deploying_again_changes_nothing(money: SqlDatabase, server: LocalChain) -> None:
    link = link_of(money, server)
    again = link_of(money, server)
    try:
        await step_until_deployed(link)
        before, sent = await link.contracts(), (await link.outbox.state()).final
        progress = await again.deploy(lambda _: None)
        assert progress.done
        assert dict(progress.contracts) == before
        assert (await again.outbox.state()).final == sent
    finally:
        await link.close()
        await again.close()


async def test_it_goes_on_after_every_single_step(money: SqlDatabase, server: LocalChain) -> None:
    """A new process for each step, as if the one before had been killed."""
    steps = 0
    while True:
        link = link_of(money, server)
        try:
            chain = await link.chain()
            await give_funds(await rpc_of(chain), link.deployer.address)
            progress = await link._deployment.step(chain)
            if progress.done:
                break
            await link.outbox.step(chain)
        finally:
            await link.close()
        steps += 1
        assert steps < 60
    assert steps >= len(progress.contracts)
    assert (await link.outbox.state()).refused == 0


async def rpc_of(chain: Chain) -> RpcChain:
    assert isinstance(chain, RpcChain)
    return chain


async def test_a_lost_database_finds_the_same_contracts(
    money: SqlDatabase, server: LocalChain, folder: Path
) -> None:
    link = link_of(money, server)
    await step_until_deployed(link)
    before = {name: c.address for name, c in (await link.contracts()).items()}
    nonce = await (await link.chain()).nonce(link.deployer.address)
    await link.close()
    (folder / "new").mkdir()
    new = open_database(folder / "new")
    heir = link_of(new, server)
    try:
        await step_until_deployed(heir)
        assert {name: c.address for name, c in (await heir.contracts()).items()} == before
        assert await (await heir.chain()).nonce(heir.deployer.address) == nonce, "nothing was sent"
    finally:
        await heir.close()
        await new.close()


async def test_an_emptied_chain_gets_the_contracts_back_where_they_were(
    money: SqlDatabase, server: LocalChain
) -> None:
    link = link_of(money, server)
    try:
        await step_until_deployed(link)
        before = await link.contracts()
        server.kill()
        assert server.state is not None
        server.state.unlink(missing_ok=True)
        assert await link.step() == 0, "a chain that is away is no error"
        assert "not there" in link.problem
        server.start()
        await link.step()
        assert link.problem == ""
        assert await link.contracts() == before
        chain = await link.chain()
        for contract in before.values():
            assert (await book.check_contract(chain, contract)).verdict == "as deployed"
    finally:
        await link.close()


async def test_other_code_is_seen(money: SqlDatabase, server: LocalChain) -> None:
    link = link_of(money, server)
    try:
        await step_until_deployed(link)
        chain = await rpc_of(await link.chain())
        contract = (await link.contracts())["Token"]
        await chain.ask("anvil_setCode", "0x" + contract.address.hex(), "0x6000")
        assert (await book.check_contract(chain, contract)).verdict == "other code"
        await chain.ask("anvil_setCode", "0x" + contract.address.hex(), "0x")
        assert (await book.check_contract(chain, contract)).verdict == "absent"
    finally:
        await link.close()


async def test_a_refused_step_says_what_and_goes_on_once_mended(
    money: SqlDatabase, server: LocalChain
) -> None:
    bad = LinkConfig(values={"Parameters.time_divisor": 0})
    bad = replace(bad, profile=replace(bad.profile, refuse_ms=0))
    link = link_of(money, server, bad)
    try:
        for _ in range(10):
            await link.step()
        assert "deploy/Parameters" in link.problem
        assert "time divisor" in link.problem
        status = await link.outbox.status("deploy/Parameters")
        assert status is not None
        assert status.state is IntentState.REFUSED
    finally:
        await link.close()
    mended = link_of(money, server)
    try:
        progress = await mended.deploy(lambda _: None)
        assert progress.done
    finally:
        await mended.close()


async def test_a_plan_that_lacks_something_names_it(money: SqlDatabase, server: LocalChain) -> None:
    link = link_of(money, server)
    try:
        chain = await link.chain()
        await give_funds(await rpc_of(chain), link.deployer.address)
        bare = Deployer(money, EMBEDDED_CHAIN_ID, link.outbox, link.deployer.address, Plan())
        with pytest.raises(AtollError) as error:
            await bare.step(chain)
        assert error.value.kind is Kind.CONFIG
        assert error.value.about == "TestStable.embedded_chain_id"
    finally:
        await link.close()


async def test_a_public_chain_wants_a_stablecoin_and_gets_no_test_one(money: SqlDatabase) -> None:
    link = None
    with pytest.raises(AtollError) as error:
        link = ChainLink(SystemClock(), money, SEED, LinkConfig(chain_id=8453), no_chain)
    assert error.value.kind is Kind.CONFIG
    assert "chain.stable" in error.value.hint
    link = ChainLink(
        SystemClock(), money, SEED, LinkConfig(chain_id=8453, stable=b"\x05" * 20), no_chain
    )
    assert "TestStable" not in link._deployment.order()


async def test_a_public_chain_gets_them_with_the_accounts_of_a_plan(
    money: SqlDatabase, folder: Path
) -> None:
    """As good as it can be shown here: anvil under another number, treated as a public chain."""
    server = start_anvil(folder, chain_id=PUBLIC_ID)
    accounts = {f"accounts.{role}": bytes([9, n]) * 10 for n, role in enumerate(ACCOUNT_ROLES)}
    config = LinkConfig(
        chain_id=PUBLIC_ID, profile=profile_of(PUBLIC_ID), stable=b"\x05" * 20, values=accounts
    )
    link = link_of(money, server, config)
    try:
        await link.step()
        assert await link.contracts() == {}, "nobody deploys on a public chain by himself"
        chain = await rpc_of(await link.chain())
        assert await chain.balance(link.deployer.address) == 0, "nor draws funds"
        await give_funds(chain, link.deployer.address)
        progress = await link.deploy(lambda _: None)
        assert progress.done
        assert "TestStable" not in progress.contracts
        stable = str(await view(chain, link, "Escrow", "STABLE"))
        assert stable.lower() == "0x" + config.stable.hex()
        assert await view(chain, link, "Parameters", "TIME_DIVISOR") == 1
        for _ in range(12):
            await chain.ask("evm_mine")
        while (await link.outbox.state()).pending:
            await link.step()
        await link.step()
        assert await link.watcher.events()
    finally:
        await link.close()
        server.kill()


async def no_chain() -> Chain:
    raise AtollError(Kind.UNREACHABLE, "open chain", "not in this test")


async def test_a_book_reads_back_and_refuses_what_is_none(
    money: SqlDatabase, server: LocalChain
) -> None:
    link = link_of(money, server)
    try:
        await step_until_deployed(link)
        found = await link.contracts()
    finally:
        await link.close()
    written = book.write_book(EMBEDDED_CHAIN_ID, found)
    assert book.read_book(written, EMBEDDED_CHAIN_ID) == found
    lies = {
        Kind.CONFIG: (written, 1),
        Kind.CORRUPT: (written.replace(b"0x", b"0y"), EMBEDDED_CHAIN_ID),
        Kind.NEWER_FORMAT: (
            written.replace(b'"format": 1', b'"format": 9'),
            EMBEDDED_CHAIN_ID,
        ),
    }
    for kind, (content, chain_id) in lies.items():
        with pytest.raises(AtollError) as error:
            book.read_book(content, chain_id)
        assert error.value.kind is kind
    with pytest.raises(AtollError):
        book.read_book(b"[]", EMBEDDED_CHAIN_ID)


async def test_funds_come_on_an_embedded_chain_only(money: SqlDatabase, server: LocalChain) -> None:
    link = link_of(money, server)
    try:
        await link.step()
        chain = await link.chain()
        assert await chain.balance(link.operator.address) > FUNDS_WEI // 2
    finally:
        await link.close()
