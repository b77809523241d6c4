"""The contracts of the economy, connected, with an actor in each role."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.contracts.world import (
    CHAIN_ID,
    DAY_S,
    Contract,
    account,
    deploy,
    now_s,
    pass_time,
)

BUCKETS = ("insurance", "treasury", "coordinators", "verifiers", "stakers", "burn")
OWNER_DELAY_S = 15 * DAY_S


@dataclass(frozen=True)
class House:
    """All contracts below the distributor, whose place an account takes."""

    stable: Contract
    timelock: Contract
    parameters: Contract
    treasury: Contract
    registry: Contract
    escrow: Contract

    def give(self, role: str, amount_micro: int, spender: Contract) -> None:
        """Give an actor euros which a contract may take from it."""
        if amount_micro:
            self.stable.faucet(account(role), amount_micro)
        self.stable.approve(spender, 2**256 - 1, sender=account(role))

    def euro_of(self, holder: Contract | str) -> int:
        """Stablecoin units of a contract, or of an actor by its role."""
        address = holder.address if isinstance(holder, Contract) else account(holder)
        return int(self.stable.balanceOf(address))

    def set(self, **values: int) -> None:
        """Change parameters as the timelock does after its delay."""
        self.parameters.set(
            [key_of(name) for name in values], list(values.values()), sender=self.timelock.address
        )


def key_of(name: str) -> bytes:
    """Key of a parameter."""
    from eth_utils.crypto import keccak

    return bytes(keccak(text=name))


def build(*, stable: Contract | None = None, time_divisor: int = 1) -> House:
    """Deploy the house; a token of one's own can stand for the stablecoin."""
    money = stable or deploy("TestStable", CHAIN_ID)
    timelock = deploy("Timelock", OWNER_DELAY_S // time_divisor, account("governor"))
    parameters = deploy("Parameters", timelock, account("guardian"), time_divisor)
    payees = [account(f"payee of {bucket}") for bucket in BUCKETS]
    treasury = deploy("Treasury", money, parameters, payees)
    registry = deploy("NodeRegistry", parameters)
    escrow = deploy("Escrow", money, parameters, treasury, account("settler"))
    treasury.connect(escrow, sender=account("deployer"))
    escrow.connect(account("distributor"), sender=account("deployer"))
    return House(money, timelock, parameters, treasury, registry, escrow)


def through_timelock(house: House, target: Contract, name: str, *arguments: Any) -> None:
    """Have the governor schedule a call, wait, and let anybody carry it out."""
    data = target.function(name, len(arguments)).data(*arguments)
    zero, salt = bytes(32), now_s().to_bytes(32, "big")
    house.timelock.schedule(target, 0, data, zero, salt, OWNER_DELAY_S, sender=account("governor"))
    pass_time(OWNER_DELAY_S)
    house.timelock.execute(target, 0, data, zero, salt, sender=account("anybody"))


def split(amount: int, bps: Sequence[int]) -> list[int]:
    """Reference for the treasury's split: shares rounded down, the rest to insurance."""
    shares = [amount * one // 10_000 for one in bps]
    shares[0] += amount - sum(shares)
    return shares
