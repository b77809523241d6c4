"""The distributor against a brute-force model: who is paid what, and which roots stand."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.sumtree import Leaf, sums_word
from tests.contracts.machine import Machine, run_machine
from tests.contracts.settlement import (
    ANSWER_S,
    CHALLENGE_S,
    DEMAND_FEE,
    PROPOSER_BOND,
    RawTree,
    World,
    account_bytes,
    leaf_tuple,
    make_world,
    propose,
)
from tests.contracts.world import EURO_MICRO, account, now_s, pass_time

PROVIDERS = tuple(f"provider {number}" for number in range(6))
ACCOUNTS = tuple(sorted(account_bytes(role) for role in PROVIDERS))
FAULTS = ("sum", "leaf", "double", "falling", "missing", "garbage")
ACTORS = ("funder", "proposer", "watcher", "relayer", "insurance")
Amounts = dict[bytes, tuple[int, int]]


@dataclass
class Open:
    """The open proposal: its tree, what is wrong with it, what was asked of it."""

    epoch: int
    attempt: int
    tree: RawTree
    fault: str
    ends_s: int
    amounts: Amounts
    deadlines: dict[int, int] = field(default_factory=dict)


def raw(amounts: Amounts) -> list[Leaf]:
    return [Leaf(one, *amounts[one]) for one in sorted(amounts)]


def hexed(one: bytes) -> str:
    return "0x" + one.hex()


class EpochMachine(Machine):
    """Funds come in, right and wrong roots are proposed, struck, made final, claimed."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.contract = self.world.distributor
        self.balances = {role: self.world.stable.balanceOf(account(role)) for role in ACTORS}
        self.funded = self.paid = self.locked = 0
        self.attempts = self.last_epoch = 0
        self.open: Open | None = None
        self.final: dict[int, RawTree] = {}
        self.records: dict[bytes, tuple[int, int, int]] = dict.fromkeys(ACCOUNTS, (0, 0, 0))
        # Demands that are neither answered nor paid back, by attempt.
        self.fees: dict[tuple[int, int], None] = {}

    # Rules

    @initialize()
    def start(self) -> None:
        self.fund(500 * EURO_MICRO)
        self.absorb(1)
        self.right_root([3, 0, 5, 1, 9, 2], 1, 0, True, False)
        self.wrong_root("double", True, [1] * 6, 0)
        self.claim(0, 0, 0)

    @rule(amount=st.integers(1, 300 * EURO_MICRO))
    def fund(self, amount: int) -> None:
        self.attempt("fund", True, lambda: self.contract.fund(amount, sender=account("funder")))
        self.funded += amount
        self.balances["funder"] -= amount

    @rule(amount=st.integers(0, EURO_MICRO))
    def absorb(self, amount: int) -> None:
        self.world.stable.mint(self.contract.address, amount)
        got = self.attempt("absorb", True, self.contract.absorb)
        assert got == amount
        self.funded += amount

    growths = st.lists(st.integers(0, 30), min_size=6, max_size=6)

    def propose(self, fault: str, step: int, growth: list[int]) -> None:
        before = self.final.get(self.last_epoch)
        old = {leaf.account: leaf for leaf in before.leaves} if before else {}
        amounts: Amounts = {}
        for one, more in zip(ACCOUNTS, growth, strict=True):
            released = old[one].released_micro if one in old else 0
            # Who earned nothing yet is in no tree.
            if released or more:
                amounts[one] = (released + more * 100_003, more * 10_007)
        tree = self.spoil(fault, amounts, old)
        if tree is None:
            return
        released, held = tree.sums
        allowed = (
            self.open is None
            and released + held <= self.funded
            and released >= (before.sums[0] if before else 0)
        )
        epoch = self.last_epoch + step
        self.attempt("propose", allowed, lambda: propose(self.world, epoch, tree))
        if allowed:
            self.attempts += 1
            self.open = Open(epoch, self.attempts, tree, fault, now_s() + CHALLENGE_S, amounts)
            self.locked += PROPOSER_BOND
            self.balances["proposer"] -= PROPOSER_BOND

    @staticmethod
    def spoil(fault: str, amounts: Amounts, old: dict[bytes, Leaf]) -> RawTree | None:
        """A tree with one fault; None where these amounts do not allow it."""
        leaves = raw(amounts)
        if not leaves or (fault and len(leaves) < 3):
            return None
        owed = [leaf for leaf in leaves if leaf.account in old]
        owed = [leaf for leaf in owed if old[leaf.account].released_micro]
        word = sums_word(5 * EURO_MICRO, 7)
        if fault == "sum":
            return RawTree(leaves, sums={(1, 0): word})
        if fault == "leaf":
            return RawTree(leaves, sums={(0, 1): word})
        if fault == "garbage":
            node = keccak_256(b"garbage") + word.to_bytes(32, "big")
            return RawTree(leaves, nodes={(0, 1): node})
        if fault == "double":
            return RawTree([*leaves[:2], leaves[1], *leaves[2:]])
        if fault in ("falling", "missing") and owed:
            victim = owed[len(leaves) % len(owed)]
            place = leaves.index(victim)
            spoilt = [leaf for leaf in leaves if leaf is not victim]
            if fault == "falling":
                less = old[victim.account].released_micro - 1
                spoilt.insert(place, Leaf(victim.account, less, 0))
            # The victims' money goes to somebody else, so that the total does not fall.
            other = (place + 1) % len(spoilt)
            gains = spoilt[other]
            if gains.account == victim.account:
                return None
            spoilt[other] = Leaf(
                gains.account, gains.released_micro + victim.released_micro, gains.held_micro
            )
            return RawTree(spoilt)
        return None if fault else RawTree(leaves)

    @rule(
        fault=st.sampled_from(FAULTS),
        asks=st.booleans(),
        growth=growths,
        place=st.integers(0, 5),
    )
    def wrong_root(self, fault: str, asks: bool, growth: list[int], place: int) -> None:
        """A root with one fault: every other proof fails, the right one or silence strikes it."""
        self.settle()
        self.propose(fault, 1, growth)
        if self.open is None:
            return
        self.done("wrong_root")
        for kind in FAULTS[:-1]:
            if kind != fault:
                self.strike(kind, place)
        if asks or fault == "garbage":
            self.demand(0)
        if fault == "garbage" or (asks and place % 2):
            self.answer()
        if self.fees and (fault == "garbage" or place % 2):
            self.wait(ANSWER_S + 1)
            self.reject_withheld()
        if self.open is not None:
            self.strike(fault, place)
        assert self.open is None
        if self.fees:
            self.reclaim(1)

    @rule(
        growth=growths,
        step=st.integers(1, 3),
        place=st.integers(0, 5),
        asks=st.booleans(),
        stays=st.booleans(),
    )
    def right_root(self, growth: list[int], step: int, place: int, asks: bool, stays: bool) -> None:
        """A right root: no proof strikes it, whoever asks is answered, and it becomes final."""
        self.settle()
        self.propose("", step, growth)
        for kind in FAULTS[:-1]:
            self.strike(kind, place)
        if asks and self.open is not None:
            self.demand(0)
            self.finalise()
            self.answer()
        if not stays:
            self.settle()
        self.done("right_root")

    def settle(self) -> None:
        """Bring the open proposal to its end."""
        if self.open is None:
            return
        if self.open.fault:
            self.strike(self.open.fault, 0)
            return
        if self.fees:
            self.answer()
        self.wait(CHALLENGE_S)
        self.finalise()

    def strike(self, kind: str, place: int) -> None:
        """Show a fault that may not be there."""
        call = self.proof(kind, place) if self.open else None
        if call is None or self.open is None:
            return
        guilty = self.open.fault == kind
        self.attempt("strike of the right fault" if guilty else "strike", guilty, call)
        if guilty:
            self.strike_down("watcher")

    def proof(self, kind: str, place: int) -> Any:
        """The best proof of a fault that the open tree gives."""
        assert self.open is not None
        tree, contract, sender = self.open.tree, self.contract, account("watcher")
        place %= len(tree.leaves)
        if kind == "sum" and tree.depth > 0:
            left, right = tree.node(0, 0), tree.node(0, 1)
            recorded = int.from_bytes(tree.node(1, 0)[32:], "big")
            sums = [int.from_bytes(node[32:], "big") for node in (left, right)]
            return lambda: contract.prove_bad_sum(
                0, recorded, left[:32], sums[0], right[:32], sums[1], tree.path(1, 0),
                sender=sender,
            )  # fmt: skip
        if kind == "leaf" and len(tree.leaves) > 1:
            shown, index, path = tree.shown(1)
            recorded = int.from_bytes(tree.node(0, 1)[32:], "big")
            return lambda: contract.prove_bad_leaf(shown, index, recorded, path, sender=sender)
        if kind == "double" and len(tree.leaves) > 2:
            return lambda: contract.prove_disorder(tree.shown(1), tree.shown(2), sender=sender)
        old = self.final.get(self.last_epoch)
        if old is None:
            return None
        there = {leaf.account: index for index, leaf in enumerate(tree.leaves)}
        if kind == "falling":
            pairs = [
                (index, there[leaf.account])
                for index, leaf in enumerate(old.leaves)
                if leaf.account in there
            ]
            worst = min(
                pairs,
                key=lambda pair: (
                    tree.leaves[pair[1]].released_micro - old.leaves[pair[0]].released_micro
                ),
                default=None,
            )
            if worst is None:
                return None
            return lambda: contract.prove_falling(
                old.count, old.shown(worst[0]), tree.shown(worst[1]), sender=sender
            )
        if kind == "missing":
            return self.proof_of_missing(old, tree, place)
        return None

    def proof_of_missing(self, old: RawTree, tree: RawTree, place: int) -> Any:
        names = [leaf.account for leaf in tree.leaves]
        gone = [
            index
            for index, leaf in enumerate(old.leaves)
            if leaf.account not in names and leaf.released_micro
        ]
        index = gone[0] if gone else place % len(old.leaves)
        after = sum(name < old.leaves[index].account for name in names)
        beside = [tree.shown(at) for at in (after - 1, after) if 0 <= at < len(names)]
        return lambda: self.contract.prove_missing(
            old.count, old.shown(index), beside, sender=account("watcher")
        )

    def strike_down(self, challenger: str) -> None:
        self.open = None
        self.locked -= PROPOSER_BOND
        self.balances[challenger] += PROPOSER_BOND // 2
        self.balances["insurance"] += PROPOSER_BOND // 2

    @rule(chunk=st.sampled_from((0, 0, 0, 1)))
    def demand(self, chunk: int) -> None:
        allowed = (
            self.open is not None
            and now_s() < self.open.ends_s
            and chunk == 0
            and chunk not in self.open.deadlines
        )
        self.attempt(
            "demand", allowed, lambda: self.contract.demand(chunk, sender=account("watcher"))
        )
        if allowed and self.open:
            self.open.deadlines[chunk] = now_s() + ANSWER_S
            self.fees[self.open.attempt, chunk] = None
            self.balances["watcher"] -= DEMAND_FEE
            self.locked += DEMAND_FEE

    @rule()
    def answer(self) -> None:
        if self.open is None:
            return
        asked = (self.open.attempt, 0) in self.fees
        # Nobody can show garbage, a leaf with another sum, or two leaves of one account.
        allowed = asked and self.open.fault not in ("garbage", "leaf", "sum", "double")
        leaves = [leaf_tuple(leaf) for leaf in self.open.tree.leaves]
        self.attempt(
            "answer",
            allowed,
            lambda: self.contract.answer(0, leaves, [], sender=account("relayer")),
        )
        if allowed:
            del self.fees[self.open.attempt, 0]
            self.balances["relayer"] += DEMAND_FEE
            self.locked -= DEMAND_FEE

    @rule()
    def reject_withheld(self) -> None:
        allowed = (
            self.open is not None
            and (self.open.attempt, 0) in self.fees
            and now_s() > self.open.deadlines[0]
        )
        self.attempt("reject_withheld", allowed, lambda: self.contract.reject_withheld(0))
        if allowed and self.open:
            del self.fees[self.open.attempt, 0]
            self.balances["watcher"] += DEMAND_FEE
            self.locked -= DEMAND_FEE
            self.strike_down("watcher")

    @rule(pick=st.integers(0, 20))
    def reclaim(self, pick: int) -> None:
        attempt = pick % (self.attempts + 1)
        if self.fees and pick % 3:
            attempt = next(iter(self.fees))[0]
        still_open = self.open is not None and self.open.attempt == attempt
        allowed = (attempt, 0) in self.fees and not still_open
        self.attempt("reclaim", allowed, lambda: self.contract.reclaim(attempt, 0))
        if allowed:
            del self.fees[attempt, 0]
            self.balances["watcher"] += DEMAND_FEE
            self.locked -= DEMAND_FEE

    @rule(seconds=st.sampled_from((1, ANSWER_S, ANSWER_S + 1, CHALLENGE_S - 1, CHALLENGE_S)))
    def wait(self, seconds: int) -> None:
        pass_time(seconds)
        self.done("wait")

    @rule()
    def finalise(self) -> None:
        allowed = (
            self.open is not None
            and now_s() >= self.open.ends_s
            and (self.open.attempt, 0) not in self.fees
        )
        self.attempt("finalise", allowed, self.contract.finalise)
        if allowed and self.open:
            self.final[self.open.epoch] = self.open.tree
            self.last_epoch = self.open.epoch
            self.open = None
            self.locked -= PROPOSER_BOND
            self.balances["proposer"] += PROPOSER_BOND

    def pay(self, epoch: int, leaf: Leaf) -> int:
        paid, held, seen = self.records[leaf.account]
        amount = max(0, leaf.released_micro - paid)
        if epoch >= seen:
            held, seen = leaf.held_micro, epoch
        self.records[leaf.account] = (paid + amount, held, seen)
        self.paid += amount
        return amount

    @rule(pick=st.integers(0, 50), place=st.integers(0, 5), lie=st.integers(0, 3))
    def claim(self, pick: int, place: int, lie: int) -> None:
        epochs = sorted(self.final)
        epoch = epochs[pick % len(epochs)]
        tree = self.final[epoch]
        index = place % len(tree.leaves)
        (shown, _, path), told = tree.shown(index), epoch
        if lie == 1:
            shown = (shown[0], shown[1] + (1 << 128))
        elif lie == 2:
            told = self.last_epoch + 1
        got = self.attempt(
            "claim",
            lie not in (1, 2),
            lambda: self.contract.claim(told, tree.count, index, shown, path),
        )
        if lie not in (1, 2):
            assert got == self.pay(epoch, tree.leaves[index])
            if got:
                self.done("claim of something")

    @rule(
        pick=st.integers(0, 50),
        level=st.integers(0, 3),
        place=st.integers(0, 5),
        skip=st.integers(0, 255),
    )
    def claim_many(self, pick: int, level: int, place: int, skip: int) -> None:
        epochs = sorted(self.final)
        epoch = epochs[pick % len(epochs)]
        tree = self.final[epoch]
        level = min(level, tree.depth)
        position = place % (((tree.count - 1) >> level) + 1)
        leaves = tree.leaves[position << level : (position + 1) << level]
        got = self.attempt(
            "claim_many",
            True,
            lambda: self.contract.claim_many(
                epoch,
                tree.count,
                level,
                position,
                [leaf_tuple(leaf) for leaf in leaves],
                skip,
                tree.path(level, position),
            ),
        )
        expected = sum(
            self.pay(epoch, leaf) for at, leaf in enumerate(leaves) if not skip >> at & 1
        )
        assert got == expected

    # What always holds

    @invariant()
    def every_unit_is_somewhere(self) -> None:
        contract, stable = self.contract, self.world.stable
        assert contract.funded_micro() == self.funded
        assert (
            contract.paid_micro() == self.paid == sum(paid for paid, _, _ in self.records.values())
        )
        assert contract.locked_micro() == self.locked
        assert stable.balanceOf(contract.address) == self.funded - self.paid + self.locked
        for role, balance in self.balances.items():
            assert stable.balanceOf(account(role)) == balance, role

    @invariant()
    def accounts_have_what_they_were_paid(self) -> None:
        for one, (paid, held, epoch) in self.records.items():
            assert self.world.stable.balanceOf(hexed(one)) == paid
            assert self.contract.paid_of(hexed(one)) == paid
            assert self.contract.held_of(hexed(one)) == held
            assert self.contract.epoch_of(hexed(one)) == epoch

    @invariant()
    def what_is_final_is_funded(self) -> None:
        last = self.final.get(self.last_epoch)
        if last:
            assert self.contract.last_epoch() == self.last_epoch
            assert self.contract.final_root(self.last_epoch) == last.root
            assert self.paid <= last.sums[0]
            assert sum(last.sums) <= self.funded
        assert (self.contract.proposal()[4] != 0) == (self.open is not None)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def test_distributor_against_a_model(world: World) -> None:
    EpochMachine.world = world
    run_machine(EpochMachine, runs=8, steps=16)
    counted = EpochMachine.accepted_calls
    assert counted["strike of the right fault"]
    assert counted["claim of something"]
