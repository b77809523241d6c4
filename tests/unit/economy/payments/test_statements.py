"""Statements: each cent is credited once, to whom it names, or listed for a person."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.bank import CUSTOMER_IBAN, OURS, Row, Sheet, Tx, camt, refusal

from atoll.core.errors import AtollError, Kind
from atoll.economy.payments import xml
from atoll.economy.payments.reference import reference_of, show_reference
from atoll.economy.payments.statements.judge import Expected, Judgement, judge
from atoll.economy.payments.statements.model import Verdict
from atoll.economy.payments.statements.read import read_statements

ANNA, BEN = b"a" * 16, b"b" * 16
RF_ANNA, RF_BEN = reference_of(ANNA), reference_of(BEN)
EXPECTED = Expected(
    OURS,
    {RF_ANNA: ANNA, RF_BEN: BEN},
    {"P1": (b"p1", 500), "P2": (b"p2", 700)},
    {"B1": ((b"p1", 500), (b"p2", 700))},
)
VERSIONS = ("02", "08", "13")


def judged(*sheets: Sheet, version: str = "08") -> Judgement:
    return judge(read_statements(camt(*sheets, version=version)), EXPECTED)


def verdict(row: Row) -> tuple[Verdict, str]:
    found = judged(Sheet((row,))).movements
    assert len(found) == 1
    return found[0].verdict, found[0].note


@pytest.mark.parametrize("version", VERSIONS)
def test_a_top_up_is_credited_by_structured_or_free_reference(version: str) -> None:
    free = show_reference(RF_BEN).lower()
    rows = (
        Row((Tx(1_234, structured=RF_ANNA),), "X1"),
        Row((Tx(1, ("top up " + free[:9], free[9:])),), "X2"),
    )
    found = judged(Sheet(rows), version=version)
    assert [(one.verdict, one.account) for one in found.movements] == [
        (Verdict.CREDIT, ANNA), (Verdict.CREDIT, BEN),
    ]  # fmt: skip
    assert found.credited_cents == 1_235
    assert not found.for_people
    one = found.movements[0].movement
    assert (one.name, one.iban, one.booked, one.code) == (
        "Anna & Söhne", CUSTOMER_IBAN, "2026-11-19", "PMNT/RCDT/ESCT",
    )  # fmt: skip


def test_the_structured_reference_goes_before_what_the_text_says() -> None:
    found = judged(Sheet((Row((Tx(5, (RF_BEN,), RF_ANNA),), "X"),))).movements[0]
    assert (found.verdict, found.account) == (Verdict.CREDIT, ANNA)


def test_whom_nobody_knows_is_listed() -> None:
    stranger = reference_of(b"c" * 16)
    assert verdict(Row((Tx(5, ("hello",)),), "X")) == (
        Verdict.UNKNOWN, "it has no reference of ours",
    )  # fmt: skip
    assert verdict(Row((Tx(5, structured=stranger),), "X")) == (
        Verdict.UNKNOWN, f"nobody has {stranger}",
    )  # fmt: skip
    assert verdict(Row((Tx(5, (RF_ANNA, RF_BEN)),), "X"))[0] is Verdict.AMBIGUOUS


def test_other_currencies_reversals_and_debits_credit_nobody() -> None:
    known = Tx(500, structured=RF_ANNA)
    assert verdict(Row((known,), "X", currency="CHF"))[0] is Verdict.FOREIGN
    assert verdict(Row((known,), "X", debit=True, reversal=True))[0] is Verdict.TAKEN_BACK
    assert verdict(Row((known,), "X", reversal=True))[0] is Verdict.HELD
    assert verdict(Row((known,), "X", debit=True))[0] is Verdict.OTHER_DEBIT


def test_payouts_leave_and_come_back() -> None:
    assert verdict(Row((Tx(500, end_to_end="P1"),), "X", debit=True)) == (Verdict.PAID, "")
    back = Row((Tx(500, end_to_end="P1", reason="AC04"),), "X")
    assert verdict(back) == (Verdict.RETURNED, "AC04")
    less = Row((Tx(499, end_to_end="P1", reason="AC04"),), "X")
    assert verdict(less)[0] is Verdict.HELD
    assert verdict(Row((Tx(501, end_to_end="P1"),), "X", debit=True))[0] is Verdict.HELD
    whole = judged(Sheet((Row((Tx(1_200, batch="B1"),), "X", debit=True),))).movements[0]
    assert (whole.verdict, whole.payouts) == (Verdict.PAID, (b"p1", b"p2"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_is_taken_apart_and_what_the_bank_kept_is_named(version: str) -> None:
    row = Row((Tx(700, structured=RF_ANNA), Tx(300, structured=RF_BEN)), "X", kept=25)
    found = judged(Sheet((row,)), version=version)
    assert [one.verdict for one in found.movements] == [Verdict.CREDIT] * 2
    assert (found.credited_cents, found.charges_cents) == (1_000, 25)


def test_a_batch_that_does_not_add_up_or_is_not_listed_is_held() -> None:
    row = Row((Tx(700, structured=RF_ANNA), Tx(300, structured=RF_BEN)), "X", amount="9.99")
    held = judged(Sheet((row,), balances=False))
    assert [one.verdict for one in held.movements] == [Verdict.HELD]
    assert not held.credited_cents
    summed = Row((Tx(700, structured=RF_ANNA),), "X", declared=3)
    assert verdict(summed)[0] is Verdict.HELD


@pytest.mark.parametrize("amount", ["1.005", "-5.00", "1e3", "", "٣"])
def test_one_illegible_entry_holds_itself_alone(amount: str) -> None:
    rows = (
        Row((Tx(5, structured=RF_ANNA),), "X1", amount=amount or " "),
        Row((Tx(7, structured=RF_BEN),), "X2"),
    )
    found = judged(Sheet(rows))
    assert [one.verdict for one in found.movements] == [Verdict.HELD, Verdict.CREDIT]
    assert found.credited_cents == 7


def test_a_statement_that_does_not_balance_or_is_not_ours_credits_nothing() -> None:
    row = Row((Tx(5, structured=RF_ANNA),), "X")
    for sheet in (Sheet((row,), miss=1), Sheet((row,), iban=CUSTOMER_IBAN), Sheet((row,), iban="")):
        assert [one.verdict for one in judged(sheet).movements] == [Verdict.HELD]


def test_pending_entries_wait() -> None:
    file = read_statements(camt(Sheet((Row((Tx(5, structured=RF_ANNA),), "X", status="PDNG"),))))
    assert not file.statements[0].movements
    assert file.statements[0].not_booked == 1


# --- once and only once ---------------------------------------------------------------------------


def keys(data: bytes) -> list[bytes]:
    return [one.key for sheet in read_statements(data).statements for one in sheet.movements]


def test_the_key_is_the_same_in_every_export_and_version() -> None:
    text = ("for " + RF_ANNA[:7], RF_ANNA[7:])
    batch = (Tx(7, structured=RF_ANNA, end_to_end="E1"), Tx(7, structured=RF_BEN, end_to_end="E2"))
    for reference in ("", "NONREF", "X1"):
        rows = (Row((Tx(5, text),), reference), Row(batch, reference and reference + "9"))
        joined = (
            Row((Tx(5, (" ".join(text).lower(),)),), reference),
            Row(batch[::-1], rows[1].reference),
        )
        first = keys(camt(Sheet(rows), version="02"))
        assert first == keys(camt(Sheet(rows, "S-2"), version="08"))
        assert len(set(first)) == 3
        assert set(first) == set(keys(camt(Sheet(joined[::-1], "S-3"), version="13")))


def test_what_the_bank_has_named_is_the_same_whatever_text_an_export_has() -> None:
    short, long = Tx(5, (RF_ANNA,), iban=""), Tx(5, (RF_ANNA, "and more"))
    for reference, same in (("X1", True), ("", False)):
        first = keys(camt(Sheet((Row((short,), reference),))))
        assert (first == keys(camt(Sheet((Row((long,), reference),))))) is same


def test_equal_transfers_of_a_day_are_two_but_a_repeated_statement_is_one() -> None:
    twins = (Row((Tx(5, structured=RF_ANNA),)),) * 2
    once = judged(Sheet(twins))
    assert once.credited_cents == 10
    assert len({one.movement.key for one in once.movements}) == 2
    assert not any(one.movement.certain for one in once.movements)
    twice = judged(Sheet(twins), Sheet(twins, "S-2"))
    assert twice.credited_cents == 10
    assert [one.verdict for one in twice.movements[2:]] == [Verdict.REPEATED] * 2


def test_what_a_held_statement_lists_is_credited_by_the_right_one() -> None:
    rows = (Row((Tx(5, structured=RF_ANNA),), "X"),)
    found = judged(Sheet(rows, miss=1), Sheet(rows, "S-2"), Sheet(rows, "S-3"))
    assert [one.verdict for one in found.movements] == [
        Verdict.HELD, Verdict.CREDIT, Verdict.REPEATED,
    ]  # fmt: skip


def test_two_equal_entries_under_one_reference_of_the_bank_are_for_a_person() -> None:
    found = judged(Sheet((Row((Tx(5, structured=RF_ANNA),), "X"),) * 2))
    assert [one.verdict for one in found.movements] == [Verdict.CREDIT, Verdict.HELD]


ROWS = st.lists(
    st.builds(
        Row,
        st.lists(
            st.builds(
                Tx,
                st.integers(1, 10**9),
                structured=st.sampled_from(["", RF_ANNA, RF_BEN, reference_of(b"x")]),
                end_to_end=st.sampled_from(["NOTPROVIDED", "P1", "P3"]),
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
        st.sampled_from(["", "X1", "X2", "X3"]),
        debit=st.booleans(),
        reversal=st.booleans(),
        status=st.sampled_from(["BOOK", "PDNG"]),
    ),
    max_size=6,
).map(tuple)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from(VERSIONS))
def test_whatever_comes_every_cent_has_one_verdict(rows: tuple[Row, ...], version: str) -> None:
    file = read_statements(camt(Sheet(rows), version=version))
    booked = [one for one in rows if one.status == "BOOK"]
    total = sum(-one.cents if one.debit else one.cents for one in booked)
    found = judge(file, EXPECTED)
    assert sum(one.movement.amount_cents for one in found.movements) == total
    assert not file.statements[0].problem
    credited = {one.movement.key: one for one in found.movements if one.verdict is Verdict.CREDIT}
    assert sum(one.movement.amount_cents for one in credited.values()) == found.credited_cents
    for one in credited.values():
        assert one.movement.amount_cents > 0
        assert not one.movement.reversal
        assert reference_of(one.account) in one.movement.structured
    assert all(dataclasses.asdict(one) for one in found.movements)


# --- hostile files --------------------------------------------------------------------------------

GOOD = camt(Sheet((Row((Tx(5, ("x", RF_ANNA), RF_ANNA), Tx(6)), "X", kept=1),)), version="02")


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300))
def test_garbage_is_no_statement(data: bytes) -> None:
    with pytest.raises(AtollError) as refused:
        read_statements(data)
    assert refused.value.kind is Kind.BAD_REQUEST


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(GOOD)), st.integers(0, 80), st.binary(max_size=6))
def test_a_damaged_statement_crashes_nothing(at: int, cut: int, other: bytes) -> None:
    data = GOOD[:at] + other + GOOD[at + cut :]
    kind = refusal(lambda: judge(read_statements(data), EXPECTED))
    assert kind in (None, Kind.BAD_REQUEST)


ENTITIES = (
    b'<!DOCTYPE D [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
    b'<!DOCTYPE D SYSTEM "http://127.0.0.1:1/x.dtd">',
    b'<!DOCTYPE D [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
)


@pytest.mark.parametrize("declaration", ENTITIES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-7"])
def test_document_types_and_entities_are_refused(declaration: bytes, encoding: str) -> None:
    text = GOOD.decode().replace("UTF-8", encoding)
    hostile = text.replace("?>", "?>" + declaration.decode()).replace("Anna", "&x;")
    with pytest.raises(AtollError) as refused:
        read_statements(hostile.encode(encoding))
    assert refused.value.kind is Kind.BAD_REQUEST
    with pytest.raises(AtollError):
        read_statements(GOOD.replace(b"Anna", b"&x;"))


def test_a_document_type_is_refused_before_anything_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(xml.etree, "fromstring", parse)
    with pytest.raises(AtollError, match="document type"):
        read_statements(ENTITIES[0] + GOOD)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "cp037", "utf-32"])
def test_encodings_in_which_ascii_is_not_ascii_are_refused(encoding: str) -> None:
    with pytest.raises(AtollError, match=r"encoding|XML"):
        read_statements(GOOD.decode().replace("UTF-8", encoding).encode(encoding))


def test_depth_and_size_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = b"<a>" * (xml.DEPTH_MAX + 1) + b"</a>" * (xml.DEPTH_MAX + 1)
    with pytest.raises(AtollError, match="nested"):
        read_statements(deep)
    with pytest.raises(AtollError) as refused:
        read_statements(b" " * (xml.XML_BYTES_MAX + 1))
    assert refused.value.kind is Kind.TOO_LARGE
    monkeypatch.setattr("atoll.economy.payments.statements.read.MOVEMENTS_MAX", 1)
    with pytest.raises(AtollError) as refused:
        read_statements(GOOD)
    assert refused.value.kind is Kind.TOO_LARGE


def test_comments_do_not_cut_amounts() -> None:
    split = GOOD.replace(b">0.10</Amt>", b">0.<!-- x -->10</Amt>")
    assert split != GOOD
    assert keys(split) == keys(GOOD)


def test_latin_1_is_read() -> None:
    latin = GOOD.decode().replace("UTF-8", "ISO-8859-1").encode("iso-8859-1")
    assert read_statements(latin).statements[0].movements[0].name == "Anna & Söhne"


def test_prefixes_of_names_change_nothing() -> None:
    prefixed = re.sub(rb"<(/?)([A-Z])", rb"<\1ns:\2", GOOD).replace(b"xmlns=", b"xmlns:ns=")
    assert read_statements(prefixed) == read_statements(GOOD)


def test_another_message_is_refused_by_name() -> None:
    with pytest.raises(AtollError, match=r"but camt\.052\.001\.08"):
        read_statements(camt(Sheet(())).replace(b"camt.053", b"camt.052"))
