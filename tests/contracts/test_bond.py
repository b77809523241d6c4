"""Bonds: the own tranche is lost first, who leaves stays liable, rewards are of who was there."""

import pytest

from tests.contracts.gas import check_gas
from tests.contracts.settlement import (
    CHALLENGE_S,
    REWARD_S,
    UNBONDING_S,
    World,
    account_bytes,
    claim,
    make_world,
    node_id,
    propose,
    tree_of,
)
from tests.contracts.world import (
    DAY_S,
    EURO_MICRO,
    TOKEN,
    ZERO,
    RefusedError,
    account,
    deploy,
    new_chain,
    now_s,
    pass_time,
    refused,
    transaction,
)

DELEGATORS = ("delegator 1", "delegator 2", "delegator 3")
VIRTUAL = 10**6


@pytest.fixture(scope="module")
def world() -> World:
    return ready_world()


def ready_world() -> World:
    made = make_world()
    for role in ("provider", "attacker", *DELEGATORS):
        made.give_token(role)
    made.give_stable("rewarder")
    return made


@pytest.fixture
def node(world: World) -> bytes:
    return world.register("node", "provider", "payout")


def slash(world: World, node: bytes, amount: int) -> int:
    """As the court does; the bond answers to nobody else."""
    return world.bond.slash(node, amount, sender=world.court.address)


def tokens(world: World, role: str) -> int:
    return world.token.balanceOf(account(role))


def own(world: World, node: bytes, amount: int = 1_000 * TOKEN) -> None:
    world.bond.bond_own(node, amount, sender=account("provider"))


def delegate(world: World, node: bytes, role: str, amount: int, least: int = 0) -> int:
    return world.bond.delegate(node, amount, least, sender=account(role))


# Entering and leaving


def test_who_enters_and_leaves_gets_everything_back(world: World, node: bytes) -> None:
    bond = world.bond
    before = tokens(world, "provider"), tokens(world, "delegator 1")
    own(world, node)
    shares = delegate(world, node, "delegator 1", 500 * TOKEN)
    assert shares == 500 * TOKEN * VIRTUAL
    assert bond.coverage(node) == (1_000 * TOKEN, 500 * TOKEN, 0)
    mine = bond.leave_own(node, 1_000 * TOKEN, sender=account("provider"))
    theirs = bond.leave(node, 0, shares, sender=account("delegator 1"))
    assert mine == theirs == bond.bucket_now()
    assert bond.coverage(node) == (1_000 * TOKEN, 500 * TOKEN, 0)
    pass_time(UNBONDING_S)
    asked = now_s()
    while bond.bucket_now() < mine + 3:
        with refused("still liable"):
            bond.withdraw_own(node, mine, sender=account("provider"))
        with refused("still liable"):
            bond.withdraw(node, 0, theirs, sender=account("delegator 1"))
        pass_time(DAY_S // 2)
    assert now_s() - asked <= UNBONDING_S // 2 + DAY_S
    bond.withdraw_own(node, mine, sender=account("provider"))
    bond.withdraw(node, 0, theirs, sender=account("delegator 1"))
    assert (tokens(world, "provider"), tokens(world, "delegator 1")) == before
    assert world.token.balanceOf(bond.address) == 0
    for call in (
        lambda: bond.withdraw_own(node, mine, sender=account("provider")),
        lambda: bond.withdraw(node, 0, theirs, sender=account("delegator 1")),
    ):
        with refused("nothing"):
            call()


def test_unbonding_takes_its_time_wherever_in_a_bucket_it_begins(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    width = UNBONDING_S // 2
    pass_time(width - now_s() % width - 1)
    bucket = bond.leave_own(node, TOKEN, sender=account("provider"))
    began = now_s()
    while True:
        try:
            bond.withdraw_own(node, bucket, sender=account("provider"))
            break
        except RefusedError:
            pass_time(3_600)
    assert UNBONDING_S <= now_s() - began <= UNBONDING_S + width + 3_600


def test_what_is_refused(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    shares = delegate(world, node, "delegator 1", 10 * TOKEN)
    stranger = node_id("unknown")
    for words, call in (
        ("no such node", lambda: bond.bond_own(stranger, 1, sender=account("provider"))),
        ("no such node", lambda: bond.delegate(stranger, 1, 0, sender=account("delegator 1"))),
        ("no such node", lambda: bond.reward(stranger, 1, sender=account("rewarder"))),
        ("no such node", lambda: bond.claim_operator(stranger)),
        ("amount", lambda: bond.bond_own(node, 0, sender=account("provider"))),
        ("amount", lambda: bond.delegate(node, 0, 0, sender=account("delegator 1"))),
        ("amount", lambda: bond.delegate(node, 991 * TOKEN, 0, sender=account("delegator 2"))),
        ("amount", lambda: bond.reward(node, 0, sender=account("rewarder"))),
        ("amount", lambda: bond.leave_own(node, 0, sender=account("provider"))),
        ("amount", lambda: bond.leave_own(node, 1_001 * TOKEN, sender=account("provider"))),
        ("not the owner", lambda: bond.leave_own(node, 1, sender=account("attacker"))),
        ("not the owner", lambda: bond.withdraw_own(node, 0, sender=account("attacker"))),
        ("not the owner", lambda: bond.set_commission(node, 1, sender=account("attacker"))),
        ("commission", lambda: bond.set_commission(node, 3_001, sender=account("provider"))),
        ("shares", lambda: bond.leave(node, 0, 0, sender=account("delegator 1"))),
        ("shares", lambda: bond.leave(node, 0, shares + 1, sender=account("delegator 1"))),
        ("shares", lambda: bond.leave(node, 0, 1, sender=account("attacker"))),
        ("shares", lambda: bond.leave(node, 1, 1, sender=account("delegator 1"))),
        (
            "shares",
            lambda: delegate(world, node, "delegator 2", TOKEN, TOKEN * VIRTUAL + 1),
        ),
        ("not the court", lambda: bond.slash(node, 1, sender=account("attacker"))),
        ("still liable", lambda: bond.withdraw(node, 0, 2**256 - 1)),
    ):
        with refused(words):
            call()
    with refused("not the deployer"):
        bond.connect(world.court.address, world.court.address, sender=account("attacker"))
    with refused("connected"):
        bond.connect(world.court.address, world.court.address, sender=account("deployer"))


def test_who_retired_is_bonded_no_more_and_loses_nothing(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    shares = delegate(world, node, "delegator 1", 10 * TOKEN)
    world.registry.retire(node, sender=account("provider"))
    with refused("no such node"):
        own(world, node, 1)
    with refused("no such node"):
        delegate(world, node, "delegator 1", 1)
    bond.reward(node, EURO_MICRO, sender=account("rewarder"))
    assert slash(world, node, TOKEN) == TOKEN, "it stays liable until it has left"
    mine = bond.leave_own(node, 999 * TOKEN, sender=account("provider"))
    theirs = bond.leave(node, 0, shares, sender=account("delegator 1"))
    pass_time(2 * UNBONDING_S)
    assert bond.withdraw_own(node, mine, sender=account("provider")) == 999 * TOKEN
    assert bond.withdraw(node, 0, theirs, sender=account("delegator 1")) == 10 * TOKEN


def test_a_pause_stops_entry_only(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    shares = delegate(world, node, "delegator 1", 10 * TOKEN)
    bond.reward(node, EURO_MICRO, sender=account("rewarder"))
    world.pause()
    for call in (
        lambda: own(world, node),
        lambda: delegate(world, node, "delegator 1", 1),
        lambda: bond.reward(node, 1, sender=account("rewarder")),
    ):
        with refused("paused"):
            call()
    bond.leave_own(node, TOKEN, sender=account("provider"))
    bond.leave(node, 0, shares, sender=account("delegator 1"))
    pass_time(DAY_S)
    bond.claim_operator(node)
    bond.claim_reward(node, 0, account("delegator 1"))
    assert slash(world, node, TOKEN) == TOKEN


# Slashing


def test_the_own_tranche_is_lost_first(world: World, node: bytes) -> None:
    own(world, node)
    delegate(world, node, "delegator 1", 400 * TOKEN)
    delegate(world, node, "delegator 2", 600 * TOKEN)
    assert slash(world, node, 999 * TOKEN) == 999 * TOKEN
    assert world.bond.coverage(node) == (TOKEN, 1_000 * TOKEN, 0)
    assert slash(world, node, 101 * TOKEN) == 101 * TOKEN
    assert world.bond.coverage(node) == (0, 900 * TOKEN, 0)
    # Delegators lose in proportion.
    assert world.bond.worth(node, 0, account("delegator 1")) == 360 * TOKEN
    assert world.bond.worth(node, 0, account("delegator 2")) == 540 * TOKEN
    assert slash(world, node, 2**256 - 1) == 900 * TOKEN
    assert slash(world, node, 1) == 0
    assert world.token.balanceOf(world.court.address) == 2_000 * TOKEN


def test_a_slash_reaches_who_asked_to_leave_before(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    shares = delegate(world, node, "delegator 1", 500 * TOKEN)
    delegate(world, node, "delegator 2", 500 * TOKEN)
    bucket = bond.leave_own(node, 1_000 * TOKEN, sender=account("provider"))
    bond.leave(node, 0, shares, sender=account("delegator 1"))
    pass_time(UNBONDING_S - 1)
    assert slash(world, node, 1_500 * TOKEN) == 1_500 * TOKEN
    assert bond.coverage(node) == (0, 500 * TOKEN, 0)
    assert bond.leaving_worth(node, 0, bucket, account("delegator 1")) == 250 * TOKEN
    pass_time(UNBONDING_S)
    with refused("nothing"):
        bond.withdraw_own(node, bucket, sender=account("provider"))
    assert bond.withdraw(node, 0, bucket, sender=account("delegator 1")) == 250 * TOKEN
    # What is over its time is free.
    assert bond.coverage(node) == (0, 250 * TOKEN, 0)


def test_every_bucket_that_cannot_be_withdrawn_is_liable(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    width = UNBONDING_S // 2
    pass_time(width - now_s() % width)
    buckets = []
    for amount in (100, 200, 300):
        buckets.append(bond.leave_own(node, amount * TOKEN, sender=account("provider")))
        pass_time(width)
    pass_time(-1)
    assert len(set(buckets)) == 3
    with refused("still liable"):
        bond.withdraw_own(node, buckets[0], sender=account("provider"))
    assert slash(world, node, 500 * TOKEN) == 500 * TOKEN
    kept = [bond.own_leaving(node, bucket) for bucket in buckets]
    assert kept == [50 * TOKEN, 100 * TOKEN, 150 * TOKEN]
    assert bond.own(node) == 200 * TOKEN
    pass_time(1)
    assert bond.withdraw_own(node, buckets[0], sender=account("provider")) == 50 * TOKEN


@pytest.mark.parametrize("amount", [1, 7, 999_999_999_999, 987_654 * 10**12 + 1])
def test_a_slash_takes_exactly_what_it_says(world: World, node: bytes, amount: int) -> None:
    bond = world.bond
    bond.bond_own(node, 3 * 10**18 + 1, sender=account("provider"))
    shares = delegate(world, node, "delegator 1", 10**18 + 3)
    bond.leave_own(node, 10**18 + 7, sender=account("provider"))
    bond.leave(node, 0, shares // 3, sender=account("delegator 1"))
    pass_time(UNBONDING_S // 2)
    bond.leave_own(node, 11, sender=account("provider"))
    before = bond.coverage(node)
    assert slash(world, node, amount) == amount
    after = bond.coverage(node)
    assert before[0] - after[0] == amount
    assert slash(world, node, after[0] + amount) == after[0] + amount
    assert bond.coverage(node)[:2] == (0, before[1] - amount)
    assert world.token.balanceOf(bond.address) == before[1] - amount


def test_a_pool_lost_altogether_is_closed_and_a_new_one_begins(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    old = delegate(world, node, "delegator 1", 500 * TOKEN)
    assert slash(world, node, 2**256 - 1) == 1_500 * TOKEN
    assert bond.generation(node) == 1
    own(world, node)
    new = delegate(world, node, "delegator 2", 500 * TOKEN)
    assert new == 500 * TOKEN * VIRTUAL
    assert bond.worth(node, 1, account("delegator 2")) == 500 * TOKEN
    assert bond.worth(node, 0, account("delegator 1")) == 0
    # The old shares are worth nothing of the new pool.
    bond.leave(node, 0, old, sender=account("delegator 1"))
    assert bond.coverage(node) == (1_000 * TOKEN, 500 * TOKEN, 0)


def test_a_pool_nearly_lost_does_not_dilute_who_comes_after(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    shares = delegate(world, node, "delegator 1", 500 * TOKEN)
    slash(world, node, 1_500 * TOKEN - 5)
    assert bond.generation(node) == 1
    assert bond.worth(node, 0, account("delegator 1")) == 5
    bucket = bond.leave(node, 0, shares, sender=account("delegator 1"))
    pass_time(2 * UNBONDING_S)
    assert bond.withdraw(node, 0, bucket, sender=account("delegator 1")) == 5


# Shares


def test_share_inflation_costs_the_attacker_not_the_victim(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    delegate(world, node, "attacker", 1)
    # A gift by plain transfer is nobody's and changes no price.
    world.token.transfer(bond.address, 200 * TOKEN, sender=account("attacker"))
    delegate(world, node, "delegator 1", 100 * TOKEN, 100 * TOKEN * VIRTUAL * 999 // 1_000)
    worth = bond.worth(node, 0, account("delegator 1"))
    assert worth >= 100 * TOKEN * (10**9 - 1) // 10**9
    assert bond.worth(node, 0, account("attacker")) <= 1


def test_dust_gains_nothing_by_rounding(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    delegate(world, node, "delegator 1", 100 * TOKEN + 13)
    slash(world, node, 1_000 * TOKEN + 33 * TOKEN + 7)
    own(world, node)
    before = tokens(world, "attacker")
    gone = []
    for amount in (1, 2, 3, 1_000_003):
        shares = delegate(world, node, "attacker", amount)
        gone += [
            bond.leave(node, 0, part, sender=account("attacker"))
            for part in (shares // 3, shares - shares // 3)
        ]
    pass_time(2 * UNBONDING_S)
    bond.withdraw(node, 0, gone[0], sender=account("attacker"))
    assert tokens(world, "attacker") <= before
    assert bond.worth(node, 0, account("delegator 1")) >= 67 * TOKEN


# Rewards


def earned(world: World, node: bytes, role: str, generation: int = 0) -> int:
    return world.bond.claim_reward(node, generation, account(role))


def test_rewards_flow_over_time_to_who_is_bonded(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node, 500 * TOKEN)
    delegate(world, node, "delegator 1", 500 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S // 4)
    assert earned(world, node, "delegator 1") == 1_080_000
    assert bond.claim_operator(node) == 1_080_000
    assert world.stable.balanceOf(account("payout")) == 1_080_000
    pass_time(10 * REWARD_S)
    assert earned(world, node, "delegator 1") == 3_240_000
    assert bond.claim_operator(node) == 3_240_000
    assert earned(world, node, "delegator 1") == bond.claim_operator(node) == 0
    assert world.stable.balanceOf(bond.address) == 0


def test_no_late_joiner_earns_the_past(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    delegate(world, node, "delegator 1", 10 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S)
    delegate(world, node, "attacker", 900 * TOKEN)
    assert earned(world, node, "attacker") == 0
    assert earned(world, node, "delegator 1") == 8_640_000 * 10 // 1_010
    # Nor do shares that were given up, or more of them.
    shares = bond.shares_of(node, 0, account("attacker"))
    bond.leave(node, 0, shares, sender=account("attacker"))
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S)
    assert earned(world, node, "attacker") == 0


def test_just_in_time_delegation_earns_its_seconds_only(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    delegate(world, node, "delegator 1", 10 * TOKEN)
    shares = delegate(world, node, "attacker", 900 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(12)
    bond.leave(node, 0, shares, sender=account("attacker"))
    pass_time(REWARD_S)
    assert earned(world, node, "attacker") <= 100 * 12
    # The same for an operator who adds to its own tranche for a moment.
    own(world, node, 100_000 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(12)
    bond.leave_own(node, 100_000 * TOKEN, sender=account("provider"))
    pass_time(REWARD_S)
    got = earned(world, node, "delegator 1")
    assert got >= 2 * (8_640_000 - 24 * 100) * 10 // 1_010 - 2


def test_a_commission_rises_only_after_the_unbonding_time(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node, 500 * TOKEN)
    delegate(world, node, "delegator 1", 500 * TOKEN)
    bond.set_commission(node, 3_000, sender=account("provider"))
    began = now_s()
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S)
    assert earned(world, node, "delegator 1") == 4_320_000
    # A reward that flows across the moment is cut there, whenever it is looked at.
    pass_time(began + UNBONDING_S - REWARD_S // 2 - now_s())
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(3 * REWARD_S)
    assert earned(world, node, "delegator 1") == 2_160_000 + 2_160_000 * 7 // 10
    assert bond.commission(node) == (3_000, 3_000, 0)
    bond.set_commission(node, 0, sender=account("provider"))
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S)
    assert earned(world, node, "delegator 1") == 4_320_000
    bond.claim_operator(node)
    assert world.stable.balanceOf(bond.address) == 0


def test_a_rise_asked_for_again_waits_again(world: World, node: bytes) -> None:
    bond = world.bond
    bond.set_commission(node, 1_000, sender=account("provider"))
    pass_time(UNBONDING_S - 1)
    bond.set_commission(node, 2_000, sender=account("provider"))
    pass_time(UNBONDING_S - 1)
    bond.set_commission(node, 0, sender=account("provider"))
    assert bond.commission(node) == (0, 0, 0)
    pass_time(UNBONDING_S)
    own(world, node, 500 * TOKEN)
    delegate(world, node, "delegator 1", 500 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S)
    assert earned(world, node, "delegator 1") == 4_320_000


def test_a_small_gift_does_not_put_off_a_reward(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node, 500 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    for _ in range(8):
        pass_time(REWARD_S // 8)
        bond.reward(node, 1, sender=account("rewarder"))
    assert bond.claim_operator(node) >= 8_639_000
    pass_time(REWARD_S)
    bond.claim_operator(node)
    assert world.stable.balanceOf(account("payout")) == 8_640_008


def test_rewards_wait_while_nobody_is_bonded(world: World, node: bytes) -> None:
    bond = world.bond
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(5 * REWARD_S)
    own(world, node)
    pass_time(REWARD_S // 2)
    assert bond.claim_operator(node) == 4_320_000
    pass_time(REWARD_S)
    assert bond.claim_operator(node) == 4_320_000


def test_rewards_of_a_closed_pool_stay_claimable(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node, 500 * TOKEN)
    delegate(world, node, "delegator 1", 500 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S // 2)
    slash(world, node, 2**256 - 1)
    own(world, node, 500 * TOKEN)
    delegate(world, node, "delegator 2", 500 * TOKEN)
    pass_time(REWARD_S)
    assert earned(world, node, "delegator 1") == 2_160_000
    assert earned(world, node, "delegator 2", 1) == 2_160_000
    assert earned(world, node, "delegator 1", 1) == 0


def test_rewards_of_two_nodes_do_not_mix(world: World, node: bytes) -> None:
    bond = world.bond
    other = world.register("other", "attacker")
    own(world, node)
    bond.bond_own(other, 1_000 * TOKEN, sender=account("attacker"))
    delegate(world, node, "delegator 1", 100 * TOKEN)
    delegate(world, other, "delegator 1", 900 * TOKEN)
    bond.reward(node, 8_640_000, sender=account("rewarder"))
    pass_time(REWARD_S)
    assert earned(world, other, "delegator 1") == bond.claim_operator(other) == 0
    assert slash(world, other, 2**256 - 1) == 1_900 * TOKEN
    assert bond.coverage(node) == (1_000 * TOKEN, 100 * TOKEN, 0)


# Held funds, odd tokens, reentrancy


def test_held_funds_count_as_bond(world: World, node: bytes) -> None:
    world.distributor.fund(10**9, sender=account("funder"))
    tree = tree_of({account_bytes("payout"): (70, 30 * EURO_MICRO)})
    propose(world, 1, tree)
    pass_time(CHALLENGE_S)
    world.distributor.finalise()
    assert world.bond.coverage(node) == (0, 0, 0)
    claim(world, 1, tree, 0)
    assert world.bond.coverage(node) == (0, 0, 30 * EURO_MICRO)
    assert world.bond.coverage(node_id("unknown")) == (0, 0, 0)


def test_odd_tokens(world: World, node: bytes) -> None:
    own(world, node)
    for token, call in (
        (world.token, lambda: own(world, node)),
        (world.token, lambda: delegate(world, node, "delegator 1", TOKEN)),
        (world.stable, lambda: world.bond.reward(node, 10**6, sender=account("rewarder"))),
    ):
        token.set_fee(1)
        with refused("transfer"):
            call()
        token.set_fee(0)
        call()
    bucket = world.bond.leave_own(node, TOKEN, sender=account("provider"))
    pass_time(2 * UNBONDING_S)
    world.token.set_lies(True)
    with refused("transfer"):
        world.bond.withdraw_own(node, bucket, sender=account("provider"))
    world.token.set_lies(False)
    assert world.bond.withdraw_own(node, bucket, sender=account("provider")) == TOKEN


def test_a_token_that_calls_back_gets_nothing(world: World, node: bytes) -> None:
    bond = world.bond
    own(world, node)
    for name, arguments in (
        ("coverage", (node,)),
        ("worth", (node, 0, account("delegator 1"))),
        ("leaving_worth", (node, 0, bond.bucket_now(), account("delegator 1"))),
        ("claim_operator", (node,)),
        ("claim_reward", (node, 0, account("delegator 1"))),
    ):
        data = bond.function(name, len(arguments)).data(*arguments)
        world.token.set_hook(bond.address, data)
        delegate(world, node, "delegator 1", TOKEN)
        assert world.token.hook_calls() == 1
        assert not world.token.hook_worked(), name


def test_constructor_refuses_what_makes_no_sense() -> None:
    some, other = account("somebody"), account("another")
    good = [some, other, some, some, UNBONDING_S, REWARD_S]
    for place, wrong in (
        (0, ZERO), (1, ZERO), (2, ZERO), (3, ZERO), (1, some),
        (4, 1), (4, 366 * DAY_S), (5, 0), (5, 366 * DAY_S),
    ):  # fmt: skip
        with refused():
            deploy("Bond", *good[:place], wrong, *good[place + 1 :])
    deploy("Bond", *good)


def test_gas() -> None:
    with new_chain():
        measure_gas()


def measure_gas() -> None:
    world = ready_world()
    node, measured = world.register("node", "provider", "payout"), {}
    bond = world.bond
    own(world, node)
    delegate(world, node, "delegator 1", 100 * TOKEN)
    bond.reward(node, 10**6, sender=account("rewarder"))
    pass_time(3_600)
    transaction()
    delegate(world, node, "delegator 2", 100 * TOKEN)
    measured["delegate"] = bond.gas_used()
    pass_time(3_600)
    transaction()
    bond.claim_reward(node, 0, account("delegator 1"))
    measured["claim reward"] = bond.gas_used()
    transaction()
    bucket = bond.leave(node, 0, 10 * TOKEN, sender=account("delegator 1"))
    measured["leave"] = bond.gas_used()
    bond.leave_own(node, TOKEN, sender=account("provider"))
    transaction()
    slash(world, node, 1_050 * TOKEN)
    measured["slash"] = bond.gas_used()
    pass_time(2 * UNBONDING_S)
    transaction()
    bond.withdraw(node, 0, bucket, sender=account("delegator 1"))
    measured["withdraw"] = bond.gas_used()
    check_gas("Bond", measured, {"delegate": 300_000, "slash": 400_000})
