"""The bond against a model: conservation, prices only a slash lowers, rewards by the second."""

from collections import defaultdict
from fractions import Fraction
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from tests.contracts.machine import Machine, run_machine
from tests.contracts.settlement import REWARD_S, UNBONDING_S, World, make_world
from tests.contracts.world import TOKEN, account, now_s, pass_time

DELEGATORS = ("delegator 1", "delegator 2", "delegator 3")
VIRTUAL = 10**6
WIDTH = UNBONDING_S // 2


class Pot:
    """Assets and shares; exact, by the rule of the specification."""

    def __init__(self) -> None:
        self.assets = self.shares = 0

    def shares_for(self, amount: int) -> int:
        return amount * (self.shares + VIRTUAL) // (self.assets + 1)

    def assets_for(self, shares: int) -> int:
        return shares * (self.assets + 1) // (self.shares + VIRTUAL)

    def add(self, amount: int, shares: int) -> None:
        self.assets += amount
        self.shares += shares

    @property
    def price(self) -> Fraction:
        return Fraction(self.assets + 1, self.shares + VIRTUAL)


class BondMachine(Machine):
    """One node, its operator, three delegators, the court and whoever pays rewards."""

    world: ClassVar[World]
    node: ClassVar[bytes]

    def __init__(self) -> None:
        super().__init__()
        self.bond = self.world.bond
        self.own = 0
        self.own_leaving: dict[int, int] = defaultdict(int)
        self.generation = 0
        self.pools: dict[int, Pot] = defaultdict(Pot)
        self.shares: dict[tuple[int, str], int] = defaultdict(int)
        self.leaving: dict[tuple[int, int], Pot] = defaultdict(Pot)
        self.units: dict[tuple[int, int, str], int] = defaultdict(int)
        self.prices: dict[int, Fraction] = {}
        self.left, self.last_s, self.end_s = 0, 0, 0
        self.bps, self.next_bps, self.next_s = 0, 0, 0
        self.earned: dict[str, Fraction] = defaultdict(Fraction)
        self.operator = Fraction(0)
        self.rewarded = self.paid = 0
        self.flows = 0
        self.taken = 0

    # The model's own rules

    def flow(self) -> None:
        """Let rewards flow until now, cut where the commission rises."""
        now = now_s()
        if self.next_s and now >= self.next_s:
            if self.left and self.last_s < self.next_s:
                self.flow_until(self.next_s)
            self.bps, self.next_s = self.next_bps, 0
        if self.left:
            self.flow_until(now)

    def flow_until(self, until: int) -> None:
        pool = self.pools[self.generation]
        if self.own + pool.assets == 0:
            self.end_s += until - self.last_s
            self.last_s = until
            return
        amount = self.left
        if until < self.end_s:
            amount = self.left * (until - self.last_s) // (self.end_s - self.last_s)
            if amount == 0:
                return
        behind = Fraction(0)
        if pool.shares:
            behind = Fraction(amount * pool.assets, self.own + pool.assets)
            behind *= Fraction(10_000 - self.bps, 10_000)
            for role in DELEGATORS:
                part = Fraction(self.shares[self.generation, role], pool.shares)
                self.earned[role] += behind * part
        self.operator += amount - behind
        self.left -= amount
        self.last_s = until
        self.flows += 1

    def liable(self) -> tuple[int, int]:
        last = now_s() // WIDTH
        buckets = range(last - 2, last + 1)
        own = self.own + sum(self.own_leaving[bucket] for bucket in buckets)
        generation = self.generation
        delegated = self.pools[generation].assets + sum(
            self.leaving[generation, bucket].assets for bucket in buckets
        )
        return own, delegated

    # Rules

    amounts = st.one_of(
        st.integers(1, 5), st.integers(1, 60).map(lambda n: n * TOKEN), st.integers(1, 10**20)
    )
    delegators = st.sampled_from(DELEGATORS)
    parts = st.integers(1, 100)

    @initialize()
    def start(self) -> None:
        # A world in which the rules below find something to do.
        self.bond_own(500 * TOKEN)
        for role in DELEGATORS:
            self.delegate(role, 100 * TOKEN)
        self.leave(DELEGATORS[2], 100)
        self.leave_own(10)
        self.reward(10**8)
        self.wait(3 * WIDTH // DAY, 0)

    @rule(amount=amounts)
    def bond_own(self, amount: int) -> None:
        self.attempt(
            "bond_own",
            True,
            lambda: self.bond.bond_own(self.node, amount, sender=account("provider")),
        )
        self.flow()
        self.own += amount

    @rule(part=parts)
    def leave_own(self, part: int) -> None:
        amount = self.own * part // 100
        allowed = amount > 0
        bucket = self.attempt(
            "leave_own",
            allowed,
            lambda: self.bond.leave_own(self.node, amount, sender=account("provider")),
        )
        if allowed:
            self.flow()
            assert bucket == now_s() // WIDTH
            self.own -= amount
            self.own_leaving[bucket] += amount

    @rule(pick=st.integers(0, 50))
    def withdraw_own(self, pick: int) -> None:
        now = now_s() // WIDTH
        buckets = [bucket for bucket in sorted(self.own_leaving) if self.own_leaving[bucket]]
        bucket = [*buckets, now][pick % (len(buckets) + 1)]
        allowed = bucket + 3 <= now and self.own_leaving[bucket] > 0
        got = self.attempt(
            "withdraw_own",
            allowed,
            lambda: self.bond.withdraw_own(self.node, bucket, sender=account("provider")),
        )
        if allowed:
            assert got == self.own_leaving[bucket]
            self.own_leaving[bucket] = 0

    @rule(role=delegators, amount=amounts)
    def delegate(self, role: str, amount: int) -> None:
        pool = self.pools[self.generation]
        allowed = pool.assets + amount <= self.own
        shares = self.attempt(
            "delegate",
            allowed,
            lambda: self.bond.delegate(self.node, amount, 0, sender=account(role)),
        )
        if allowed:
            self.flow()
            assert shares == pool.shares_for(amount)
            pool.add(amount, shares)
            self.shares[self.generation, role] += shares

    @rule(role=delegators, part=parts)
    def leave(self, role: str, part: int) -> None:
        generations = [key for key in self.shares if key[1] == role and self.shares[key]]
        generation = generations[part % len(generations)][0] if generations else 0
        shares = self.shares[generation, role] * part // 100
        allowed = shares > 0
        bucket = self.attempt(
            "leave",
            allowed,
            lambda: self.bond.leave(self.node, generation, shares, sender=account(role)),
        )
        if not allowed:
            return
        self.flow()
        assert bucket == now_s() // WIDTH
        pool, gone = self.pools[generation], self.leaving[generation, bucket]
        amount = pool.assets_for(shares)
        units = gone.shares_for(amount)
        pool.add(-amount, -shares)
        gone.add(amount, units)
        self.shares[generation, role] -= shares
        self.units[generation, bucket, role] += units

    @rule(role=delegators, pick=st.integers(0, 50))
    def withdraw(self, role: str, pick: int) -> None:
        keys = [key for key in self.units if key[2] == role and self.units[key]]
        if not keys:
            return
        generation, bucket, _ = key = keys[pick % len(keys)]
        allowed = now_s() // WIDTH >= bucket + 3
        got = self.attempt(
            "withdraw",
            allowed,
            lambda: self.bond.withdraw(self.node, generation, bucket, sender=account(role)),
        )
        if allowed:
            gone = self.leaving[generation, bucket]
            assert got == gone.assets_for(self.units[key])
            gone.add(-got, -self.units[key])
            self.units[key] = 0

    @rule(thousandths=st.integers(1, 700), all_of_it=st.integers(0, 9))
    def slash(self, thousandths: int, all_of_it: int) -> None:
        own, delegated = self.liable()
        amount = (own + delegated) * thousandths // 1_000 if all_of_it else 2**256 - 1
        before = self.world.token.balanceOf(self.world.court.address)
        taken = self.attempt(
            "slash",
            True,
            lambda: self.bond.slash(self.node, amount, sender=self.world.court.address),
        )
        self.flow()
        assert taken == min(amount, own + delegated)
        assert self.world.token.balanceOf(self.world.court.address) == before + taken
        self.taken += taken
        if taken:
            self.done("slash of something")
        last = now_s() // WIDTH
        self.own = self.cut(
            self.own,
            min(amount, own),
            own,
            [(self.own_leaving, last - back) for back in range(3)],
        )
        if amount > own and delegated:
            self.done("slash of delegations")
        generation = self.generation
        pool, left, total = self.pools[generation], min(max(amount - own, 0), delegated), delegated
        for back in range(3):
            gone = self.leaving[generation, last - back]
            if gone.assets:
                part = left * gone.assets // total
                left, total = left - part, total - gone.assets
                gone.assets -= part
        pool.assets -= left
        self.prices.clear()
        if pool.assets * 10**12 < pool.shares:
            self.generation += 1

    @staticmethod
    def cut(active: int, want: int, total: int, buckets: list[tuple[dict[int, int], int]]) -> int:
        for leaving, bucket in buckets:
            there = leaving[bucket]
            if there:
                part = want * there // total
                want, total = want - part, total - there
                leaving[bucket] -= part
        return active - want

    @rule(amount=st.integers(1, 10**9))
    def reward(self, amount: int) -> None:
        self.attempt(
            "reward", True, lambda: self.bond.reward(self.node, amount, sender=account("rewarder"))
        )
        self.flow()
        now = now_s()
        ahead = self.left * (self.end_s - now) if self.left else 0
        self.left += amount
        self.end_s = now + max((ahead + amount * REWARD_S) // self.left, 1)
        self.last_s = now
        self.rewarded += amount

    @rule(role=delegators)
    def claim_reward(self, role: str) -> None:
        before = self.world.stable.balanceOf(account(role))
        got = 0
        for generation in range(self.generation + 1):
            got += self.attempt(
                "claim_reward",
                True,
                lambda generation=generation: self.bond.claim_reward(
                    self.node, generation, account(role)
                ),
            )
        self.flow()
        assert self.world.stable.balanceOf(account(role)) == before + got
        expected = self.earned[role]
        # The contract rounds down at every flow, never up.
        assert expected - 2 * self.flows - 2 <= got <= expected
        self.earned[role] -= got
        self.paid += got

    @rule()
    def claim_operator(self) -> None:
        got = self.attempt("claim_operator", True, lambda: self.bond.claim_operator(self.node))
        self.flow()
        # What rounding keeps from delegations is the operator's.
        assert self.operator - 1 <= got <= self.operator + 2 * self.flows
        self.operator -= got
        self.paid += got

    @rule(bps=st.integers(0, 3_100))
    def set_commission(self, bps: int) -> None:
        allowed = bps <= 3_000
        self.attempt(
            "set_commission",
            allowed,
            lambda: self.bond.set_commission(self.node, bps, sender=account("provider")),
        )
        if not allowed:
            return
        self.flow()
        if bps <= self.bps:
            self.bps, self.next_bps, self.next_s = bps, bps, 0
        else:
            self.next_bps, self.next_s = bps, now_s() + UNBONDING_S

    @rule(days=st.integers(0, 8), seconds=st.integers(1, 50_000))
    def wait(self, days: int, seconds: int) -> None:
        pass_time(days * DAY + seconds)
        self.done("wait")

    # What always holds

    @invariant()
    def conserves(self) -> None:
        own, delegated = self.liable()
        assert self.bond.coverage(self.node) == (own, delegated, 0)
        everything = self.own + sum(self.own_leaving.values())
        everything += sum(pool.assets for pool in self.pools.values())
        everything += sum(gone.assets for gone in self.leaving.values())
        assert self.world.token.balanceOf(self.bond.address) == everything
        assert self.world.stable.balanceOf(self.bond.address) == self.rewarded - self.paid
        owed = sum(self.earned.values()) + self.operator + self.left
        assert owed == self.rewarded - self.paid

    @invariant()
    def shares_are_covered_and_worth_no_less(self) -> None:
        for generation, pool in self.pools.items():
            held = [self.shares[generation, role] for role in DELEGATORS]
            assert sum(held) == pool.shares
            assert sum(pool.assets_for(shares) for shares in held) <= pool.assets
            price = pool.price
            assert price >= self.prices.get(generation, price)
            self.prices[generation] = price
            assert self.bond.pools(self.node, generation) == (pool.assets, pool.shares)
        role = DELEGATORS[self.flows % 3]
        shares = self.shares[self.generation, role]
        worth = self.pools[self.generation].assets_for(shares)
        assert self.bond.worth(self.node, self.generation, account(role)) == worth


DAY = 86_400


@pytest.fixture(scope="module")
def world() -> World:
    made = make_world()
    for role in ("provider", *DELEGATORS):
        made.give_token(role)
    made.give_stable("rewarder")
    return made


def test_bond_against_a_model(world: World) -> None:
    BondMachine.world = world
    BondMachine.node = world.register("node", "provider", "payout")
    run_machine(BondMachine, runs=14, steps=30)
