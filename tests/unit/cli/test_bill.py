"""What `atoll bill`, `invoice` and `bank` show: euros that can be read, and what to do next."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.bank import OURS

from atoll.cli import bank, bill, euros, invoice
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.customers import (
    Bill,
    BillLine,
    CustomerNotice,
    InvoiceFacts,
    InvoiceList,
    MovementFacts,
    StatementTaken,
    TransferFacts,
)
from atoll.economy.payments.reference import reference_of

NOW_MS = 1_795_200_000_000
DAY_MS = 86_400_000
TRANSFER = TransferFacts("Atoll Betrieb eG", OURS, "", reference_of(b"a" * 16))


def line(bucket: str, to_date: str) -> BillLine:
    return BillLine(bucket, 3 << 20, "1 GB-month", to_date, "0.00", "0.00", to_date, "0.000001")


def shown(**changes: object) -> Bill:
    values: dict[str, object] = {
        "account": "aa", "month": "2026-11", "time_ms": NOW_MS, "charged": True, "enforced": True,
        "time_factor": 1, "balance_eur": "12.00", "running_eur": "0.10", "reserved_eur": "0.00",
        "available_eur": "11.90", "to_date_eur": "3.75", "projected_eur": "6.00",
        "unfunded_eur": "0.00", "rate_eur": "6.50", "empty_ms": NOW_MS + 60 * DAY_MS,
        "standing": "active", "standing_since_ms": 0, "standing_until_ms": 0, "refused": "",
        "budget_eur": "5.00", "budget_stops": True,
        "lines": [line("photos", "3.50"), line("films", "0.25")], "notices": [],
        "transfer": TRANSFER, "settled_epoch": 3,
    }  # fmt: skip
    return Bill(**{**values, **changes})  # type: ignore[arg-type]


def text(found: Bill) -> str:
    return "\n".join([*bill.lines_of(found), *bill.next_steps(found)])


def test_a_bill_says_what_what_for_and_how_long() -> None:
    said = text(shown())
    assert "November 2026" in said
    assert "photos    3.00 MiB" in said
    assert "6.00 EUR for the whole month" in said
    assert "60 d 0 h from now" in said
    assert "75 % of 5.00 EUR; uploads stop at 100 %" in said
    assert "it will be exceeded: 6.00 EUR are projected" in said
    rows = [one for one in bill.lines_of(shown()) if one.startswith("all")]
    assert "3.75" in rows[0], "the buckets are summed"


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        ("notice", "Everything still works"),
        ("read_only", "Its deletion is announced from 2026-11-2"),
        ("grace", "not locked is deleted from 2026-11-2"),
        ("deletion", "Locked data stays until its locks end"),
    ],
)
def test_each_standing_says_what_follows_and_what_to_do(standing: str, words: str) -> None:
    found = shown(
        standing=standing,
        refused="" if standing == "notice" else "unpaid",
        standing_until_ms=NOW_MS + 3 * DAY_MS,
        empty_ms=NOW_MS,
    )
    said = text(found)
    assert words in said
    assert "atoll invoice pay" in said
    assert "nothing is left" in said
    assert ("atoll cp --recursive" in said) is (standing in ("grace", "deletion"))


def test_whoever_has_not_paid_yet_is_told_so() -> None:
    said = text(shown(standing="read_only", refused="unpaid", lines=[], budget_eur=""))
    assert "Nothing is prepaid" in said
    assert "1970" not in said


def test_notices_are_sentences() -> None:
    kinds = ("budget_75", "budget_100", "notice", "read_only", "grace", "deletion", "active", "new")
    notices = [CustomerNotice(n, NOW_MS, kind, "5.00 EUR") for n, kind in enumerate(kinds)]
    said = "\n".join(bill._notices(notices))
    assert "three quarters of the budget of 5.00 EUR" in said
    assert "{" not in said


def test_json_has_everything_exact() -> None:
    facts = bill.facts_of(shown(to_date_eur="0.000000000001"))
    assert facts["to_date_eur"] == "0.000000000001"
    assert facts["budget_percent"] == 0
    assert msgspec.json.encode(facts)
    assert bill.facts_of(shown(budget_eur="0.00"))["budget_percent"] == 100


@given(st.integers(-(10**24), 10**24))
def test_no_amount_looks_like_nothing_unless_it_is(pico: int) -> None:
    said = euros.show_one(pico)
    assert (said == "0.00 EUR") is (pico == 0)
    number = said.removesuffix(" EUR").replace(",", "").replace("<", "")
    whole, _, fraction = number.partition(".")
    assert 2 <= len(fraction) <= 12
    back = int(whole.lstrip("-") + fraction.ljust(12, "0"))
    assert abs(back - abs(pico)) * 50 <= max(abs(pico), 1), "to two percent at least"


@given(st.integers(0, 10**18), st.integers(1, 10**18))
def test_a_bar_is_full_only_when_it_is(part: int, whole: int) -> None:
    drawn = euros.bar(part, whole)
    assert len(drawn) == euros.BAR_CELLS
    assert (drawn == "█" * euros.BAR_CELLS) is (part >= whole)


def test_a_transfer_is_for_an_invoice_or_an_amount() -> None:
    unpaid = InvoiceFacts("A-2026-000001", "2026-10", "2026-11-01", "11.90", "1.90")
    paid = InvoiceFacts("A-2026-000002", "2026-10", "2026-11-01", "11.90", "0.00")
    found = InvoiceList(invoices=[unpaid, paid], transfer=TRANSFER)
    assert invoice._cents(found, unpaid.number, None) == 190
    assert invoice._cents(found, None, "20") == 2_000
    assert invoice._cents(found, None, None) is None
    for number, amount, kind in (
        (paid.number, None, Kind.CONFLICT),
        ("A-2026-000009", None, Kind.NOT_FOUND),
        (None, "0.001", Kind.BAD_REQUEST),
        (None, "-5", Kind.BAD_REQUEST),
        (unpaid.number, "5", Kind.BAD_REQUEST),
    ):
        with pytest.raises(AtollError) as caught:
            invoice._cents(found, number, amount)
        assert caught.value.kind is kind
    lines = "\n".join(invoice.pay_lines(invoice.transfer_of(TRANSFER, 2_000)))
    assert "DE89 3704 0044 0532 0130 00" in lines
    assert "20.00 EUR" in lines


def test_an_import_says_what_was_credited_and_what_waits() -> None:
    taken = StatementTaken(
        statements=1,
        movements=[
            MovementFacts(
                b"k" * 32, "2026-11-19", "7.00", "unknown", new=True, note="no reference"
            ),
            MovementFacts(b"l" * 32, "2026-11-19", "20.00", "credit", b"a" * 16, "Anna", new=True),
            MovementFacts(b"m" * 32, "2026-11-19", "5.00", "credit", b"a" * 16, "Anna"),
        ],
        credited_eur="20.00",
        known_eur="5.00",
        charges_eur="0.00",
        waiting=1,
    )
    said = "\n".join(bank.taken_lines(taken))
    for words in ("names nobody", "credited before", "waiting for you  1 movement"):
        assert words in said
    assert "the bank kept" not in said


def test_a_customer_is_named_by_id_or_reference_only() -> None:
    with pytest.raises(AtollError) as caught:
        bank._id("Anna")
    assert caught.value.kind is Kind.BAD_REQUEST
    assert bank._id("61" * 16) == b"a" * 16
