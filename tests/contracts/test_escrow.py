"""The escrow: customers' money leaves by their notice or by a draw, and is never lost."""

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.contracts.gas import check_gas
from tests.contracts.house import House, build, through_timelock
from tests.contracts.machine import Machine, run_machine
from tests.contracts.odd_tokens import ODD, SILENT
from tests.contracts.world import (
    DAY_S,
    EURO_MICRO,
    ZERO,
    Contract,
    account,
    deploy,
    deploy_text,
    now_s,
    pass_time,
    refused,
    transaction,
)

CUSTOMERS = ("photographer", "hospital", "archive")
SETTLER = account("settler")
SALT = b"\x07" * 32
LOCK_S, DRAW_LOCK_S, EXPIRY_S, INTERVAL_S = 3 * DAY_S, 6 * 3600, 30 * DAY_S, 3600
TAKE_BPS = 1_200
EURO = EURO_MICRO


def id_of(house: House, role: str) -> bytes:
    return house.escrow.customer_of(account(role), SALT)


def prepaid(house: House, role: str = "photographer", euro: int = 100) -> bytes:
    customer = id_of(house, role)
    house.give(role, euro * EURO, house.escrow)
    house.escrow.deposit(customer, euro * EURO, sender=account(role))
    return customer


def draw(house: House, epoch: int, customer: bytes, euro: int) -> None:
    house.escrow.draw(epoch, [customer], [euro * EURO], sender=SETTLER)


# What it does


def test_customer_is_named_by_owner_and_salt():
    house = build()
    ids = {
        bytes(house.escrow.customer_of(account(role), salt))
        for role in CUSTOMERS
        for salt in (SALT, b"\1" * 32)
    }
    assert len(ids) == 6


def test_anybody_may_prepay_for_a_customer_and_only_its_owner_takes_it_out():
    house = build()
    customer = id_of(house, "photographer")
    house.give("bank", 50 * EURO, house.escrow)
    house.escrow.deposit(customer, 50 * EURO, sender=account("bank"))
    for role in ("bank", "settler", "deployer", "attacker"):
        with refused("amount"):
            house.escrow.give_notice(SALT, 1, sender=account(role))
        with refused("no notice"):
            house.escrow.withdraw(SALT, account(role), sender=account(role))
    house.escrow.give_notice(SALT, 50 * EURO, sender=account("photographer"))
    with refused("locked"):
        house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    pass_time(LOCK_S - 1)
    with refused("locked"):
        house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    pass_time(1)
    house.escrow.withdraw(SALT, account("elsewhere"), sender=account("photographer"))
    assert house.euro_of("elsewhere") == 50 * EURO
    with refused("no notice"):
        house.escrow.withdraw(SALT, account("elsewhere"), sender=account("photographer"))


def test_released_pot_goes_to_distributor_and_treasury():
    house = build()
    customer = prepaid(house)
    draw(house, 1, customer, 40)
    with refused("locked"):
        house.escrow.release(1, 4_800_000, sender=SETTLER)
    pass_time(DRAW_LOCK_S)
    with refused("not the settler"):
        house.escrow.release(1, 0, sender=account("attacker"))
    house.escrow.release(1, 4_800_000, sender=SETTLER)
    assert house.euro_of("distributor") == 35_200_000
    assert house.euro_of(house.treasury) == house.treasury.received_micro() == 4_800_000
    assert house.escrow.balance_of(customer) == 60 * EURO
    with refused("closed"):
        house.escrow.release(1, 0, sender=SETTLER)
    with refused("closed"):
        draw(house, 1, customer, 1)
    with refused("closed"):
        house.escrow.refund(1, [customer], [1], sender=SETTLER)
    with refused("not to be reclaimed"):
        house.escrow.reclaim(1, [customer])


def test_what_was_given_back_is_not_released():
    house = build()
    customer, other = prepaid(house), prepaid(house, "hospital")
    draw(house, 1, customer, 40)
    house.escrow.refund(1, [customer], [15 * EURO], sender=SETTLER)
    assert house.escrow.drawn_of(1, customer) == house.escrow.pots(1)[0] == 25 * EURO
    pass_time(DRAW_LOCK_S)
    house.escrow.release(1, 3 * EURO, sender=SETTLER)
    assert house.euro_of("distributor") == 22 * EURO
    assert house.escrow.balance_of(customer) == 75 * EURO
    assert house.escrow.balance_of(other) == 100 * EURO
    assert house.euro_of(house.escrow) == 175 * EURO


def test_take_is_at_most_its_share_rounded_up():
    house = build()
    customer = prepaid(house)
    house.escrow.draw(1, [customer], [1_000_001], sender=SETTLER)
    pass_time(DRAW_LOCK_S)
    with refused("take"):
        house.escrow.release(1, 120_002, sender=SETTLER)
    house.escrow.release(1, 120_001, sender=SETTLER)


def test_take_is_that_of_the_day_the_pot_was_opened():
    house = build()
    customer = prepaid(house)
    draw(house, 1, customer, 50)
    house.set(take_bps=1_300)
    pass_time(DRAW_LOCK_S)
    with refused("take"):
        house.escrow.release(1, 6_500_000, sender=SETTLER)
    house.escrow.release(1, 6_000_000, sender=SETTLER)


# Attacks


def test_a_draw_is_not_made_twice_even_after_a_refund():
    house = build()
    customer = prepaid(house)
    draw(house, 1, customer, 10)
    with refused("drawn already"):
        draw(house, 1, customer, 10)
    house.escrow.refund(1, [customer], [10 * EURO], sender=SETTLER)
    with refused("drawn already"):
        draw(house, 1, customer, 10)
    with refused("amount"):
        house.escrow.refund(1, [customer], [1], sender=SETTLER)
    with refused("drawn already"):
        other = prepaid(house, "hospital")
        house.escrow.draw(1, [other, other], [EURO, EURO], sender=SETTLER)


def test_a_settlers_key_in_wrong_hands_is_bounded_by_caps_and_time():
    house = build()
    customer = prepaid(house, euro=1_000)
    house.set(draw_epoch_max_micro=100 * EURO)
    with refused("cap"):
        draw(house, 1, customer, 101)
    draw(house, 1, customer, 100)
    other = prepaid(house, "hospital")
    with refused("cap"):
        house.escrow.draw(1, [other], [1], sender=SETTLER)
    # A cap of an epoch is one of time: epochs are not opened at will, nor again.
    for epoch in (2, 10**9):
        with refused("too soon"):
            draw(house, epoch, customer, 100)
    pass_time(INTERVAL_S)
    with refused("epoch"):
        draw(house, 0, customer, 100)
    # The guardian rejects before the lock is over; all is the customer's again, by anybody's call.
    with refused("not the guardian"):
        house.escrow.reject(1, sender=account("attacker"))
    house.escrow.reject(1, sender=account("guardian"))
    pass_time(DRAW_LOCK_S)
    with refused("closed"):
        house.escrow.release(1, 0, sender=SETTLER)
    house.escrow.reclaim(1, [customer], sender=account("anybody"))
    house.escrow.reclaim(1, [customer], sender=account("anybody"))
    assert house.escrow.balance_of(customer) == 1_000 * EURO
    assert house.escrow.pots_micro() == 0
    # And the timelock names another settler, nobody else does.
    with refused("not the owner"):
        house.escrow.set_settler(account("attacker"), sender=account("governor"))
    through_timelock(house, house.escrow, "set_settler", account("new settler"))
    with refused("not the settler"):
        draw(house, 2, customer, 1)
    house.escrow.draw(2, [customer], [EURO], sender=account("new settler"))


def test_notice_does_not_dodge_charges():
    house = build()
    customer = prepaid(house)
    house.escrow.give_notice(SALT, 100 * EURO, sender=account("photographer"))
    pass_time(LOCK_S)
    draw(house, 1, customer, 30)
    house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    assert house.euro_of("photographer") == 70 * EURO


def test_an_old_notice_does_not_carry_new_money_out_at_once():
    house = build()
    prepaid(house, euro=1)
    house.escrow.give_notice(SALT, 1 * EURO, sender=account("photographer"))
    pass_time(LOCK_S)
    prepaid(house, euro=99)
    house.escrow.give_notice(SALT, 100 * EURO, sender=account("photographer"))
    with refused("locked"):
        house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    # Lowering it starts nothing anew.
    pass_time(LOCK_S - 5)
    house.escrow.give_notice(SALT, 50 * EURO, sender=account("photographer"))
    pass_time(5)
    house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))


def test_settlement_that_stops_loses_nobodys_money():
    house = build()
    customer = prepaid(house)
    draw(house, 1, customer, 60)
    pass_time(EXPIRY_S - 1)
    with refused("not to be reclaimed"):
        house.escrow.reclaim(1, [customer])
    pass_time(1)
    with refused("expired"):
        house.escrow.release(1, 0, sender=SETTLER)
    with refused("expired"):
        house.escrow.draw(1, [prepaid(house, "hospital")], [EURO], sender=SETTLER)
    house.escrow.reclaim(1, [customer])
    assert house.escrow.balance_of(customer) == 100 * EURO


def test_each_draw_starts_the_lock_anew():
    house = build()
    first, second = prepaid(house), prepaid(house, "hospital")
    draw(house, 1, first, 1)
    pass_time(DRAW_LOCK_S - 1)
    draw(house, 1, second, 1)
    pass_time(DRAW_LOCK_S - 1)
    with refused("locked"):
        house.escrow.release(1, 0, sender=SETTLER)


def test_pause_stops_entries_and_no_exit():
    house = build()
    customer = prepaid(house)
    second = prepaid(house, "hospital")
    draw(house, 1, customer, 30)
    pass_time(INTERVAL_S)
    draw(house, 2, second, 30)
    pass_time(INTERVAL_S)
    draw(house, 3, customer, 30)
    house.escrow.give_notice(SALT, 10 * EURO, sender=account("photographer"))
    pass_time(LOCK_S)
    house.parameters.pause(sender=account("guardian"))
    house.give("hospital", 10 * EURO, house.escrow)
    with refused("paused"):
        house.escrow.deposit(second, EURO, sender=account("hospital"))
    with refused("paused"):
        draw(house, 3, second, 1)
    house.escrow.refund(1, [customer], [EURO], sender=SETTLER)
    house.escrow.release(1, 0, sender=SETTLER)
    house.escrow.reject(3, sender=account("guardian"))
    house.escrow.reclaim(3, [customer])
    house.escrow.give_notice(SALT, 11 * EURO, sender=account("photographer"))
    house.escrow.give_notice(SALT, 10 * EURO, sender=account("photographer"))
    pass_time(LOCK_S)
    assert house.parameters.paused()
    house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    assert house.euro_of("photographer") == 10 * EURO


def test_connect_is_done_once_by_the_deployer():
    house = build()
    with refused("connected"):
        house.escrow.connect(account("attacker"), sender=account("deployer"))
    fresh = deploy("Escrow", house.stable, house.parameters, house.treasury, SETTLER)
    with refused("not the deployer"):
        fresh.connect(account("attacker"), sender=account("attacker"))
    with refused("zero address"):
        fresh.connect(ZERO, sender=account("deployer"))
    for place in range(4):
        arguments = [house.stable, house.parameters, house.treasury, SETTLER]
        arguments[place] = ZERO
        with refused("zero address"):
            deploy("Escrow", *arguments)


def test_nothing_is_released_before_the_distributor_is_known():
    house = build()
    fresh = deploy("Escrow", house.stable, house.parameters, house.treasury, SETTLER)
    customer = fresh.customer_of(account("photographer"), SALT)
    house.give("photographer", EURO, fresh)
    fresh.deposit(customer, EURO, sender=account("photographer"))
    fresh.draw(1, [customer], [EURO], sender=SETTLER)
    pass_time(DRAW_LOCK_S)
    with refused("not connected"):
        fresh.release(1, 0, sender=SETTLER)


def test_bad_arguments_are_refused():
    house = build()
    customer = prepaid(house)
    photographer = account("photographer")
    house.give("photographer", EURO, house.escrow)
    for amount in (0, 2**128):
        with refused("amount"):
            house.escrow.deposit(customer, amount, sender=photographer)
    with refused("zero id"):
        house.escrow.deposit(bytes(32), 1, sender=photographer)
    for customers, sums in (([], []), ([customer], []), ([customer], [1, 2])):
        with refused("lengths"):
            house.escrow.draw(1, customers, sums, sender=SETTLER)
        with refused("lengths"):
            house.escrow.refund(1, customers, sums, sender=SETTLER)
    for amount, words in ((0, "amount"), (2**128, "amount"), (101 * EURO, "balance")):
        with refused(words):
            house.escrow.draw(1, [customer], [amount], sender=SETTLER)
    draw(house, 1, customer, 1)
    with refused("amount"):
        house.escrow.refund(1, [customer], [0], sender=SETTLER)
    with refused("not the settler"):
        house.escrow.refund(1, [customer], [1], sender=account("attacker"))
    with refused("not the settler"):
        house.escrow.draw(1, [customer], [1], sender=account("attacker"))
    house.escrow.give_notice(SALT, EURO, sender=photographer)
    pass_time(LOCK_S)
    for receiver in (ZERO, house.escrow):
        with refused("receiver"):
            house.escrow.withdraw(SALT, receiver, sender=photographer)


# Odd tokens and reentrancy


def odd_house() -> tuple[House, Contract]:
    token = deploy_text("Odd", ODD)
    return build(stable=token), token


def test_a_token_that_takes_a_fee_or_moves_nothing_is_refused():
    house, token = odd_house()
    customer = id_of(house, "photographer")
    house.give("photographer", 100 * EURO, house.escrow)
    for fee_bps, answers_false, keeps in ((1, False, False), (0, True, False), (0, False, True)):
        token.behave(fee_bps, answers_false, keeps)
        with refused("transfer"):
            house.escrow.deposit(customer, 10 * EURO, sender=account("photographer"))
    token.behave(0, False, False)
    house.escrow.deposit(customer, 10 * EURO, sender=account("photographer"))
    house.escrow.give_notice(SALT, EURO, sender=account("photographer"))
    pass_time(LOCK_S)
    token.behave(0, True, True)
    with refused("transfer"):
        house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    token.behave(0, False, False)
    house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))


def test_a_token_that_returns_nothing_works():
    house = build(stable=deploy_text("Silent", SILENT))
    customer = prepaid(house)
    house.escrow.give_notice(SALT, 40 * EURO, sender=account("photographer"))
    draw(house, 1, customer, 50)
    pass_time(LOCK_S)
    house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    house.escrow.release(1, 6 * EURO, sender=SETTLER)
    assert house.euro_of("distributor") == 44 * EURO
    assert house.euro_of(house.escrow) == 10 * EURO


def test_no_function_can_be_entered_during_a_transfer():
    house, token = odd_house()
    escrow = house.escrow
    customer = escrow.customer_of(token, SALT)
    token.faucet(token, 100 * EURO)
    token.approve_own(escrow, 2**256 - 1)
    token.act(escrow, escrow.function("deposit", 2).data(customer, 100 * EURO))
    token.act(escrow, escrow.function("give_notice", 2).data(SALT, 60 * EURO))
    pass_time(LOCK_S)
    entries = (
        ("withdraw", (SALT, token)),
        ("give_notice", (SALT, EURO)),
        ("deposit", (customer, EURO)),
        # Reading a balance in the middle is entering, too: others price by what they read.
        ("balance_of", (customer,)),
        ("customers_micro", ()),
        ("pots_micro", ()),
        ("notice_of", (customer,)),
        ("pots", (1,)),
    )
    token.faucet(token, 10 * EURO)
    for name, arguments in entries:
        data = escrow.function(name, len(arguments)).data(*arguments)
        token.set_hook(escrow, data)
        token.act(escrow, escrow.function("deposit", 2).data(customer, EURO))
        assert token.hook_done(), name
        assert not token.hook_accepted(), f"{name} was entered during a deposit"
    token.set_hook(escrow, escrow.function("withdraw", 2).data(SALT, token.address))
    token.act(escrow, escrow.function("withdraw", 2).data(SALT, token.address))
    assert token.hook_done()
    assert not token.hook_accepted()
    assert token.balanceOf(escrow) == escrow.balance_of(customer) == 48 * EURO


# Against a model


@dataclass
class Pot:
    drawn: dict[str, int] = field(default_factory=dict)
    ready_s: int = 0
    expires_s: int = 0
    state: str = "open"


class EscrowMachine(Machine):
    """Every call against a model of plain dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.house = build()
        self.escrow = self.house.escrow
        self.ids = {role: id_of(self.house, role) for role in CUSTOMERS}
        self.balance = dict.fromkeys(CUSTOMERS, 0)
        self.notice: dict[str, tuple[int, int]] = dict.fromkeys(CUSTOMERS, (0, 0))
        self.pots: dict[int, Pot] = {}
        self.opened_s = 0
        self.may_pause = True
        self.deposited = self.withdrawn = self.released = self.take = 0
        for role in CUSTOMERS:
            self.house.give(role, 10**6 * EURO, self.escrow)
            self.deposit(role, 500 * EURO)
        self.accepted_calls["deposit"] -= len(CUSTOMERS)

    roles = st.sampled_from(CUSTOMERS)
    amounts = st.one_of(st.integers(0, 3), st.integers(1, 400).map(lambda n: n * EURO))
    small = st.integers(1, 60 * EURO)
    places = st.integers(0, 2)

    @rule(role=roles, amount=amounts)
    def deposit(self, role: str, amount: int) -> None:
        paused = self.house.parameters.paused()
        allowed = 0 < amount <= self.house.euro_of(role) and not paused
        self.attempt(
            "deposit",
            allowed,
            lambda: self.escrow.deposit(self.ids[role], amount, sender=account(role)),
        )
        if allowed:
            self.balance[role] += amount
            self.deposited += amount

    @rule(role=roles, share=st.integers(0, 9))
    def give_notice(self, role: str, share: int) -> None:
        amount = self.balance[role] * share // 8
        allowed = amount <= self.balance[role]
        self.attempt(
            "give_notice",
            allowed,
            lambda: self.escrow.give_notice(SALT, amount, sender=account(role)),
        )
        if allowed:
            before, ready_s = self.notice[role]
            self.notice[role] = (amount, now_s() + LOCK_S if amount > before else ready_s)

    @rule(role=roles, in_time=st.integers(0, 3).map(lambda n: n > 0))
    def withdraw(self, role: str, in_time: bool) -> None:
        noticed, ready_s = self.notice[role]
        if in_time and noticed:
            pass_time(max(0, ready_s - now_s()))
        amount = min(noticed, self.balance[role])
        allowed = amount > 0 and now_s() >= ready_s
        paid = self.attempt(
            "withdraw",
            allowed,
            lambda: self.escrow.withdraw(SALT, account(role), sender=account(role)),
        )
        if allowed:
            assert paid == amount
            self.balance[role] -= amount
            self.notice[role] = (0, 0)
            self.withdrawn += amount

    @rule(
        charges=st.dictionaries(roles, small, min_size=1, max_size=3),
        again=st.booleans(),
        in_time=st.integers(0, 3).map(lambda n: n > 0),
    )
    def draw(self, charges: dict[str, int], again: bool, in_time: bool) -> None:
        epoch = max(self.pots, default=0) + (not again)
        if in_time and self.opened_s:
            pass_time(max(0, self.opened_s + INTERVAL_S - now_s()))
        pot, fresh = self.pots.get(epoch), epoch not in self.pots
        allowed = not self.house.parameters.paused() and all(
            amount <= self.balance[role] for role, amount in charges.items()
        )
        if fresh:
            allowed &= self.opened_s == 0 or now_s() >= self.opened_s + INTERVAL_S
        else:
            assert pot is not None
            allowed &= pot.state == "open" and now_s() < pot.expires_s
            allowed &= not charges.keys() & pot.drawn.keys()
        self.attempt(
            "draw",
            allowed,
            lambda: self.escrow.draw(
                epoch,
                [self.ids[role] for role in charges],
                list(charges.values()),
                sender=SETTLER,
            ),
        )
        if not allowed:
            return
        if pot is None:
            pot = self.pots[epoch] = Pot(expires_s=now_s() + EXPIRY_S)
            self.opened_s = now_s()
        pot.drawn |= charges
        pot.ready_s = now_s() + DRAW_LOCK_S
        for role, amount in charges.items():
            self.balance[role] -= amount

    def _recent(self, place: int) -> tuple[int, Pot]:
        epoch = max(max(self.pots) - place, min(self.pots))
        return epoch, self.pots[epoch]

    @precondition(lambda self: self.pots)
    @rule(place=places, role=roles, share=st.integers(1, 5))
    def refund(self, place: int, role: str, share: int) -> None:
        epoch, pot = self._recent(place)
        have = pot.drawn.get(role, 0)
        amount = have * share // 4
        allowed = pot.state == "open" and 0 < amount <= have
        self.attempt(
            "refund",
            allowed,
            lambda: self.escrow.refund(epoch, [self.ids[role]], [amount], sender=SETTLER),
        )
        if allowed:
            pot.drawn[role] -= amount
            self.balance[role] += amount

    @precondition(lambda self: self.pots)
    @rule(place=places, seriously=st.integers(0, 3).map(lambda n: n == 0))
    def reject(self, place: int, seriously: bool) -> None:
        epoch, pot = self._recent(place)
        if pot.state == "open" and not seriously:
            return
        allowed = pot.state == "open"
        self.attempt(
            "reject", allowed, lambda: self.escrow.reject(epoch, sender=account("guardian"))
        )
        if allowed:
            pot.state = "rejected"

    @precondition(lambda self: self.pots)
    @rule(place=places, role=roles)
    def reclaim(self, place: int, role: str) -> None:
        epoch, pot = self._recent(place)
        allowed = pot.state == "rejected" or (pot.state == "open" and now_s() >= pot.expires_s)
        self.attempt("reclaim", allowed, lambda: self.escrow.reclaim(epoch, [self.ids[role]]))
        if allowed:
            self.balance[role] += pot.drawn.get(role, 0)
            if role in pot.drawn:
                pot.drawn[role] = 0

    @precondition(lambda self: self.pots)
    @rule(
        place=places,
        share_bps=st.sampled_from([0, 600, TAKE_BPS, TAKE_BPS + 1]),
        in_time=st.integers(0, 3).map(lambda n: n > 0),
    )
    def release(self, place: int, share_bps: int, in_time: bool) -> None:
        epoch, pot = self._recent(place)
        if in_time:
            pass_time(max(0, pot.ready_s - now_s()))
        drawn = sum(pot.drawn.values())
        take = -(-drawn * share_bps // 10_000)
        allowed = (
            pot.state == "open"
            and pot.ready_s <= now_s() < pot.expires_s
            and take <= -(-drawn * TAKE_BPS // 10_000)
        )
        self.attempt("release", allowed, lambda: self.escrow.release(epoch, take, sender=SETTLER))
        if allowed:
            pot.state = "released"
            self.released += drawn - take
            self.take += take

    @rule(seconds=st.sampled_from([INTERVAL_S, DRAW_LOCK_S, DRAW_LOCK_S, LOCK_S, EXPIRY_S]))
    def wait(self, seconds: int) -> None:
        pass_time(seconds)
        self.done("wait")

    @precondition(lambda self: self.may_pause)
    @rule()
    def pause(self) -> None:
        # Not often: almost nothing moves in a pause.
        self.may_pause = False
        until = self.house.parameters.paused_until_s()
        allowed = until == 0 or now_s() >= until + 7 * DAY_S
        self.attempt(
            "pause", allowed, lambda: self.house.parameters.pause(sender=account("guardian"))
        )

    @precondition(lambda self: self.house.parameters.paused())
    @rule()
    def unpause(self) -> None:
        self.house.parameters.unpause(sender=account("guardian"))
        self.done("unpause")

    @invariant()
    def conserves(self) -> None:
        pots = sum(sum(pot.drawn.values()) for pot in self.pots.values() if pot.state != "released")
        for role, balance in self.balance.items():
            assert self.escrow.balance_of(self.ids[role]) == balance
        assert self.escrow.customers_micro() == sum(self.balance.values())
        assert self.escrow.pots_micro() == pots
        held = self.house.euro_of(self.escrow)
        assert held == sum(self.balance.values()) + pots
        assert held == self.deposited - self.withdrawn - self.released - self.take
        assert self.house.euro_of("distributor") == self.released
        assert self.house.treasury.total_micro() == self.take


def test_escrow_against_a_model():
    run_machine(EscrowMachine, runs=8, steps=35)


@pytest.mark.usefixtures("gas_chain")
def test_gas():
    house, measured = build(), {}
    house.give("photographer", 1_000 * EURO, house.escrow)
    customer = id_of(house, "photographer")
    for name in ("first deposit", "deposit"):
        transaction()
        house.escrow.deposit(customer, 100 * EURO, sender=account("photographer"))
        measured[name] = house.escrow.gas_used()
    others = [b"%032d" % number for number in range(100)]
    house.give("bank", 1_000 * EURO, house.escrow)
    for other in others:
        house.escrow.deposit(other, EURO, sender=account("bank"))
    transaction()
    house.escrow.draw(1, [customer], [EURO], sender=SETTLER)
    measured["draw of the first customer"] = house.escrow.gas_used()
    transaction()
    house.escrow.draw(1, others, [EURO] * 100, sender=SETTLER)
    measured["draw of 100 customers"] = house.escrow.gas_used()
    pass_time(DRAW_LOCK_S)
    transaction()
    house.escrow.release(1, 101 * EURO * 12 // 100, sender=SETTLER)
    measured["first release"] = house.escrow.gas_used()
    pass_time(INTERVAL_S)
    house.escrow.draw(2, [customer], [EURO], sender=SETTLER)
    pass_time(DRAW_LOCK_S)
    transaction()
    house.escrow.release(2, EURO * 12 // 100, sender=SETTLER)
    measured["release"] = house.escrow.gas_used()
    transaction()
    house.escrow.give_notice(SALT, EURO, sender=account("photographer"))
    measured["notice"] = house.escrow.gas_used()
    pass_time(LOCK_S)
    transaction()
    house.escrow.withdraw(SALT, account("photographer"), sender=account("photographer"))
    measured["withdrawal"] = house.escrow.gas_used()
    check_gas("Escrow", measured, {})
