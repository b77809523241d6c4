"""Vesting: nothing before the cliff, in proportion after it, all at the end, and nobody decides."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.contracts.gas import check_gas
from tests.contracts.machine import Machine, examples, run_machine
from tests.contracts.world import (
    DAY_S,
    START_S,
    TOKEN,
    ZERO,
    Contract,
    account,
    deploy,
    isolated,
    now_s,
    pass_time,
    refused,
    transaction,
)

YEAR_S = 365 * DAY_S
# beneficiary, amount, start, cliff, duration
SCHEDULES = (
    ("founder", 400 * TOKEN, START_S, YEAR_S, 4 * YEAR_S),
    ("reserve", 600 * TOKEN + 7, START_S + DAY_S, 0, 5 * YEAR_S),
    ("at once", 1, START_S - 10 * DAY_S, DAY_S, DAY_S),
)
Schedule = tuple[str, int, int, int, int]


def vesting(schedules: tuple[Schedule, ...] = SCHEDULES) -> Contract:
    columns = [list(column) for column in zip(*schedules, strict=True)]
    return deploy("Vesting", [account(role) for role in columns[0]], *columns[1:])


def connected(schedules: tuple[Schedule, ...] = SCHEDULES) -> tuple[Contract, Contract]:
    made = vesting(schedules)
    token = deploy("Token", [made], [sum(one[1] for one in schedules)])
    made.connect(token, sender=account("deployer"))
    return made, token


def expected(schedule: Schedule, at_s: int) -> int:
    _, amount, start, cliff, duration = schedule
    if at_s < start + cliff:
        return 0
    return int(min(Fraction(1), Fraction(at_s - start, duration)) * amount)


def test_a_schedule_is_public_and_its_constructor_strict():
    made, token = connected()
    assert made.count() == 3
    assert made.TOTAL() == token.balanceOf(made) == 1_000 * TOKEN + 8
    assert made.schedules(0) == (
        account("founder").lower(), 400 * TOKEN, START_S, YEAR_S, 4 * YEAR_S, 0
    )  # fmt: skip
    good = SCHEDULES[0]
    for words, place, bad in (
        ("zero amount", 1, 0),
        ("start", 2, START_S * 1_000),
        ("start", 2, 0),
        ("cliff", 3, 4 * YEAR_S + 1),
        ("duration", 4, 0),
        ("duration", 4, 11 * YEAR_S),
    ):
        with refused(words):
            vesting(((*good[:place], bad, *good[place + 1 :]),))
    with refused("zero address"):
        deploy("Vesting", [ZERO], [1], [START_S], [0], [1])
    with refused("no schedules"):
        deploy("Vesting", [], [], [], [], [])
    for short in range(4):
        columns = [[1], [START_S], [0], [1]]
        columns[short] = []
        with refused("lengths"):
            deploy("Vesting", [account("founder")], *columns)


@examples(30)
@given(
    amount=st.integers(1, 10**27),
    duration=st.integers(1, 10 * YEAR_S),
    cliff=st.fractions(0, 1),
    at=st.fractions(0, Fraction(12, 10)),
)
def test_vested_is_the_exact_proportion(amount: int, duration: int, cliff: Fraction, at: Fraction):
    with isolated():
        schedule = ("founder", amount, START_S, int(cliff * duration), duration)
        made = vesting((schedule,))
        for at_s in (START_S + int(at * duration), START_S - 1, START_S + duration):
            assert made.vested(0, at_s) == expected(schedule, at_s)


def test_connect_wants_exactly_the_sum_and_only_once():
    made = vesting()
    total = made.TOTAL()
    for amount in (total - 1, total + 1):
        with refused("not the sum"):
            made.connect(deploy("Token", [made], [amount]), sender=account("deployer"))
    token = deploy("Token", [made], [total])
    with refused("not connected"):
        made.claim(2)
    with refused("not the deployer"):
        made.connect(token, sender=account("attacker"))
    made.connect(token, sender=account("deployer"))
    with refused("connected"):
        made.connect(deploy("Token", [made], [total]), sender=account("deployer"))


def test_claims_pay_the_beneficiary_whoever_calls():
    made, token = connected()
    with refused("nothing to claim"):
        made.claim(0, sender=account("founder"))
    pass_time(YEAR_S)
    made.claim(0, sender=account("anybody"))
    assert token.balanceOf(account("founder")) == 100 * TOKEN
    with refused("nothing to claim"):
        made.claim(0, sender=account("founder"))
    with refused():
        made.claim(3)
    pass_time(9 * YEAR_S)
    for number in range(3):
        made.claim(number)
    assert token.balanceOf(made) == 0
    assert token.balanceOf(account("reserve")) == 600 * TOKEN + 7


def test_a_schedule_is_passed_on_by_agreement_of_both():
    made, token = connected()
    for other in ("deployer", "attacker", "reserve"):
        with refused("not the beneficiary"):
            made.offer(0, account(other), sender=account(other))
    with refused("not offered"):
        made.accept(0, sender=account("heir"))
    made.offer(0, account("heir"), sender=account("founder"))
    with refused("not offered"):
        made.accept(1, sender=account("heir"))
    made.accept(0, sender=account("heir"))
    with refused("not offered"):
        made.accept(0, sender=account("heir"))
    with refused("not the beneficiary"):
        made.offer(0, account("founder"), sender=account("founder"))
    pass_time(2 * YEAR_S)
    made.claim(0)
    assert token.balanceOf(account("heir")) == 200 * TOKEN


class VestingMachine(Machine):
    """Claims over years against exact fractions."""

    def __init__(self) -> None:
        super().__init__()
        self.vesting, self.token = connected()
        self.claimed = [0] * len(SCHEDULES)

    @rule(number=st.integers(0, 2))
    def claim(self, number: int) -> None:
        due = expected(SCHEDULES[number], now_s()) - self.claimed[number]
        self.attempt("claim", due > 0, lambda: self.vesting.claim(number))
        self.claimed[number] += due

    @rule(days=st.integers(1, 400))
    def wait(self, days: int) -> None:
        pass_time(days * DAY_S)
        self.done("wait")

    @invariant()
    def conserves(self) -> None:
        for number, schedule in enumerate(SCHEDULES):
            assert self.token.balanceOf(account(schedule[0])) == self.claimed[number]
            assert self.vesting.claimable(number) == (
                expected(schedule, now_s()) - self.claimed[number]
            )
        assert self.token.balanceOf(self.vesting) == self.vesting.TOTAL() - sum(self.claimed)


def test_vesting_against_a_model():
    run_machine(VestingMachine, runs=4, steps=20)


@pytest.mark.usefixtures("gas_chain")
def test_gas():
    (made, _), measured = connected(), {}
    for name in ("first claim", "claim"):
        pass_time(2 * YEAR_S)
        transaction()
        made.claim(0)
        measured[name] = made.gas_used()
    check_gas("Vesting", measured, {})
