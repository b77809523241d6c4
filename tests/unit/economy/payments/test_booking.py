"""Statements as entries: they balance, happen once, and leave at the bank what the bank says."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.bank import OURS, PROVIDER, Row, Sheet, Tx, camt

from atoll.core.errors import AtollError
from atoll.economy.ledger import rules
from atoll.economy.ledger.model import Account, AccountKind, Entry
from atoll.economy.payments import booking
from atoll.economy.payments.amounts import pico_of
from atoll.economy.payments.payouts.model import Payout
from atoll.economy.payments.reference import reference_of
from atoll.economy.payments.statements.judge import Expected, Judgement, judge
from atoll.economy.payments.statements.model import Verdict
from atoll.economy.payments.statements.read import read_statements

ANNA = b"a" * 16
RF = reference_of(ANNA)
CENTS = {b"p1": 500, b"p2": 700}
EXPECTED = Expected(OURS, {RF: ANNA}, {"P1": (b"p1", 500)}, {"B1": ((b"p1", 500), (b"p2", 700))})
BANK = booking.bank_account(OURS)
LIFE = st.lists(
    st.sampled_from(
        [
            Row((Tx(1_234, structured=RF),), "X1"),
            Row((Tx(700, (RF,)), Tx(300, (RF,))), "X2", kept=25),
            Row((Tx(700, (RF,)), Tx(300, ("nobody",))), "X3", kept=1),
            Row((Tx(500, end_to_end="P1"),), "X4", debit=True),
            Row((Tx(1_200, batch="B1"),), "X5", debit=True),
            Row((Tx(500, end_to_end="P1", reason="AC04"),), "X6"),
            Row((Tx(5, structured=RF),)),
            Row((Tx(9, structured=RF),), "X7", debit=True, reversal=True),
        ]
    ),
    max_size=8,
).map(tuple)


def judged(rows: tuple[Row, ...], version: str = "08", name: str = "S-1") -> Judgement:
    return judge(read_statements(camt(Sheet(rows, name), version=version)), EXPECTED)


def balances(entries: tuple[Entry, ...]) -> dict[Account, int]:
    found: defaultdict[Account, int] = defaultdict(int)
    for entry in entries:
        rules.check(entry)
        for account, change in rules.changes(entry).items():
            found[account] += change
    return found


@settings(deadline=None, max_examples=80)
@given(LIFE)
def test_the_bank_has_what_its_statement_says_less_what_waits_for_people(
    rows: tuple[Row, ...],
) -> None:
    found = judged(rows)
    after = balances(booking.entries_of(found, OURS, CENTS))
    acted = [one for one in found.movements if one.verdict not in (Verdict.HELD, *WAIT)]
    moved = sum(one.movement.amount_cents for one in acted)
    assert after[BANK] == pico_of(moved - found.charges_cents)
    assert after[Account.of(AccountKind.CUSTOMER, ANNA)] == pico_of(found.credited_cents)
    assert after[Account.of(AccountKind.EXPENSE, b"bank")] == pico_of(found.charges_cents)


WAIT = (Verdict.UNKNOWN, Verdict.TAKEN_BACK, Verdict.OTHER_DEBIT)


def test_another_export_gives_the_same_entries() -> None:
    rows = (Row((Tx(700, (RF,)), Tx(300, (RF,))), "X2", kept=25), Row((Tx(5, structured=RF),)))
    one = booking.entries_of(judged(rows, "02"), OURS, CENTS)
    two = booking.entries_of(judged(rows[::-1], "13", "S-9"), OURS, CENTS)
    assert {entry.key: entry.digest() for entry in one} == {
        entry.key: entry.digest() for entry in two
    }
    assert len(one) == 4


def test_a_payout_goes_out_and_comes_back_to_its_provider() -> None:
    payout, provider = Payout(b"p1", PROVIDER, 500), b"\x11" * 20
    left = judged((Row((Tx(500, end_to_end="P1"),), "X4", debit=True),))
    back = judged((Row((Tx(500, end_to_end="P1", reason="AC04"),), "X6"),))
    entries = (
        booking.entry_of_order(payout, provider),
        *booking.entries_of(left, OURS, CENTS),
        *booking.entries_of(back, OURS, CENTS),
        booking.entry_of_failure(payout, provider),
    )
    assert len({entry.key for entry in entries}) == 4
    assert set(balances(entries).values()) == {0}
    assert balances(entries[:2])[BANK] == -pico_of(500)
    assert balances(entries[:1])[booking.payable_account(b"p1")] == pico_of(500)


def test_payouts_that_do_not_make_up_what_moved_are_refused() -> None:
    left = judged((Row((Tx(500, end_to_end="P1"),), "X4", debit=True),))
    for wrong in ({}, {b"p1": 499}):
        with pytest.raises(AtollError):
            booking.entries_of(left, OURS, wrong)
