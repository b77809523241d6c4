"""Parameters: bounds nobody can move, a timelock, and self-dealing that always loses."""

import contextlib
import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.contracts.gas import check_gas
from tests.contracts.house import (
    BUCKETS,
    OWNER_DELAY_S,
    House,
    build,
    key_of,
    split,
    through_timelock,
)
from tests.contracts.machine import Machine, examples, run_machine
from tests.contracts.world import (
    DAY_S,
    ZERO,
    RefusedError,
    account,
    deploy,
    isolated,
    now_s,
    pass_time,
    refused,
    transaction,
)

BPS = 10_000
SHARES = tuple(f"{bucket}_bps" for bucket in BUCKETS)
# name: first, lowest, highest
TABLE = {
    "take_bps": (1_200, 500, 2_000),
    "insurance_bps": (2_500, 1_500, 6_000),
    "treasury_bps": (1_500, 500, 4_000),
    "coordinators_bps": (2_000, 500, 4_000),
    "verifiers_bps": (1_500, 500, 4_000),
    "stakers_bps": (2_000, 0, 4_000),
    "burn_bps": (500, 0, 2_000),
    "top_up_bps": (1_000, 0, 3_500),
    "discount_bps_max": (500, 0, 500),
    "reporter_bps_max": (1_000, 0, 1_000),
    "hold_back_bps": (2_500, 500, 7_500),
    "bond_per_tb_micro": (4_000_000, 100_000, 100_000_000),
    "proposer_bond_micro": (100_000_000, 1_000_000, 100_000_000_000),
    "demand_fee_micro": (1_000_000, 10_000, 100_000_000),
    "draw_epoch_max_micro": (10**12, 10**6, 10**15),
    "challenge_window_s": (DAY_S, 3_600, 7 * DAY_S),
    "answer_window_s": (6 * 3_600, 1_800, 3 * DAY_S),
    "escrow_lock_s": (3 * DAY_S, DAY_S, 30 * DAY_S),
    "draw_lock_s": (6 * 3_600, 3_600, 7 * DAY_S),
    "draw_interval_s": (3_600, 600, DAY_S),
    "draw_expiry_s": (30 * DAY_S, 14 * DAY_S, 90 * DAY_S),
}
GETTERS = tuple(
    name for name in TABLE if name not in (*SHARES, "hold_back_bps", "bond_per_tb_micro")
)


def value(house: House, name: str) -> int:
    return int(house.parameters.value(key_of(name)))


def test_names_values_and_bounds_are_these():
    house = build()
    found = {}
    for place in range(len(TABLE)):
        name = house.parameters.names(place)
        key = key_of(name)
        found[name] = (
            value(house, name),
            house.parameters.lowest(key),
            house.parameters.highest(key),
        )
    assert found == TABLE
    with refused():
        house.parameters.names(len(TABLE))
    for name in GETTERS:
        assert getattr(house.parameters, name)() == TABLE[name][0], name
    assert list(house.parameters.split_bps()) == [TABLE[name][0] for name in SHARES]


def test_a_time_divisor_shortens_times_and_nothing_else():
    house = build(time_divisor=DAY_S)
    assert house.parameters.TIME_DIVISOR() == DAY_S
    for name, (first, lowest, highest) in TABLE.items():
        factor = DAY_S if name.endswith("_s") else 1
        key = key_of(name)
        assert value(house, name) == max(first // factor, 1), name
        assert house.parameters.lowest(key) == (lowest if factor == 1 else max(lowest // factor, 1))
        assert house.parameters.highest(key) == (
            highest if factor == 1 else max(highest // factor, 1)
        )
    for bad in (0, DAY_S + 1):
        with refused("time divisor"):
            deploy("Parameters", account("timelock"), account("guardian"), bad)
    for place in range(2):
        arguments = [account("timelock"), account("guardian"), 1]
        arguments[place] = ZERO
        with refused("zero address"):
            deploy("Parameters", *arguments)


def test_only_the_timelock_changes_numbers_and_only_after_its_delay():
    house = build()
    keys, values = [key_of("escrow_lock_s")], [5 * DAY_S]
    for role in ("governor", "guardian", "deployer", "attacker"):
        with refused("not the owner"):
            house.parameters.set(keys, values, sender=account(role))
        with refused("not the owner"):
            house.parameters.set_guardian(account(role), sender=account(role))
    data = house.parameters.function("set", 2).data(keys, values)
    zero = bytes(32)
    with refused():
        house.timelock.schedule(
            house.parameters, 0, data, zero, zero, OWNER_DELAY_S, sender=account("attacker")
        )
    with refused():
        house.timelock.schedule(
            house.parameters, 0, data, zero, zero, OWNER_DELAY_S - 1, sender=account("governor")
        )
    house.timelock.schedule(
        house.parameters, 0, data, zero, zero, OWNER_DELAY_S, sender=account("governor")
    )
    pass_time(OWNER_DELAY_S - 1)
    with refused():
        house.timelock.execute(house.parameters, 0, data, zero, zero)
    pass_time(1)
    house.timelock.execute(house.parameters, 0, data, zero, zero, sender=account("anybody"))
    assert house.parameters.escrow_lock_s() == 5 * DAY_S
    with refused():
        house.timelock.execute(house.parameters, 0, data, zero, zero)


def test_a_scheduled_change_can_be_cancelled_by_the_governor_only():
    house = build()
    data = house.parameters.function("set_guardian", 1).data(account("attacker"))
    zero = bytes(32)
    house.timelock.schedule(
        house.parameters, 0, data, zero, zero, OWNER_DELAY_S, sender=account("governor")
    )
    operation = house.timelock.hash_operation(house.parameters, 0, data, zero, zero)
    with refused():
        house.timelock.cancel(operation, sender=account("attacker"))
    house.timelock.cancel(operation, sender=account("governor"))
    pass_time(OWNER_DELAY_S)
    with refused():
        house.timelock.execute(house.parameters, 0, data, zero, zero)


def test_a_timelock_with_a_shorter_delay_owns_nothing():
    house = build()
    assert house.parameters.owner() == house.timelock.address.lower()
    with refused():
        house.timelock.update_delay(0, sender=account("governor"))
    through_timelock(house, house.timelock, "update_delay", OWNER_DELAY_S - 1)
    assert house.parameters.owner() == ZERO
    with refused("not the owner"):
        house.set(escrow_lock_s=5 * DAY_S)


def test_governor_has_no_role_beyond_scheduling_and_nobody_is_admin():
    house = build()
    admin = bytes(32)
    for role in ("governor", "deployer", "attacker"):
        assert not house.timelock.hasRole(admin, account(role))
        with refused():
            house.timelock.grantRole(admin, account("attacker"), sender=account(role))
    with refused("zero address"):
        deploy("Timelock", 1, ZERO)


@pytest.mark.parametrize("name", [name for name in TABLE if name != "take_bps"])
def test_bounds_hold_for_each_number(name: str):
    house = build()
    _, lowest, highest = TABLE[name]
    for bad in (lowest - 1, highest + 1, 2**256 - 1):
        if bad >= 0:
            with refused("bounds"):
                house.set(**{name: bad})
    if name not in SHARES and name != "top_up_bps":
        for good in (lowest, highest):
            house.set(**{name: good})
            assert value(house, name) == good


def test_take_moves_by_one_step_a_month():
    house = build()
    for bad in (1_301, 1_099, 2_000):
        with refused("step"):
            house.set(take_bps=bad)
    house.set(take_bps=1_300)
    with refused("rest"):
        house.set(take_bps=1_301)
    pass_time(30 * DAY_S - 1)
    with refused("rest"):
        house.set(take_bps=1_400)
    pass_time(1)
    for take in range(1_400, 2_001, 100):
        house.set(take_bps=take)
        pass_time(30 * DAY_S)
    with refused("bounds"):
        house.set(take_bps=2_001)


def test_a_step_cannot_be_repeated_in_one_batch():
    house = build()
    with refused("rest"):
        house.parameters.set(
            [key_of("take_bps")] * 2, [1_300, 1_400], sender=house.timelock.address
        )


def test_bad_batches_change_nothing():
    house = build()
    sender = house.timelock.address
    for keys, values in (([], []), ([key_of("take_bps")], []), ([], [1])):
        with refused("lengths"):
            house.parameters.set(keys, values, sender=sender)
    with refused("no such name"):
        house.parameters.set(
            [key_of("escrow_lock_s"), key_of("unheard_of")], [5 * DAY_S, 1], sender=sender
        )
    assert house.parameters.escrow_lock_s() == 3 * DAY_S
    with refused("make up the whole"):
        house.set(stakers_bps=2_001)
    with refused("make up the whole"):
        house.set(stakers_bps=1_999)
    assert house.parameters.split_bps()[4] == 2_000


def test_self_dealing_is_refused_at_its_exact_edge():
    house = build()
    # 10,000 - treasury is what a coalition of all could pay to itself.
    house.set(top_up_bps=1_499)
    with refused("self-dealing"):
        house.set(top_up_bps=1_500)
    with refused("self-dealing"):
        house.set(treasury_bps=1_499, insurance_bps=2_501)
    house.set(treasury_bps=2_000, insurance_bps=2_000, top_up_bps=1_999)


def test_a_discount_is_at_most_half_of_the_take():
    house = build()
    for take in range(1_100, 999, -100):
        house.set(take_bps=take)
        pass_time(30 * DAY_S)
    with refused("discount"):
        house.set(take_bps=999)
    house.set(take_bps=999, discount_bps_max=499)


# The inequality itself: no coalition gains by serving itself, whatever the setter accepted.

shares = st.integers(0, BPS)


def test_every_coalition_loses_by_paying_itself():
    """A coalition pays a fee, and owns parts of provider, repair, coordinator, verifier, stake.

    Brute force in whole units: what it pays less what can come back to it by the rules (pay, its
    parts of the shares the treasury contract really makes of the net take, the largest top-up) is
    a loss, and so is it for the coalition of everybody. Burning enriches holders in proportion.
    """
    house = build()
    tried = []

    @examples(60)
    @given(
        moves=st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 900)), max_size=4
        ),
        top_up_bps=st.integers(0, 3_000),
        discount_bps_max=st.integers(0, 500),
        fee_micro=st.integers(10_000, 10**11),
        roles=st.tuples(shares, shares, shares, shares, shares),
        discount_part=shares,
        provider_part=shares,
    )
    def check(moves, top_up_bps, discount_bps_max, fee_micro, roles, discount_part, provider_part):
        with isolated():
            wanted = list(house.parameters.split_bps())
            for giver, taker, bps in moves:
                wanted[giver] -= bps
                wanted[taker] += bps
            assume(min(wanted) >= 0)
            numbers = dict(zip(SHARES, wanted, strict=True))
            numbers |= {"top_up_bps": top_up_bps, "discount_bps_max": discount_bps_max}
            # What the setter refuses stays as it was: the first numbers are tried as well.
            with contextlib.suppress(RefusedError):
                house.set(**numbers)
                tried.append(numbers)
            take_bps = house.parameters.take_bps()
            discount_bps = house.parameters.discount_bps_max() * discount_part // BPS
            pays = fee_micro - fee_micro * discount_bps // BPS
            provider = fee_micro * (BPS - take_bps) // BPS
            net_take = pays - provider
            assert net_take > 0
            parts = split(net_take, house.parameters.split_bps())
            top_up = net_take * house.parameters.top_up_bps() // BPS
            for owned, provided in ((roles, provider_part), ((BPS,) * 5, BPS)):
                back = provider * provided // BPS + top_up * provided // BPS
                returned = [parts[0], *parts[2:]]
                back += sum(part * own // BPS for part, own in zip(returned, owned, strict=True))
                assert back < pays

    check()
    assert len(tried) >= 5, "too few numbers were accepted to say anything"


def test_self_dealing_would_pay_without_the_rule():
    """The same sum with numbers the setter refuses: the rule is what makes it a loss."""
    net_take, top_up = 120_000, 120_000 * 1_600 // BPS
    parts = split(net_take, (2_500, 1_500, 2_000, 1_500, 2_000, 500))
    assert top_up + sum(parts) - parts[1] > net_take


# Pause


def test_a_pause_is_the_guardians_and_ends_by_itself():
    house = build()
    assert not house.parameters.paused()
    for role in ("attacker", "governor", "deployer"):
        with refused("not the guardian"):
            house.parameters.pause(sender=account(role))
    with refused("not paused"):
        house.parameters.unpause(sender=account("guardian"))
    house.parameters.pause(sender=account("guardian"))
    with refused("rest"):
        house.parameters.pause(sender=account("guardian"))
    pass_time(7 * DAY_S - 1)
    assert house.parameters.paused()
    pass_time(1)
    assert not house.parameters.paused()
    pass_time(7 * DAY_S - 1)
    with refused("rest"):
        house.parameters.pause(sender=account("guardian"))
    pass_time(1)
    house.parameters.pause(sender=account("guardian"))
    with refused("not the guardian"):
        house.parameters.unpause(sender=account("attacker"))
    house.parameters.unpause(sender=account("guardian"))
    assert not house.parameters.paused()
    pass_time(7 * DAY_S - 1)
    with refused("rest"):
        house.parameters.pause(sender=account("guardian"))


def test_the_timelock_names_another_guardian():
    house = build()
    with refused("zero address"):
        house.parameters.set_guardian(ZERO, sender=house.timelock.address)
    house.parameters.set_guardian(account("new guardian"), sender=house.timelock.address)
    with refused("not the guardian"):
        house.parameters.pause(sender=account("guardian"))
    house.parameters.pause(sender=account("new guardian"))


class ParametersMachine(Machine):
    """Batches of changes over time against the table of bounds and the three conditions."""

    def __init__(self) -> None:
        super().__init__()
        self.house = build()
        self.values = {name: row[0] for name, row in TABLE.items()}
        self.take_changed_s = 0

    free = st.sampled_from([name for name in TABLE if name not in (*SHARES, "take_bps")])

    def _try(self, rule: str, changes: dict[str, int]) -> None:
        after = self.values | changes
        allowed = all(TABLE[name][1] <= new <= TABLE[name][2] for name, new in changes.items())
        allowed &= sum(after[name] for name in SHARES) == BPS
        allowed &= after["top_up_bps"] + BPS - after["treasury_bps"] < BPS
        allowed &= 2 * after["discount_bps_max"] <= after["take_bps"]
        if "take_bps" in changes:
            allowed &= abs(after["take_bps"] - self.values["take_bps"]) <= 100
            allowed &= not self.take_changed_s or now_s() >= self.take_changed_s + 30 * DAY_S
        self.attempt(rule, allowed, lambda: self.house.set(**changes))
        if allowed:
            self.values = after
            if "take_bps" in changes:
                self.take_changed_s = now_s()

    @rule(name=free, part=st.integers(-1, 9))
    def set_one(self, name: str, part: int) -> None:
        _, lowest, highest = TABLE[name]
        self._try("set_one", {name: max(0, lowest + (highest - lowest) * part // 8)})

    @rule(
        giver=st.sampled_from(SHARES),
        taker=st.sampled_from(SHARES),
        bps=st.integers(1, 800),
        lost=st.integers(0, 4).map(lambda n: n == 0),
    )
    def move_share(self, giver: str, taker: str, bps: int, lost: bool) -> None:
        if giver != taker and self.values[giver] >= bps:
            changes = {giver: self.values[giver] - bps, taker: self.values[taker] + bps - lost}
            self._try("move_share", changes)

    @rule(step=st.integers(-110, 110), rested=st.booleans())
    def set_take(self, step: int, rested: bool) -> None:
        if rested:
            pass_time(30 * DAY_S)
        self._try("set_take", {"take_bps": self.values["take_bps"] + step})

    @invariant()
    def holds(self) -> None:
        for name, expected in self.values.items():
            assert value(self.house, name) == expected
        split_bps = self.house.parameters.split_bps()
        assert sum(split_bps) == BPS
        assert self.house.parameters.top_up_bps() < split_bps[1]


def test_parameters_against_a_model():
    run_machine(ParametersMachine, runs=4, steps=20)


def test_every_pair_of_names_has_its_own_key():
    keys = [key_of(name) for name in TABLE]
    assert all(a != b for a, b in itertools.combinations(keys, 2))


@pytest.mark.usefixtures("gas_chain")
def test_gas():
    house, measured = build(), {}
    transaction()
    house.set(escrow_lock_s=5 * DAY_S)
    measured["set one"] = house.parameters.gas_used()
    transaction()
    house.set(treasury_bps=2_000, insurance_bps=2_000)
    measured["set two shares"] = house.parameters.gas_used()
    transaction()
    house.parameters.pause(sender=account("guardian"))
    measured["pause"] = house.parameters.gas_used()
    check_gas("Parameters", measured, {})
