"""Funding against a brute-force model of the contracts and of everybody's money.

``Contracts`` does what ``Escrow.vy``, ``Treasury.vy`` and ``EpochDistributor.vy`` say, with
dictionaries; ``Truth`` adds up in exact picos what the ledger says. What funding decides must never
be refused for lack of money, must not lose or make a unit, and must pay for every epoch in the end.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from atoll.coordinator.funding import follow, rules, store, tables, transitions
from atoll.coordinator.funding.model import (
    Act,
    EpochNeeds,
    Move,
    PotState,
)
from atoll.economy.ledger import tables as ledger_tables
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import post_in

OWNER, SECRET = b"o" * 20, b"s" * 32
MICRO = 10**6
TAKE_BPS = 1_200
INSURANCE_BPS = 2_500
CUSTOMERS = [b"customer %d" % number for number in range(6)]
ACCOUNTS = range(3)
OPERATOR = Account.of(AccountKind.OPERATOR)
EXPENSE = Account.of(AccountKind.EXPENSE)
CAP = 5_000_000
BATCH = 2
"""Customers of one call."""
STEPS = ("look", "mine", "mine", "mine", "bring_on", "fund")
LIVES, STEPS_OF_A_LIFE = 40, 60
IDLE_EPOCHS_MAX = 500
SEEN: Counter[str] = Counter()
"""What happened in all runs together: a rule that never does anything tests nothing."""


class RefusalError(Exception):
    """A contract reverts."""


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise RefusalError(reason)


class Contracts:
    """The three contracts, as far as they move money."""

    def __init__(self) -> None:
        self.balance: defaultdict[bytes, int] = defaultdict(int)
        self.noticed: dict[bytes, int] = {}
        self.pots: dict[int, dict[bytes, int]] = {}
        self.state: dict[int, str] = {}
        self.last_epoch = 0
        self.treasury = self.insurance = 0
        self.there = self.funded = 0
        self.operator = 0
        """What the operator paid in, less what came back to him."""

    def do(self, move: Move) -> None:
        getattr(self, move.act.name.lower())(move)

    def deposit(self, move: Move) -> None:
        self.balance[move.body.customers[0]] += move.amount_micro
        self.operator += move.amount_micro

    def notice(self, move: Move) -> None:
        customer = move.body.customers[0]
        need(move.amount_micro <= self.balance[customer], "amount")
        need(customer not in self.noticed, "two notices at once")
        self.noticed[customer] = move.amount_micro

    def withdraw(self, move: Move) -> None:
        customer = move.body.customers[0]
        amount = min(self.noticed.pop(customer), self.balance[customer])
        need(amount == move.amount_micro, "less is left than was noticed")
        self.balance[customer] -= amount
        self.operator -= amount

    def draw(self, move: Move) -> None:
        epoch = move.epoch
        if epoch not in self.pots:
            need(epoch > self.last_epoch, "epoch")
            self.pots[epoch], self.state[epoch] = {}, "open"
            self.last_epoch = epoch
        need(self.state[epoch] == "open", "closed")
        pot = self.pots[epoch]
        for customer, amount in zip(move.body.customers, move.body.sums_micro, strict=True):
            need(customer not in pot, "drawn already")
            need(0 < amount <= self.balance[customer], "balance")
            pot[customer] = amount
            self.balance[customer] -= amount
        need(sum(pot.values()) <= CAP, "cap")

    def release(self, move: Move) -> None:
        need(self.state.get(move.epoch) == "open", "closed")
        drawn, take = sum(self.pots[move.epoch].values()), move.amount_micro
        need(take * 10_000 < drawn * TAKE_BPS + 10_000, "take")
        self.state[move.epoch] = "released"
        self.insurance += take - take * (10_000 - INSURANCE_BPS) // 10_000
        self.treasury += take
        self.there += drawn - take

    def reclaim(self, move: Move) -> None:
        need(self.state.get(move.epoch) == "rejected", "not to be reclaimed")
        for customer in move.body.customers:
            self.balance[customer] += self.pots[move.epoch].pop(customer, 0)

    def absorb(self, move: Move) -> None:
        self.funded = self.there

    def insure(self, move: Move) -> None:
        need(move.amount_micro <= self.insurance, "amount")
        self.insurance -= move.amount_micro
        self.treasury -= move.amount_micro
        self.there += move.amount_micro

    def fund(self, move: Move) -> None:
        self.there += move.amount_micro
        self.funded += move.amount_micro
        self.operator += move.amount_micro

    def all_micro(self) -> int:
        in_pots = sum(
            sum(pot.values()) for epoch, pot in self.pots.items() if self.state[epoch] != "released"
        )
        return sum(self.balance.values()) + in_pots + self.treasury + self.there


class Truth:
    """Everybody's money in picos, as the ledger has it."""

    def __init__(self) -> None:
        self.paid_in = dict.fromkeys(CUSTOMERS, 0)
        self.paid_out = dict.fromkeys(CUSTOMERS, 0)
        self.charged = dict.fromkeys(CUSTOMERS, 0)
        self.highest = dict.fromkeys(CUSTOMERS, 0)
        self.released = dict.fromkeys(ACCOUNTS, 0)
        self.held = dict.fromkeys(ACCOUNTS, 0)
        self.take = self.top_up = self.insurance = self.insured = 0

    def balance(self, customer: bytes) -> int:
        return self.paid_in[customer] - self.paid_out[customer] - self.charged[customer]


class Funding:
    """One coordinator's funding, a chain, and people who do what chance wants."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(rules, "CUSTOMERS_MAX", BATCH)
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        mine = [
            table for table in tables.FUNDING_POT.metadata.sorted_tables if "funding" in table.name
        ]
        tables.FUNDING_POT.metadata.create_all(self.engine, mine)
        ledger_tables.ENTRY.metadata.create_all(self.engine)
        self.chain, self.truth = Contracts(), Truth()
        self.epoch = self.entries = 0
        self.rejected: set[int] = set()

    def close(self) -> None:
        self.engine.dispose()
        self.patch.undo()

    def part(self, amount: int, most: int = 10_000) -> int:
        """Return some of an amount, of ``most`` in 10,000 at most."""
        return amount * self.rng.randrange(most + 1) // 10_000

    def live(self, steps: int) -> None:
        """Do so many things; what must hold holds after each."""
        people = [
            (self.credit, 3),
            (self.withdraw, 1),
            (self.epoch_ends, 3),
            (self.deposits_arrive, 2),
            (self.go_on, 8),
            (self.reject, 1),
        ]
        doings, weights = zip(*people, strict=True)
        for doing in self.rng.choices(doings, weights, k=steps):
            doing()
            assert self.chain.all_micro() == self.chain.operator, "a unit was lost or made"
        for _ in range(IDLE_EPOCHS_MAX):
            self.epoch_ends(idle=True)
            self.settle()
            if self.is_whole():
                break
        self.check_settled()

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self.engine.begin() as connection:
            return function(connection, *arguments, **options)

    def post(self, kind: str, key: bytes, moves: dict[Account, int]) -> None:
        """Post what accounts owe more; an expense makes it sum to zero."""
        postings = [Posting(account, -amount) for account, amount in moves.items() if amount]
        rest = -sum(one.amount_pico for one in postings)
        if rest:
            postings.append(Posting(EXPENSE, rest))
        if len(postings) >= 2:
            self.run(post_in, [Entry(key, kind, b"e", tuple(postings))], 0)

    # --- what people do ---------------------------------------------------------------------------

    def credit(self) -> None:
        who, amount = self.rng.choice(CUSTOMERS), self.rng.randrange(1, 10**13)
        self.entries += 1
        owner = Account.of(AccountKind.CUSTOMER, who)
        self.post("deposit", b"credit/%d" % self.entries, {owner: amount})
        self.truth.paid_in[who] += amount

    def withdraw(self) -> None:
        who = self.rng.choice(CUSTOMERS)
        amount = self.part(self.truth.balance(who))
        if not amount:
            return
        SEEN["withdraw"] += 1
        self.entries += 1
        owner = Account.of(AccountKind.CUSTOMER, who)
        self.post("withdrawal", b"withdraw/%d" % self.entries, {owner: -amount})
        self.truth.paid_out[who] += amount

    def epoch_ends(self, *, idle: bool = False) -> None:
        """Charges, refunds, slashes, repairs, barter and top-ups, in balance to the pico."""
        truth, rng = self.truth, self.rng
        self.epoch += 1
        charges = {who: self.part(truth.balance(who), 3_000) for who in CUSTOMERS}
        if idle or rng.random() < 0.1:
            charges = dict.fromkeys(CUSTOMERS, 0)
        gross = sum(charges.values())
        take = -(-gross * TAKE_BPS // 10_000)
        top_up = self.part(take, 1_000)
        earned = gross - take
        share = take - take * (10_000 - INSURANCE_BPS) // 10_000
        repair = self.part(truth.insurance + share, 5_000)
        # What goes back to customers stays with the distributor and pays for much else.
        generous = rng.random() < 0.3
        account, other = rng.choice(ACCOUNTS), rng.choice(ACCOUNTS)
        struck = self.part(truth.held[other], 5_000)
        back = self.part(struck) if generous else 0
        held = self.part(earned, 5_000)
        barter = self.part(earned - held, 5_000) if generous else 0
        lucky = rng.choice(CUSTOMERS)
        for who, amount in charges.items():
            truth.charged[who] += amount - ((back + barter) if who == lucky else 0)
            truth.highest[who] = max(truth.highest[who], truth.charged[who] // MICRO)
        truth.released[account] += earned - held - barter + repair
        truth.held[account] += held + top_up
        truth.held[other] -= struck
        truth.take, truth.top_up = truth.take + take, truth.top_up + top_up
        truth.insurance += share - repair + struck - back
        truth.insured += repair - (struck - back)
        moves: dict[Account, int] = {}
        for who, amount in charges.items():
            change = ((back + barter) if who == lucky else 0) - amount
            moves[Account.of(AccountKind.CUSTOMER, who)] = change
        self.post("epoch", b"epoch/%d/0" % self.epoch, moves)
        needs = EpochNeeds(
            self.epoch,
            sum(amount // MICRO for amount in truth.released.values()),
            sum(amount // MICRO for amount in truth.held.values()),
            truth.take,
            truth.top_up,
            truth.insured,
        )
        self.run(follow.follow_ledger, OWNER, SECRET)
        assert self.run(follow.follow_document, needs)
        SEEN["epoch"] += 1

    # --- what the coordinator does ----------------------------------------------------------------

    def go_on(self) -> None:
        for what in self.rng.choices(STEPS, k=self.rng.randrange(1, 12)):
            if what == "mine":
                self.mine(self.rng.randrange(20))
            else:
                getattr(self, what)()

    def look(self) -> int:
        found: int = self.run(follow.follow_ledger, OWNER, SECRET)
        return found + int(self.run(transitions.begin_due))

    def mine(self, place: int) -> bool:
        """One act under way comes to its end on the chain."""
        moves = self.run(store.open_moves, 100)
        if not moves:
            return False
        # Deposits and the like come in any order; a pot's acts one after the other.
        self.carry_out(moves[place % len(moves)])
        return True

    def carry_out(self, move: Move) -> None:
        try:
            self.chain.do(move)
        except RefusalError as refusal:
            if str(refusal) != "closed":
                raise
            assert self.run(transitions.drop, move)
            SEEN["dropped " + move.act.value] += 1
        else:
            assert self.run(transitions.finish, move.serial)
            SEEN[move.act.value] += 1

    def bring_on(self) -> bool:
        """The pot takes a step."""
        pot = self.run(store.open_pot)
        if pot is None:
            opened, _ = self.run(transitions.draw, CAP)
            return bool(opened)
        if pot.state is PotState.DRAWING:
            return bool(self.run(transitions.drawn, pot.epoch))
        if pot.state is PotState.RELEASING:
            return bool(self.run(transitions.released, pot.epoch))
        if pot.state is PotState.RECLAIMING:
            return bool(self.run(transitions.given_back, pot.epoch))
        if self.chain.state[pot.epoch] == "rejected":
            return bool(self.run(transitions.give_back, pot.epoch))
        assert sum(self.chain.pots[pot.epoch].values()) == pot.drawn_micro
        wanted = self.run(transitions.want_release, pot.epoch, TAKE_BPS, self.chain.there)
        return bool(wanted)

    def fund(self) -> bool:
        needs = self.run(transitions.newest_needs)
        if needs is None or needs.need_micro <= self.chain.funded:
            return False
        acted, _ = self.run(
            transitions.fund_next,
            needs,
            needs.need_micro - self.chain.funded,
            self.chain.there - self.chain.funded,
            self.chain.insurance,
        )
        return bool(acted)

    def deposits_arrive(self) -> None:
        self.look()
        for move in self.run(store.open_moves, 100):
            if move.act is Act.DEPOSIT:
                self.carry_out(move)

    def reject(self) -> None:
        """The guardian rejects the open pot; in the middle of its draws, if it can be had."""
        if self.run(store.open_pot) is None:
            self.bring_on()
        draws = [move for move in self.run(store.open_moves, 100) if move.act is Act.DRAW]
        if draws:
            self.carry_out(draws[0])
        for epoch, state in self.chain.state.items():
            if state == "open":
                self.chain.state[epoch] = "rejected"
                self.rejected.add(epoch)
                SEEN["rejected"] += 1

    # --- what must hold ---------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything come to its end; then all sums are known."""
        for _ in range(1_000):
            if not (self.look() + self.mine(0) + self.bring_on() + self.fund()):
                break
        else:
            raise AssertionError("it does not come to an end")

    def is_whole(self) -> bool:
        """Say whether all was drawn; otherwise the escrow's cap leaves it to a later epoch."""
        truth, drawn = self.truth, self.drawn()
        found = all(drawn[who] >= truth.charged[who] // MICRO for who in CUSTOMERS)
        SEEN["capped"] += not found
        return found

    def drawn(self) -> dict[bytes, int]:
        return {who: self.run(store.customer, who).drawn_micro for who in CUSTOMERS}

    def check_settled(self) -> None:
        truth, chain = self.truth, self.chain
        assert self.is_whole()
        SEEN["settled"] += 1
        needs = self.run(transitions.newest_needs)
        now = self.run(store.progress_now)
        assert needs.need_micro <= chain.funded, "every epoch is paid for"
        fractions = len(CUSTOMERS) + 1
        insured = max(0, truth.insured // MICRO, now.insured_micro)
        assert now.advanced_micro <= -(-truth.top_up // MICRO) + insured + fractions
        assert now.take_micro <= truth.take // MICRO
        assert chain.treasury == now.take_micro - now.insured_micro
        for who, drawn in self.drawn().items():
            assert truth.charged[who] // MICRO <= drawn <= truth.highest[who]
            SEEN["to the unit"] += drawn == truth.charged[who] // MICRO
            escrow = chain.balance[who]
            paid_in, paid_out = truth.paid_in[who] // MICRO, truth.paid_out[who] // MICRO
            withdrawn = self.run(store.customer, who).withdrawn_micro
            assert escrow == paid_in - withdrawn - drawn
            assert withdrawn == paid_out or not escrow, "as far as it is there"
            # What credits gave back is with the distributor; what is owed to the operator, here.
            in_pool, owed = drawn * MICRO - truth.charged[who], paid_out - withdrawn
            there = (escrow - owed) * MICRO + in_pool
            assert -2 * MICRO < there - truth.balance(who) < 2 * MICRO


def test_no_unit_is_lost_and_every_epoch_is_paid_for() -> None:
    SEEN.clear()
    for seed in range(LIVES):
        funding = Funding(seed)
        try:
            funding.live(STEPS_OF_A_LIFE)
        except BaseException as error:
            error.add_note(f"in life {seed}")
            raise
        finally:
            funding.close()
    wanted = {"settled", "to the unit", "withdraw", "epoch", "rejected", "capped", "dropped draw"}
    wanted |= {
        act.value
        for act in Act
        if act not in (Act.APPROVE_ESCROW, Act.APPROVE_DISTRIBUTOR, Act.FAUCET, Act.REFUND)
    }
    missing = wanted - SEEN.keys()
    assert not missing, (missing, SEEN)


def test_names_in_the_escrow_are_nobody_elses() -> None:
    salts = {rules.salt_of(SECRET, who) for who in CUSTOMERS}
    keys = {rules.escrow_key(OWNER, salt) for salt in salts}
    assert len(salts) == len(keys) == len(CUSTOMERS)
    assert rules.escrow_key(b"p" * 20, min(salts)) not in keys
    assert rules.salt_of(b"t" * 32, CUSTOMERS[0]) not in salts
