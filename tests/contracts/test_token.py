"""The token: everything is minted once, what is burnt is gone, and permits work once."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.contracts.gas import check_gas
from tests.contracts.machine import Machine, run_machine
from tests.contracts.world import (
    CHAIN_ID,
    DAY_S,
    TOKEN,
    ZERO,
    account,
    account_key,
    artifact,
    deploy,
    now_s,
    refused,
    transaction,
)

HOLDERS = ("treasury", "provider", "staker")
ACTORS = (*HOLDERS, "attacker")
SUPPLY = (600 * TOKEN, 300 * TOKEN, 100 * TOKEN)


def token():
    return deploy("Token", [account(role) for role in HOLDERS], list(SUPPLY))


def test_genesis_mints_everything_and_nothing_else():
    made = token()
    assert [made.balanceOf(account(role)) for role in HOLDERS] == list(SUPPLY)
    assert made.totalSupply() == made.GENESIS_SUPPLY() == sum(SUPPLY)
    assert (made.name(), made.symbol(), made.decimals()) == ("Atoll", "ATOLL", 18)


def test_one_account_may_be_named_twice():
    made = deploy("Token", [account("provider")] * 2, [3, 4])
    assert made.balanceOf(account("provider")) == made.GENESIS_SUPPLY() == 7


def test_constructor_refuses_what_does_not_add_up():
    for words, holders, amounts in (
        ("lengths", [account("a"), account("b")], [1]),
        ("lengths", [account("a")], [1, 2]),
        ("no holders", [], []),
        ("zero address", [ZERO], [1]),
        ("zero amount", [account("a")], [0]),
    ):
        with refused(words):
            deploy("Token", holders, amounts)
    with refused():
        deploy("Token", [account("a"), account("b")], [2**256 - 1, 1])


def test_nobody_can_mint_or_own():
    # There is no function for it, and the module's own state says nobody could use one.
    functions = {entry["name"] for entry in artifact("Token").abi if entry["type"] == "function"}
    assert functions == {
        "DOMAIN_SEPARATOR", "GENESIS_SUPPLY", "allowance", "approve", "balanceOf", "burn",
        "burn_from", "decimals", "eip712Domain", "name", "nonces", "permit", "symbol",
        "totalSupply", "transfer", "transferFrom",
    }  # fmt: skip
    made = token()
    roles = [(event.name, event.values) for event in made.events() if event.name != "Transfer"]
    deployer = account("deployer").lower()
    assert roles[-1] == (
        "OwnershipTransferred",
        {"previous_owner": deployer, "new_owner": ZERO},
    )


def test_minter_role_is_given_up():
    from tests.contracts.world import environment

    made = token()
    deployer = bytes.fromhex(account("deployer")[2:]).rjust(32, b"\0")
    from eth_utils.crypto import keccak

    # Slots of the module's maps are few; none may hold a true for the deployer.
    held = [
        environment().get_storage(
            made.address, int.from_bytes(keccak(slot.to_bytes(32, "big") + deployer), "big")
        )
        for slot in range(16)
    ]
    assert not any(held)


def test_permit_works_once_until_its_deadline():
    from tests.contracts.permit import domain, sign_permit

    made, owner = token(), account_key("provider")
    separator = domain("Atoll", "1", CHAIN_ID, made.address)
    assert made.DOMAIN_SEPARATOR() == separator
    deadline = now_s() + DAY_S
    spender = account("staker")
    good = sign_permit(owner, separator, spender, 5 * TOKEN, 0, deadline)
    with refused("invalid signature"):
        made.permit(account("provider"), account("attacker"), 5 * TOKEN, deadline, *good)
    with refused("invalid signature"):
        made.permit(account("provider"), spender, 6 * TOKEN, deadline, *good)
    with refused("expired"):
        made.permit(account("provider"), spender, 5 * TOKEN, now_s() - 1, *good)
    made.permit(account("provider"), spender, 5 * TOKEN, deadline, *good)
    assert made.allowance(account("provider"), spender) == 5 * TOKEN
    with refused("invalid signature"):
        made.permit(account("provider"), spender, 5 * TOKEN, deadline, *good)


def test_permit_of_another_contract_or_chain_is_refused():
    from tests.contracts.permit import domain, sign_permit

    made, deadline = token(), now_s() + DAY_S
    for separator in (
        domain("Atoll", "1", CHAIN_ID + 1, made.address),
        domain("Atoll", "1", CHAIN_ID, account("attacker")),
    ):
        signature = sign_permit(
            account_key("provider"), separator, account("attacker"), TOKEN, 0, deadline
        )
        with refused("invalid signature"):
            made.permit(account("provider"), account("attacker"), TOKEN, deadline, *signature)


class TokenMachine(Machine):
    """Transfers, allowances and burning against plain dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.token = token()
        self.balances = dict(zip(HOLDERS, SUPPLY, strict=True)) | {"attacker": 0}
        self.allowances: dict[tuple[str, str], int] = {}
        self.burnt = 0

    amounts = st.one_of(
        st.integers(0, 3), st.integers(1, 400).map(lambda n: n * TOKEN), st.just(2**256 - 1)
    )
    actors = st.sampled_from(ACTORS)

    @rule(giver=actors, taker=actors, amount=amounts)
    def transfer(self, giver: str, taker: str, amount: int) -> None:
        allowed = amount <= self.balances[giver]
        self.attempt(
            "transfer",
            allowed,
            lambda: self.token.transfer(account(taker), amount, sender=account(giver)),
        )
        if allowed:
            self.balances[giver] -= amount
            self.balances[taker] += amount

    @rule(owner=actors, spender=actors, amount=amounts)
    def approve(self, owner: str, spender: str, amount: int) -> None:
        self.attempt(
            "approve",
            True,
            lambda: self.token.approve(account(spender), amount, sender=account(owner)),
        )
        self.allowances[owner, spender] = amount

    def _spend(self, owner: str, spender: str, amount: int) -> bool:
        have = self.allowances.get((owner, spender), 0)
        if amount > have or amount > self.balances[owner]:
            return False
        if have != 2**256 - 1:
            self.allowances[owner, spender] = have - amount
        self.balances[owner] -= amount
        return True

    @rule(owner=actors, spender=actors, taker=actors, amount=amounts, asked=st.booleans())
    def transfer_from(self, owner: str, spender: str, taker: str, amount: int, asked: bool) -> None:
        if asked:
            # Chance alone seldom draws an approval and what it is for.
            self.approve(owner=owner, spender=spender, amount=amount)
        allowed = self._spend(owner, spender, amount)
        self.attempt(
            "transfer_from",
            allowed,
            lambda: self.token.transferFrom(
                account(owner), account(taker), amount, sender=account(spender)
            ),
        )
        if allowed:
            self.balances[taker] += amount

    @rule(owner=actors, amount=amounts)
    def burn(self, owner: str, amount: int) -> None:
        allowed = amount <= self.balances[owner]
        self.attempt("burn", allowed, lambda: self.token.burn(amount, sender=account(owner)))
        if allowed:
            self.balances[owner] -= amount
            self.burnt += amount

    @rule(owner=actors, spender=actors, amount=amounts, asked=st.booleans())
    def burn_from(self, owner: str, spender: str, amount: int, asked: bool) -> None:
        if asked:
            self.approve(owner=owner, spender=spender, amount=amount)
        allowed = self._spend(owner, spender, amount)
        self.attempt(
            "burn_from",
            allowed,
            lambda: self.token.burn_from(account(owner), amount, sender=account(spender)),
        )
        if allowed:
            self.burnt += amount

    @invariant()
    def conserves(self) -> None:
        for role, balance in self.balances.items():
            assert self.token.balanceOf(account(role)) == balance
        assert self.token.totalSupply() == sum(self.balances.values())
        assert self.token.totalSupply() + self.burnt == self.token.GENESIS_SUPPLY() == sum(SUPPLY)


def test_token_against_a_model():
    run_machine(TokenMachine, runs=6, steps=25)


@pytest.mark.usefixtures("gas_chain")
def test_gas():
    made, measured = token(), {}
    transaction()
    made.transfer(account("attacker"), TOKEN, sender=account("provider"))
    measured["transfer to a new account"] = made.gas_used()
    transaction()
    made.transfer(account("attacker"), TOKEN, sender=account("provider"))
    measured["transfer"] = made.gas_used()
    transaction()
    made.approve(account("staker"), TOKEN, sender=account("provider"))
    measured["approve"] = made.gas_used()
    transaction()
    made.burn(TOKEN, sender=account("provider"))
    measured["burn"] = made.gas_used()
    check_gas("Token", measured, {"transfer": 36_000, "transfer to a new account": 53_000})
