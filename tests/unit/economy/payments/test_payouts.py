"""Payout files: valid by the schemas, the same for the same order; and what became of each."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import sepaxml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from tests.fixtures.bank import CUSTOMER_IBAN, OPERATOR, PROVIDER, Row, Sheet, Tx, camt, report

from atoll.core.errors import AtollError, Kind
from atoll.economy.payments import xml
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.amounts import CENTS_MAX, parse_cents
from atoll.economy.payments.payouts import order as orders
from atoll.economy.payments.payouts.model import Payout, PayoutFile, Progress, State, Word
from atoll.economy.payments.payouts.reconcile import heard, read_report, reconcile, words_of
from atoll.economy.payments.statements.judge import Expected, judge
from atoll.economy.payments.statements.read import read_statements

ONE, TWO = Payout(b"1", PROVIDER, 500, "Earnings of October"), Payout(b"2", PROVIDER, 700)
ORDER = PayoutFile(OPERATOR, "2026-11-23", 1_795_000_000_000, (ONE, TWO))
SCHEMAS = {
    version: etree.XMLSchema(
        etree.parse(str(Path(sepaxml.__file__).parent / "schemas" / f"{version}.xsd"))
    )
    for version in orders.VERSIONS
}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.builds(
            Payout,
            st.binary(min_size=1, max_size=64),
            st.builds(
                BankAccount,
                st.text(max_size=100).map(lambda name: "A" + name),
                st.just(CUSTOMER_IBAN),
                st.sampled_from(["", "COBADEFF"]),
            ),
            st.integers(1, CENTS_MAX),
            st.text(max_size=140),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda one: one.payout,
    ).map(tuple),
    st.sampled_from(orders.VERSIONS),
)
def test_every_file_is_valid_and_sums_up(payouts: tuple[Payout, ...], version: str) -> None:
    root = etree.fromstring(orders.write(dataclasses.replace(ORDER, payouts=payouts), version))
    SCHEMAS[version].assertValid(root)
    amounts = [
        parse_cents(one)
        for one in xml.texts_at(root, "CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf/Amt/InstdAmt")
    ]
    assert amounts == [one.amount_cents for one in payouts]
    for path in ("GrpHdr", "PmtInf"):
        assert parse_cents(xml.text_at(root, f"CstmrCdtTrfInitn/{path}/CtrlSum")) == sum(amounts)
        assert xml.text_at(root, f"CstmrCdtTrfInitn/{path}/NbOfTxs") == str(len(payouts))
    ids = xml.texts_at(root, "CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf/PmtId/EndToEndId")
    assert list(ids) == [orders.end_to_end_of(one.payout) for one in payouts]
    assert len(set(ids)) == len(ids)


def test_the_same_order_is_the_same_file_and_another_has_another_id() -> None:
    assert orders.write(ORDER) == orders.write(ORDER)
    later = dataclasses.replace(ORDER, created_ms=ORDER.created_ms + 60_000)
    assert orders.message_id_of(later) == orders.message_id_of(ORDER)
    more = dataclasses.replace(TWO, amount_cents=701)
    for other in (
        dataclasses.replace(ORDER, payouts=(ONE,)),
        dataclasses.replace(ORDER, payouts=(ONE, more)),
        dataclasses.replace(ORDER, execution_date="2026-11-24"),
    ):
        assert orders.message_id_of(other) != orders.message_id_of(ORDER)
        assert orders.batch_id_of(other) != orders.batch_id_of(ORDER)
    assert orders.end_to_end_of(more.payout) == orders.end_to_end_of(TWO.payout)


@pytest.mark.parametrize(
    "wrong",
    [
        {"payouts": ()},
        {"payouts": (ONE, ONE)},
        {"payouts": (dataclasses.replace(ONE, amount_cents=0),)},
        {"payouts": (dataclasses.replace(ONE, amount_cents=CENTS_MAX + 1),)},
        {"payouts": (dataclasses.replace(ONE, to=OPERATOR),)},
        {"payouts": (dataclasses.replace(ONE, to=BankAccount("...漢", CUSTOMER_IBAN)),)},
        {"payouts": (dataclasses.replace(ONE, payout=b""),)},
        {"execution_date": "2026-02-30"},
        {"execution_date": "20261123"},
    ],
)
def test_what_no_bank_should_see_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(AtollError) as refused:
        orders.write(dataclasses.replace(ORDER, **wrong))  # type: ignore[arg-type]
    assert refused.value.kind is Kind.BAD_REQUEST


def test_names_are_spelled_in_the_letters_that_banks_take() -> None:
    assert orders.latin("Łukasz Müßig & Söhne", 70) == "Lukasz Muessig + Soehne"
    assert orders.latin("//a//b/ 漢 é_\n", 70) == "a/b/ . e-"
    assert orders.latin("a" * 69 + " b", 70) == "a" * 69
    assert orders.latin("Ö", 70) == "Oe"


@given(st.text(max_size=200), st.integers(1, 140))
def test_any_text_becomes_one_that_banks_take(text: str, length: int) -> None:
    found = orders.latin(text, length)
    assert len(found) <= length
    assert found.isascii()
    assert not found.startswith("/")
    assert not found.endswith("/")
    assert "//" not in found
    assert orders.latin(found, length) == found


# --- what became of them --------------------------------------------------------------------------

E2E = [orders.end_to_end_of(one.payout) for one in ORDER.payouts]
MESSAGE, BATCH = orders.message_id_of(ORDER), orders.batch_id_of(ORDER)


def states(data: bytes) -> dict[bytes, State]:
    return {one.payout: one.state for one in read_report(data, [ORDER])}


@pytest.mark.parametrize("version", ["03", "10", "14"])
def test_the_narrowest_word_of_a_report_counts(version: str) -> None:
    refused = ((E2E[0], "RJCT", "AC04"),)
    found = report(MESSAGE, group="ACCP", payments=refused, version=version)
    assert states(found) == {b"1": State.REJECTED, b"2": State.ACCEPTED}
    assert read_report(found, [ORDER])[0].reason == "AC04 says the bank"
    inside = report(MESSAGE, group="PART", batch=(BATCH, "ACSC"), payments=refused)
    assert states(inside) == {b"1": State.REJECTED, b"2": State.ACCEPTED}
    assert states(report(MESSAGE, group="RJCT")) == dict.fromkeys((b"1", b"2"), State.REJECTED)
    assert states(report(MESSAGE, batch=("other", "RJCT"))) == {}
    assert states(report(MESSAGE, group="PDNG")) == {}
    assert states(report(MESSAGE, payments=(("stranger", "RJCT", "AC04"),))) == {}


def test_a_report_about_others_is_refused() -> None:
    with pytest.raises(AtollError) as refused:
        read_report(report("another"), [ORDER])
    assert refused.value.kind is Kind.NOT_FOUND
    with pytest.raises(AtollError):
        read_report(camt(Sheet(())), [ORDER])


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_report_crashes_nothing(data: st.DataObject) -> None:
    good = report(MESSAGE, group="ACCP", payments=((E2E[0], "RJCT", "AC04"),))
    at = data.draw(st.integers(0, len(good)))
    bad = good[:at] + data.draw(st.binary(max_size=6)) + good[at + data.draw(st.integers(0, 60)) :]
    try:
        words = read_report(bad, [ORDER])
    except AtollError:
        return
    assert {one.payout for one in words} <= {b"1", b"2"}


def said_by_bank(*rows: Row) -> tuple[Word, ...]:
    payouts = {
        one: (payout.payout, payout.amount_cents)
        for one, payout in zip(E2E, ORDER.payouts, strict=True)
    }
    expected = Expected(OPERATOR.iban, {}, payouts, {})
    return words_of(judge(read_statements(camt(Sheet(rows))), expected).movements)


def test_from_sent_to_paid_to_returned() -> None:
    progress = {b"1": Progress(State.SENT), b"2": Progress(State.SENT)}
    progress = reconcile(progress, read_report(report(MESSAGE, group="ACCP"), [ORDER]))
    assert {one.state for one in progress.values()} == {State.ACCEPTED}
    left = Row((Tx(500, end_to_end=E2E[0]), Tx(700, end_to_end=E2E[1])), "X1", debit=True)
    back = Row((Tx(700, end_to_end=E2E[1], reason="AC04"),), "X2")
    progress = reconcile(progress, said_by_bank(left, back))
    assert progress[b"1"].state is State.PAID
    assert (progress[b"2"].state, progress[b"2"].reason) == (State.RETURNED, "AC04")
    assert reconcile(progress, said_by_bank(left, back)) == progress
    assert not any(one.conflict for one in progress.values())


WORDS = (
    Word(b"1", State.ACCEPTED),
    Word(b"1", State.REJECTED, "AC01"),
    Word(b"1", State.PAID, "", b"x"),
    Word(b"1", State.PAID, "", b"y"),
    Word(b"1", State.RETURNED, "AC04", b"z"),
)


@pytest.mark.parametrize("number", range(1, 6))
def test_the_order_of_words_changes_nothing(number: int) -> None:
    for words in itertools.combinations(WORDS, number):
        outcomes = set()
        for some in itertools.permutations(words):
            progress = Progress(State.SENT)
            for word in (*some, *some):
                progress = heard(progress, word)
            outcomes.add(progress)
        assert len(outcomes) == 1
        (outcome,) = outcomes
        told = {one.state for one in words}
        contradicts = State.REJECTED in told and bool(told & {State.PAID, State.RETURNED})
        twice = WORDS[2] in words and WORDS[3] in words
        assert bool(outcome.conflict) == (contradicts or twice)
