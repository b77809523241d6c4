"""Invoices: exact to the pico, rounded once in the customer's favour, numbered without gaps."""

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.bank import OPERATOR, refusal
from tests.fixtures.invoices import DRAFT, RF, SELLER

from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_EUR
from atoll.economy.payments.amounts import PICO_PER_CENT, cents_down
from atoll.economy.payments.invoices import render, rules
from atoll.economy.payments.invoices.model import Invoice, Line, LineKind, Party, Vat
from atoll.economy.payments.qr import parse_payload, payload_of

INVOICE = rules.make(DRAFT)


def drafted(amounts: list[int], rate_bps: int = 1_900, prepaid_pico: int = 0) -> rules.Draft:
    lines = tuple(
        Line(LineKind.UNPROVEN if one < 0 else LineKind.STORAGE, "photos", 1, "byte_ms", one)
        for one in amounts
    )
    vat = Vat(rate_bps, "" if rate_bps else "exempt")
    return dataclasses.replace(DRAFT, lines=lines, vat=vat, prepaid_pico=prepaid_pico)


@given(
    st.lists(st.integers(-(10**15), 10**16), min_size=1, max_size=20),
    st.integers(0, 5_000),
    st.integers(0, 10**16),
)
def test_every_invoice_adds_up(amounts: list[int], rate_bps: int, prepaid_pico: int) -> None:
    draft = drafted(amounts, rate_bps, prepaid_pico)
    if sum(amounts) < 0:
        assert refusal(rules.make, draft) is Kind.BAD_REQUEST
        return
    made = rules.make(draft)
    assert sum(one.amount_pico for one in made.lines) == made.net_cents * PICO_PER_CENT
    assert made.net_cents == cents_down(sum(amounts))
    assert sum(amounts) - made.net_cents * PICO_PER_CENT < PICO_PER_CENT
    assert abs(made.vat_cents * 10_000 - made.net_cents * rate_bps) * 2 <= 10_000
    assert made.open_cents == made.gross_cents - made.prepaid_cents >= 0
    assert made.prepaid_cents * PICO_PER_CENT >= min(prepaid_pico, made.gross_cents * PICO_PER_CENT)
    assert render.parse_json(render.json_of(made)) == made


@pytest.mark.parametrize("field", ["net_cents", "vat_cents", "gross_cents", "number", "due"])
def test_an_altered_invoice_is_noticed(field: str) -> None:
    value = getattr(INVOICE, field)
    wrong = value + 1 if isinstance(value, int) else "2025-01-01"
    with pytest.raises(AtollError):
        rules.check(msgspec.structs.replace(INVOICE, **{field: wrong}))


def test_a_line_says_no_other_sign_than_its_kind() -> None:
    for kind, amount in ((LineKind.STORAGE, -1), (LineKind.UNPROVEN, 1), (LineKind.CREDIT, 1)):
        lines = (Line(LineKind.STORAGE, "a", 1, "bytes", 10**12), Line(kind, "a", 0, "", amount))
        with pytest.raises(AtollError, match="sign"):
            rules.make(dataclasses.replace(DRAFT, lines=lines))
    twice = (*INVOICE.lines, Line(LineKind.ROUNDING, "", 0, "", -1))
    with pytest.raises(AtollError, match="rounded once"):
        rules.check(msgspec.structs.replace(INVOICE, lines=twice))


def test_numbers_follow_one_another_and_begin_anew_each_year() -> None:
    first = rules.next_number("A", "2026-11-20", None)
    assert first == "A-2026-000001"
    second = rules.next_number("A", "2026-11-20", (first, "2026-11-20"))
    assert second == "A-2026-000002"
    assert rules.next_number("A", "2027-01-01", (second, "2026-11-20")) == "A-2027-000001"


@pytest.mark.parametrize(
    ("series", "issued", "last"),
    [
        ("A", "2026-11-19", ("A-2026-000001", "2026-11-20")),
        ("A", "2026-11-20", ("B-2026-000001", "2026-11-20")),
        ("A", "2026-11-20", ("A-2025-000001", "2026-11-20")),
        ("A", "2026-11-20", ("A-2026-999999", "2026-11-20")),
        ("a", "2026-11-20", None),
        ("A", "20261120", None),
    ],
)
def test_a_number_out_of_order_is_refused(
    series: str, issued: str, last: tuple[str, str] | None
) -> None:
    with pytest.raises(AtollError):
        rules.next_number(series, issued, last)


def test_a_rate_of_nothing_says_why() -> None:
    with pytest.raises(AtollError, match="says why"):
        rules.make(dataclasses.replace(DRAFT, vat=Vat(0)))
    assert "reverse charge" in render.plain_of(
        rules.make(dataclasses.replace(DRAFT, vat=Vat(0, "reverse charge"))), code=False
    )
    assert [rules.vat_of(net, 1_900) for net in (2, 3, 100, 150)] == [0, 1, 19, 29]
    assert render.rate_of(750) == "7.5 %"


def test_what_is_asked_for_is_what_is_open() -> None:
    asked = rules.transfer_of(INVOICE)
    assert asked is not None
    assert parse_payload(payload_of(asked)).amount_cents == INVOICE.open_cents
    assert (asked.iban, asked.reference) == (OPERATOR.iban, RF)
    paid = rules.make(dataclasses.replace(DRAFT, prepaid_pico=10**18))
    assert rules.transfer_of(paid) is None
    assert "Please pay" not in render.plain_of(paid) + render.html_of(paid)


def test_names_obey_nobody() -> None:
    hostile = Party("<script>alert(1)</script>", ("\x1b[31mred", "b"), "")
    lines = (Line(LineKind.STORAGE, '<img src="x">\x07', 1, "bytes", PICO_PER_EUR),)
    made = rules.make(dataclasses.replace(DRAFT, customer=hostile, lines=lines))
    page, text = render.html_of(made), render.plain_of(made)
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in text
    assert "\x07" not in text
    assert SELLER.name in page


@pytest.mark.parametrize(
    ("quantity", "unit", "shown"),
    [
        (10**9 * 30 * 86_400_000, "byte_ms", "1 GB-month"),
        (1_250_000_000, "bytes", "1.25 GB"),
        (1, "bytes", "0.000000001 GB"),
        (0, "", ""),
    ],
)
def test_quantities(quantity: int, unit: str, shown: str) -> None:
    assert render.quantity_of(Line(LineKind.STORAGE, "a", quantity, unit, 1)) == shown


@given(st.one_of(st.binary(max_size=100), st.integers(0, 3_000)))
def test_garbage_is_no_invoice(data: Any) -> None:
    if isinstance(data, int):
        good = render.json_of(INVOICE)
        data = good[:data] + good[data + 1 :]
    try:
        found = render.parse_json(data)
    except AtollError:
        return
    assert isinstance(found, Invoice)
    rules.check(found)
