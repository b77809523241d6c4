"""What entries and events mean for customers' money, and how much of a pot is the take."""

from dataclasses import replace
from typing import Any

import pytest

from atoll.coordinator.funding import rules
from atoll.coordinator.funding.model import CHAIN_DEPOSIT, Customer, EpochNeeds, Progress
from atoll.coordinator.funding.rules import Places, Told
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.rules import check

MICRO = 10**6
CUSTOMER = b"a customer"
OWNER = Account.of(AccountKind.CUSTOMER, CUSTOMER)
OPERATOR = Account.of(AccountKind.OPERATOR)
PLACES = Places(
    b"o" * 20, {"Escrow": b"e" * 20, "Treasury": b"t" * 20, "EpochDistributor": b"d" * 20}
)
ESCROW, TREASURY, DISTRIBUTOR = (
    PLACES.stable_at(name) for name in ("Escrow", "Treasury", "EpochDistributor")
)
NEEDS = EpochNeeds(
    epoch=1,
    released_micro=800,
    held_micro=80,
    take_pico=120 * MICRO + 999_999,
    top_up_pico=0,
    insured_pico=0,
)


def entry(kind: str, key: bytes, change_pico: int) -> Entry:
    return Entry(key, kind, b"e", (Posting(OPERATOR, change_pico), Posting(OWNER, -change_pico)))


def told(contract: str, name: str, **values: Any) -> Told:
    return Told(1, contract, name, values, PLACES.addresses[contract], b"x" * 32, 0)


def text(address: bytes) -> str:
    return "0x" + address.hex()


# --- the ledger -----------------------------------------------------------------------------------


def after(one: Customer, *entries: Entry) -> Customer:
    for posted in entries:
        for change in rules.customers_of(posted).values():
            one = rules.after_entry(one, posted, change)
    return one


def test_fractions_of_a_unit_wait_for_a_later_credit() -> None:
    one = after(Customer(CUSTOMER), entry("deposit", b"1", 2 * MICRO + 400_000))
    assert one.to_deposit_micro == 2
    one = after(replace(one, deposited_micro=2), entry("top-up", b"2", 599_999))
    assert one.to_deposit_micro == 0
    assert after(one, entry("top-up", b"3", 1)).to_deposit_micro == 1


def test_charges_are_drawn_and_other_debits_withdrawn() -> None:
    one = after(Customer(CUSTOMER), entry("deposit", b"1", 100 * MICRO))
    one = replace(one, deposited_micro=100)
    one = after(one, entry("epoch", b"epoch/1/0", -30 * MICRO - 1))
    one = after(one, entry("withdrawal", b"w", -50 * MICRO))
    assert (one.to_draw_micro, one.balance_pico) == (30, 20 * MICRO - 1)
    assert one.to_withdraw_micro == 0, "nothing has arrived"
    assert replace(one, arrived_micro=100).to_withdraw_micro == 50
    assert replace(one, arrived_micro=20).to_withdraw_micro == 20


def test_what_an_epoch_gives_back_lowers_what_is_drawn_next() -> None:
    one = after(Customer(CUSTOMER), entry("deposit", b"1", 100 * MICRO))
    one = replace(after(one, entry("epoch", b"epoch/1/0", -30 * MICRO)), drawn_micro=30)
    one = after(one, entry("epoch", b"epoch/2/0", 10 * MICRO))
    assert (one.to_draw_micro, one.balance_pico) == (0, 80 * MICRO)
    assert after(one, entry("epoch", b"epoch/3/0", -12 * MICRO)).to_draw_micro == 2


def test_a_deposit_that_stands_on_the_chain_is_not_made_again() -> None:
    one = after(Customer(CUSTOMER), entry(CHAIN_DEPOSIT, b"1", 5 * MICRO))
    assert (one.to_deposit_micro, one.arrived_micro) == (0, 5)
    undone = after(one, entry(CHAIN_DEPOSIT, b"2", -5 * MICRO))
    assert undone == Customer(CUSTOMER), "nor withdrawn, if the chain loses it"


# --- the take -------------------------------------------------------------------------------------


def test_the_take_is_what_all_takes_come_to_less_what_was_sent() -> None:
    assert rules.take_micro(1_000, 1_200, NEEDS, Progress(), 0) == 120
    assert rules.take_micro(1_000, 1_200, NEEDS, Progress(take_micro=100), 0) == 20
    assert rules.take_micro(1_000, 1_200, NEEDS, Progress(take_micro=121), 0) == 0


def test_the_take_is_within_the_escrows_share_rounded_up() -> None:
    many = replace(NEEDS, take_pico=10**12, released_micro=0, held_micro=0)
    assert rules.take_micro(1_001, 1_200, many, Progress(), 0) == 121
    assert rules.take_micro(1_000, 1_200, many, Progress(), 0) == 120


def test_leaves_come_before_the_take() -> None:
    dear = replace(NEEDS, released_micro=850)
    assert rules.take_micro(1_000, 1_200, dear, Progress(), 0) == 70
    assert rules.take_micro(1_000, 1_200, dear, Progress(), 49) == 119, "some is there"
    topped = replace(dear, top_up_pico=20 * MICRO - 1, insured_pico=20 * MICRO)
    assert rules.take_micro(1_000, 1_200, topped, Progress(), 0) == 110, "others pay for some"
    assert rules.take_micro(1_000, 1_200, topped, Progress(advanced_micro=40), 40) == 110
    assert rules.take_micro(1_000, 1_200, replace(dear, released_micro=5_000), Progress(), 0) == 0


def test_insurance_and_operator_pay_up_to_their_sums() -> None:
    needs = replace(NEEDS, top_up_pico=2 * MICRO + 1, insured_pico=5 * MICRO + 999_999)
    assert rules.due_of_insurance_micro(needs, Progress(insured_micro=2)) == 3
    assert rules.due_of_insurance_micro(replace(needs, insured_pico=-1), Progress()) == 0
    assert rules.due_of_operator_micro(needs, Progress(), 0) == 8
    assert rules.due_of_operator_micro(needs, Progress(insured_micro=5), 4) == 7
    assert rules.due_of_operator_micro(needs, Progress(insured_micro=5, advanced_micro=6), 4) == 1
    assert rules.due_of_operator_micro(needs, Progress(advanced_micro=60), 4) == 0


def test_a_pot_keeps_within_the_escrows_cap() -> None:
    found = [Customer(b"%d" % number, charged_pico=40 * MICRO) for number in range(3)]
    draws = rules.draws_of(found, 100)
    assert [(one.customer, one.amount_micro) for one in draws] == [
        (b"0", 40),
        (b"1", 40),
        (b"2", 20),
    ]
    many = [rules.Draw(b"%d" % number, 1) for number in range(600)]
    assert [len(body.customers) for body in rules.batches(many)] == [256, 256, 88]


# --- events ---------------------------------------------------------------------------------------


def amounts(
    event: Told, customer: bytes | None = None, buckets: dict[str, int] | None = None
) -> tuple[str, dict[Account, int]]:
    kind, postings = rules.postings_of(event, PLACES, customer, buckets or {})
    check(Entry(b"k", kind, b"e", tuple(postings)))
    return kind, {one.account: one.amount_pico for one in postings}


def test_deposits_are_the_operators_a_friends_or_a_strangers() -> None:
    def deposited(payer: bytes) -> Told:
        return told("Escrow", "Deposited", customer=b"k" * 32, payer=text(payer), amount_micro=7)

    paid = 7 * MICRO
    kind, moved = amounts(deposited(PLACES.operator), CUSTOMER)
    assert (kind, moved) == ("escrow deposit", {ESCROW: paid, OPERATOR: -paid})
    kind, moved = amounts(deposited(b"f" * 20), CUSTOMER)
    assert (kind, moved) == (CHAIN_DEPOSIT, {ESCROW: paid, OWNER: -paid})
    kind, moved = amounts(deposited(b"f" * 20))
    assert moved == {ESCROW: paid, rules.STRANGERS: -paid}


def test_a_release_goes_to_distributor_and_treasury() -> None:
    event = told("Escrow", "Released", epoch=1, providers_micro=88, take_micro=12)
    _, postings = rules.postings_of(event, PLACES, None, {})
    assert sum(one.amount_pico for one in postings) == 0
    assert Posting(DISTRIBUTOR, 88 * MICRO) in postings
    assert Posting(TREASURY, 12 * MICRO) in postings
    assert rules.sent_by(event, PLACES) == 88


@pytest.mark.parametrize(("owed", "of_bucket", "beyond"), [(9, 5, 0), (3, 3, 2), (0, 0, 5)])
def test_a_payee_takes_what_his_share_owes_him(owed: int, of_bucket: int, beyond: int) -> None:
    event = told("Treasury", "Withdrawn", bucket=4, receiver=text(b"p" * 20), amount_micro=5)
    _, postings = rules.postings_of(event, PLACES, None, {"stakers": owed * MICRO})
    found = {one.account: one.amount_pico // MICRO for one in postings if one.amount_pico > 0}
    stakers = Account.of(AccountKind.BUCKET, b"stakers")
    wanted = {stakers: of_bucket, OPERATOR: beyond}
    assert found == {account: amount for account, amount in wanted.items() if amount}
    assert rules.sent_by(event, PLACES) == 0


def test_insurance_that_pays_the_distributor_stays_in_the_books() -> None:
    event = told(
        "Treasury",
        "Withdrawn",
        bucket=0,
        receiver=text(PLACES.addresses["EpochDistributor"]),
        amount_micro=5,
    )
    _, moved = amounts(event)
    assert moved == {DISTRIBUTOR: 5 * MICRO, TREASURY: -5 * MICRO}
    assert rules.sent_by(event, PLACES) == 5


def test_funds_that_were_sent_are_not_counted_twice() -> None:
    def funded(payer: bytes, amount: int) -> Told:
        return told("EpochDistributor", "Funded", payer=text(payer), amount_micro=amount)

    now = Progress(sent_micro=100)
    now, postings = rules.counted(funded(PLACES.operator, 30), PLACES, now)
    assert postings == [], "it may be of what was sent"
    now, postings = rules.counted(funded(b"f" * 20, 100), PLACES, now)
    assert postings[0] == Posting(DISTRIBUTOR, 30 * MICRO), "but not all of it"
    assert (now.counted_micro, now.sent_micro) == (130, 130)
    now, postings = rules.counted(funded(PLACES.operator, 5), PLACES, now)
    assert postings == [Posting(DISTRIBUTOR, 5 * MICRO), Posting(OPERATOR, -5 * MICRO)]


def test_a_reversal_takes_all_back_once() -> None:
    posted = entry("claim", told("Escrow", "Deposited").key(), 5)
    back = rules.reversal(posted)
    assert rules.customers_of(back) == {CUSTOMER: -5}
    assert back.key == rules.reversal(posted).key != posted.key
    keys = {told("Escrow", "Deposited").key(generation) for generation in range(3)}
    assert len(keys) == 3
    assert max(len(key) for key in keys) <= 64
