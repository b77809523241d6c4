"""The genesis file against what really stands on an EVM."""

from dataclasses import replace

import msgspec
import pytest
from tests.fixtures.chain import LocalChain
from tests.integration.chain.test_deploy import link_of, step_until_deployed

from atoll.economy import genesis
from atoll.economy.chain.genesis import differences
from atoll.runtime.database import SqlDatabase

pytestmark = pytest.mark.xdist_group("chain")


def changed(read: genesis.Genesis, place: int, **fields: object) -> genesis.Genesis:
    allocations = list(read.allocation)
    allocations[place] = msgspec.structs.replace(allocations[place], **fields)
    return msgspec.structs.replace(read, allocation=allocations)


async def test_the_chain_says_what_the_file_says_and_no_other_file(
    money: SqlDatabase, server: LocalChain
) -> None:
    link = link_of(money, server)
    read, _ = genesis.read()
    try:
        assert await differences(await link.chain(), {}, read, {}) == [
            "Token is not on the chain",
            "Vesting is not on the chain",
        ]
        await step_until_deployed(link)
        chain, contracts = await link.chain(), await link.contracts()
        assert await differences(chain, contracts, read, link.accounts) == []
        first = read.allocation[0]
        assert first.vesting is not None
        later = msgspec.structs.replace(first.vesting, cliff_days=1)
        for other, words in (
            (changed(read, 0, vesting=later), "schedule 0"),
            (changed(read, 0, amount="400000000.000000000000000001"), "schedule 0"),
            (changed(read, 0, vesting=None), "schedules are vesting"),
            (changed(read, 4, holder="holder"), "the file says"),
            (changed(read, 4, amount="50000001"), "the file says"),
            (changed(read, 4, holder="nobody"), "no account is known for nobody"),
        ):
            found = await differences(chain, contracts, other, link.accounts)
            assert any(words in one for one in found), (words, found)
        elsewhere = replace(contracts["Token"], address=contracts["Timelock"].address)
        swapped = {**contracts, "Token": elsewhere}
        assert "is not this version" in (await differences(chain, swapped, read, link.accounts))[0]
    finally:
        await link.close()
