"""Compare a genesis file with what was really minted and is really vesting on a chain."""

from collections.abc import Mapping
from typing import Any

from atoll.core.errors import AtollError
from atoll.core.ports import Chain, ChainCall
from atoll.economy import genesis as rules
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.book import check_contract
from atoll.economy.chain.model import Contract
from atoll.economy.chain.signer import checksum_address

TOKEN, VESTING = "Token", "Vesting"


class _Reader:
    """Asks one contract at the newest block."""

    def __init__(self, chain: Chain, contract: Contract) -> None:
        self._chain = chain
        self._address = contract.address
        self._artifact = load(contract.name)

    async def ask(self, function: str, *values: Any) -> Any:
        data = abi.call_data(self._artifact, function, *values)
        answer = await self._chain.call(ChainCall(self._address, data))
        return abi.read_answer(self._artifact, function, answer, len(values))


async def differences(
    chain: Chain,
    contracts: Mapping[str, Contract],
    genesis: rules.Genesis,
    accounts: Mapping[str, bytes],
) -> list[str]:
    """Say in words where the chain is not what the file says; empty if it is.

    ``accounts`` maps roles to addresses; a role that is not there cannot be compared, and is a
    difference. A schedule whose beneficiary passed it on is none: that is told by the contract.
    Raises as ``Chain.call`` does.
    """
    missing = [name for name in (TOKEN, VESTING) if name not in contracts]
    if missing:
        return [f"{name} is not on the chain" for name in missing]
    found = []
    for name in (TOKEN, VESTING):
        checked = await check_contract(chain, contracts[name])
        if checked.verdict != "as deployed" or not checked.current:
            found.append(f"{name}: the code on the chain is not this version's")
    if found:
        return found
    token, vesting = _Reader(chain, contracts[TOKEN]), _Reader(chain, contracts[VESTING])
    found += await _token(token, contracts, genesis)
    found += await _schedules(vesting, contracts, genesis, accounts)
    found += await _minted(chain, contracts, genesis, accounts)
    return found


async def _token(
    token: _Reader, contracts: Mapping[str, Contract], genesis: rules.Genesis
) -> list[str]:
    supply = rules.wei(genesis.token.supply, "supply")
    wanted = {
        "name": genesis.token.name,
        "symbol": genesis.token.symbol,
        "decimals": genesis.token.decimals,
        "GENESIS_SUPPLY": supply,
    }
    found = []
    for function, value in wanted.items():
        said = await token.ask(function)
        if said != value:
            found.append(f"Token.{function} is {said}, the file says {value}")
    if await token.ask("totalSupply") > supply:
        found.append("there is more than was minted at genesis")
    return found


async def _schedules(
    vesting: _Reader,
    contracts: Mapping[str, Contract],
    genesis: rules.Genesis,
    accounts: Mapping[str, bytes],
) -> list[str]:
    plan, found = rules.schedules(genesis), []
    count = await vesting.ask("count")
    if count != len(plan):
        return [f"{count} schedules are vesting, the file has {len(plan)}"]
    if bytes.fromhex((await vesting.ask("token"))[2:]) != contracts[TOKEN].address:
        found.append("vesting is not connected to the token")
    for one in plan:
        _, amount, start_s, cliff_s, duration_s, claimed = await vesting.ask(
            "schedules", one.number
        )
        said = (amount, start_s, cliff_s, duration_s)
        if said != (one.amount_wei, one.start_s, one.cliff_s, one.duration_s):
            found.append(f"schedule {one.number} ({one.name}) is {said}")
        if claimed > one.amount_wei:
            found.append(f"schedule {one.number} ({one.name}) gave out more than it has")
        if _address(one.holder, accounts) is None:
            found.append(f"no account is known for {one.holder}")
    return found


async def _minted(
    chain: Chain,
    contracts: Mapping[str, Contract],
    genesis: rules.Genesis,
    accounts: Mapping[str, bytes],
) -> list[str]:
    """Compare what the constructor minted, by its events in the block it stands in."""
    token, block = contracts[TOKEN], contracts[TOKEN].block_number
    wanted: dict[bytes, int] = {}
    total = sum(one.amount_wei for one in rules.schedules(genesis))
    shares = [(contracts[VESTING].address, total)]
    for holder, amount in rules.at_once(genesis):
        address = _address(holder, accounts)
        if address is None:
            return [f"no account is known for {holder}"]
        shares.append((address, amount))
    for address, amount in shares:
        wanted[address] = wanted.get(address, 0) + amount
    minted: dict[bytes, int] = {}
    try:
        entries = await chain.logs(block, block, [token.address])
    except AtollError as error:
        return [f"the chain does not show what was minted: {error.message}"]
    for entry in entries:
        if entry.topics[0] == _TRANSFER and int.from_bytes(entry.topics[1], "big") == 0:
            taker = entry.topics[2][-20:]
            minted[taker] = minted.get(taker, 0) + int.from_bytes(entry.data, "big")
    return [
        f"{checksum_address(address)} got {rules.show(minted.get(address, 0))} ATOLL, "
        f"the file says {rules.show(wanted.get(address, 0))}"
        for address in sorted(minted.keys() | wanted.keys())
        if minted.get(address, 0) != wanted.get(address, 0)
    ]


def _address(holder: str, accounts: Mapping[str, bytes]) -> bytes | None:
    if holder.startswith("0x"):
        return bytes.fromhex(holder[2:])
    return accounts.get(holder)


# keccak256("Transfer(address,address,uint256)"), ERC-20.
_TRANSFER = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
