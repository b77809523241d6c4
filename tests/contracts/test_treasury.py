"""The treasury: a take is split to the unit, and only payees pay out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.contracts.gas import check_gas
from tests.contracts.house import BUCKETS, House, build, split
from tests.contracts.machine import Machine, examples, run_machine
from tests.contracts.odd_tokens import ODD, SILENT
from tests.contracts.world import (
    EURO_MICRO,
    ZERO,
    account,
    deploy,
    deploy_text,
    isolated,
    refused,
    transaction,
)

FIRST_BPS = (2_500, 1_500, 2_000, 1_500, 2_000, 500)


def payee(bucket: int) -> str:
    return account(f"payee of {BUCKETS[bucket]}")


def take(house: House, epoch: int, amount: int) -> None:
    """What the escrow does when it releases a pot."""
    house.stable.faucet(house.escrow, amount)
    house.stable.approve(house.treasury, amount, sender=house.escrow.address)
    house.treasury.receive_take(epoch, amount, sender=house.escrow.address)


def balances(house: House) -> list[int]:
    return [house.treasury.balance_of(bucket) for bucket in range(6)]


def test_split_is_what_the_parameters_say_and_loses_nothing():
    house = build()
    take(house, 1, 1_000_003)
    assert balances(house) == split(1_000_003, FIRST_BPS)
    assert house.treasury.balance_of(0) == 250_003
    assert sum(balances(house)) == house.euro_of(house.treasury) == 1_000_003
    event = house.treasury.events("TakeReceived")[0].values
    assert list(event["shares_micro"]) == balances(house)
    assert event["epoch"] == 1
    house.set(insurance_bps=1_500, treasury_bps=2_500)
    take(house, 2, 10_000)
    assert house.treasury.balance_of(0) == 251_503
    assert house.treasury.received_micro() == house.treasury.total_micro() == 1_010_003


def test_any_take_is_split_exactly():
    house = build()

    @examples(20)
    @given(amount=st.integers(1, 10**12), step=st.integers(0, 1_000))
    def check(amount: int, step: int) -> None:
        with isolated():
            house.set(insurance_bps=2_500 - step, treasury_bps=1_500 + step)
            take(house, 1, amount)
            assert balances(house) == split(amount, house.parameters.split_bps())
            assert sum(balances(house)) == amount

    check()


def test_figures_stay_in_their_places():
    house = build(stable=deploy_text("Odd", ODD))
    with refused("more money than there is"):
        take(house, 1, 2**64)
    most = 2**64 - 1
    take(house, 1, most)
    assert balances(house) == split(most, FIRST_BPS)
    assert house.treasury.received_micro() == house.treasury.total_micro() == most
    with refused("more money than there is"):
        take(house, 2, 1)
    for bucket, amount in enumerate(balances(house)):
        house.treasury.withdraw(bucket, account("x"), amount, sender=payee(bucket))
        assert balances(house)[: bucket + 1] == [0] * (bucket + 1)
    assert house.treasury.total_micro() == 0
    with refused("no such bucket"):
        house.treasury.balance_of(6)


def test_takes_come_from_the_escrow_only():
    house = build()
    house.give("attacker", 100, house.treasury)
    with refused("not the escrow"):
        house.treasury.receive_take(1, 100, sender=account("attacker"))
    with refused("zero amount"):
        house.treasury.receive_take(1, 0, sender=house.escrow.address)


def test_a_bucket_is_its_payees_alone():
    house = build()
    take(house, 1, 1_000_000)
    for bucket in range(6):
        for other in (*range(6), "governor", "guardian", "deployer", "settler"):
            who = payee(other) if isinstance(other, int) else account(other)
            if other != bucket:
                with refused("not the payee"):
                    house.treasury.withdraw(bucket, who, 1, sender=who)
                with refused("not the payee"):
                    house.treasury.offer(bucket, who, sender=who)
        amount = house.treasury.balance_of(bucket)
        with refused("amount"):
            house.treasury.withdraw(bucket, account("x"), amount + 1, sender=payee(bucket))
        with refused("amount"):
            house.treasury.withdraw(bucket, account("x"), 0, sender=payee(bucket))
        for nowhere in (ZERO, house.treasury):
            with refused("receiver"):
                house.treasury.withdraw(bucket, nowhere, 1, sender=payee(bucket))
        house.treasury.withdraw(bucket, account("x"), amount, sender=payee(bucket))
    assert house.euro_of("x") == 1_000_000
    with refused():
        house.treasury.withdraw(6, account("x"), 1, sender=payee(0))


def test_a_payee_names_its_successor_who_must_agree():
    house = build()
    take(house, 1, 1_000_000)
    with refused("not offered"):
        house.treasury.accept(4, sender=account("successor"))
    house.treasury.offer(4, account("successor"), sender=payee(4))
    house.treasury.withdraw(4, account("x"), 1, sender=payee(4))
    with refused("not offered"):
        house.treasury.accept(3, sender=account("successor"))
    house.treasury.accept(4, sender=account("successor"))
    with refused("not the payee"):
        house.treasury.withdraw(4, account("x"), 1, sender=payee(4))
    house.treasury.withdraw(4, account("x"), 1, sender=account("successor"))
    with refused("not offered"):
        house.treasury.accept(4, sender=account("successor"))
    house.treasury.offer(4, account("second"), sender=account("successor"))
    house.treasury.offer(4, ZERO, sender=account("successor"))
    with refused("not offered"):
        house.treasury.accept(4, sender=account("second"))


def test_plain_transfers_are_insurances():
    house = build()
    take(house, 1, 10_000)
    before = balances(house)
    house.stable.faucet(house.treasury, 77)
    house.treasury.absorb()
    house.treasury.absorb()
    before[0] += 77
    assert balances(house) == before
    assert house.treasury.received_micro() == 10_077


def test_other_tokens_go_out_and_the_stablecoin_does_not():
    house = build()
    take(house, 1, 10_000)
    token = deploy("Token", [house.treasury], [50])
    with refused("not the payee"):
        house.treasury.withdraw_other(token, account("x"), 50, sender=payee(1))
    with refused("the stablecoin"):
        house.treasury.withdraw_other(house.stable, account("x"), 1, sender=payee(0))
    house.treasury.withdraw_other(token, account("x"), 50, sender=payee(0))
    assert token.balanceOf(account("x")) == 50


def test_connect_and_construction():
    house = build()
    with refused("connected"):
        house.treasury.connect(account("x"), sender=account("deployer"))
    payees = [payee(bucket) for bucket in range(6)]
    fresh = deploy("Treasury", house.stable, house.parameters, payees)
    with refused("not the deployer"):
        fresh.connect(account("x"), sender=account("attacker"))
    with refused("zero address"):
        fresh.connect(ZERO, sender=account("deployer"))
    with refused("zero address"):
        deploy("Treasury", house.stable, house.parameters, [*payees[:5], ZERO])
    with refused("zero address"):
        deploy("Treasury", ZERO, house.parameters, payees)
    with refused("not the escrow"):
        fresh.receive_take(1, 1, sender=account("x"))


def test_odd_tokens():
    token = deploy_text("Odd", ODD)
    house = build(stable=token)
    escrow, treasury = house.escrow, house.treasury
    token.faucet(escrow, 10_000)
    token.approve(treasury, 2**256 - 1, sender=escrow.address)
    for behaviour in ((1, False, False), (0, True, False), (0, False, True)):
        token.behave(*behaviour)
        with refused("transfer"):
            treasury.receive_take(1, 10_000, sender=escrow.address)
    token.behave(0, False, False)
    treasury.receive_take(1, 10_000, sender=escrow.address)
    token.behave(0, True, True)
    with refused("transfer"):
        treasury.withdraw(1, account("x"), 1, sender=payee(1))
    silent = build(stable=deploy_text("Silent", SILENT))
    take(silent, 1, 10_000)
    silent.treasury.withdraw(1, account("x"), 1_500, sender=payee(1))
    assert silent.euro_of("x") == 1_500


def test_no_function_can_be_entered_during_a_transfer():
    token = deploy_text("Odd", ODD)
    house = build(stable=token)
    treasury = house.treasury
    take(house, 1, 10_000)
    treasury.offer(1, token, sender=payee(1))
    token.act(treasury, treasury.function("accept", 1).data(1))
    pay = treasury.function("withdraw", 3).data(1, token.address, 500)
    for name, arguments in (
        ("withdraw", (1, token.address, 500)),
        ("absorb", ()),
        ("balance_of", (1,)),
        ("total_micro", ()),
        ("received_micro", ()),
    ):
        token.set_hook(treasury, treasury.function(name, len(arguments)).data(*arguments))
        token.act(treasury, pay)
        assert token.hook_done(), name
        assert not token.hook_accepted(), f"{name} was entered during a withdrawal"
        take(house, 1, 10_000)
    assert token.balanceOf(treasury) == treasury.total_micro()


class TreasuryMachine(Machine):
    """Takes, gifts and withdrawals against a list."""

    def __init__(self) -> None:
        super().__init__()
        self.house = build()
        self.held = [0] * 6
        self.bps = list(FIRST_BPS)
        self.epoch = 0

    buckets = st.integers(0, 5)

    @rule(amount=st.one_of(st.integers(1, 9), st.integers(1, 10**9)))
    def receive_take(self, amount: int) -> None:
        self.epoch += 1
        take(self.house, self.epoch, amount)
        self.held = [a + b for a, b in zip(self.held, split(amount, self.bps), strict=True)]
        self.done("receive_take")

    @rule(bucket=buckets, caller=buckets, eighths=st.integers(0, 10))
    def withdraw(self, bucket: int, caller: int, eighths: int) -> None:
        caller = bucket if eighths % 2 else caller
        amount = self.held[bucket] * eighths // 8
        allowed = caller == bucket and 0 < amount <= self.held[bucket]
        self.attempt(
            "withdraw",
            allowed,
            lambda: self.house.treasury.withdraw(
                bucket, account("x"), amount, sender=payee(caller)
            ),
        )
        if allowed:
            self.held[bucket] -= amount

    @rule(amount=st.integers(0, 9))
    def gift(self, amount: int) -> None:
        self.house.stable.faucet(self.house.treasury, amount)
        self.house.treasury.absorb()
        self.held[0] += amount
        self.done("gift")

    @rule(giver=buckets, taker=buckets, bps=st.integers(1, 300))
    def change_split(self, giver: int, taker: int, bps: int) -> None:
        names = [f"{bucket}_bps" for bucket in BUCKETS]
        wanted = list(self.bps)
        wanted[giver] -= bps
        wanted[taker] += bps
        low = (1_500, 500, 500, 500, 0, 0)
        high = (6_000, 4_000, 4_000, 4_000, 4_000, 2_000)
        allowed = (
            all(a <= b <= c for a, b, c in zip(low, wanted, high, strict=True))
            and 1_000 + 10_000 - wanted[1] < 10_000
        )
        values = dict(zip(names, wanted, strict=True))
        self.attempt("change_split", allowed, lambda: self.house.set(**values))
        if allowed:
            self.bps = wanted

    @invariant()
    def conserves(self) -> None:
        assert balances(self.house) == self.held
        assert self.house.euro_of(self.house.treasury) == sum(self.held)


def test_treasury_against_a_model():
    run_machine(TreasuryMachine, runs=5, steps=20)


@pytest.mark.usefixtures("gas_chain")
def test_gas():
    house, measured = build(), {}
    for epoch, name in ((1, "first take"), (2, "take")):
        house.stable.faucet(house.escrow, 100 * EURO_MICRO)
        house.stable.approve(house.treasury, 100 * EURO_MICRO, sender=house.escrow.address)
        transaction()
        house.treasury.receive_take(epoch, 100 * EURO_MICRO, sender=house.escrow.address)
        measured[name] = house.treasury.gas_used()
    transaction()
    house.treasury.withdraw(1, account("x"), EURO_MICRO, sender=payee(1))
    measured["withdrawal"] = house.treasury.gas_used()
    check_gas("Treasury", measured, {})
