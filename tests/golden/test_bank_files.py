"""Golden files of everything that goes to banks, customers and tax offices.

``ATOLL_WRITE_GOLDEN=1`` writes them anew; the difference is to be read before it is kept.
"""

import os
from pathlib import Path

import pytest
from tests.fixtures.bank import OPERATOR, PROVIDER, Row, Sheet, Tx, camt
from tests.fixtures.earnings import MOVEMENTS
from tests.fixtures.invoices import DRAFT, RF

from atoll.economy.payments import qr
from atoll.economy.payments.earnings import csv_of
from atoll.economy.payments.invoices import render, rules
from atoll.economy.payments.payouts.model import Payout, PayoutFile
from atoll.economy.payments.payouts.order import VERSIONS, write
from atoll.economy.payments.reference import reference_of
from atoll.economy.payments.statements.judge import Expected, judge
from atoll.economy.payments.statements.read import read_statements

FOLDER = Path(__file__).parent / "bank"
INVOICE = rules.make(DRAFT)
ORDER = PayoutFile(
    OPERATOR,
    "2026-12-02",
    1_796_000_000_000,
    (Payout(b"1", PROVIDER, 500, "Earnings of November 2026"), Payout(b"2", PROVIDER, 1)),
)
SHEET = Sheet(
    (
        Row((Tx(1_234, structured=RF),), "X1"),
        Row((Tx(700, (RF,)), Tx(300, ("no reference",))), "X2", kept=25),
        Row((Tx(5, structured=RF),), "X3", currency="CHF"),
        Row((Tx(500, end_to_end="P1"),), "X4", debit=True),
        Row((Tx(500, end_to_end="P1", reason="AC04"),), "X5"),
        Row((Tx(1_234, structured=RF),), "X6", debit=True, reversal=True),
        Row((Tx(9, structured=RF),)),
    )
)


def judged(version: str) -> str:
    expected = Expected(OPERATOR.iban, {RF: b"a" * 16}, {"P1": (b"p1", 500)}, {})
    found = judge(read_statements(camt(SHEET, version=version)), expected)
    lines = [
        f"{one.movement.key.hex()[:16]} {one.movement.amount_cents:>6} {one.verdict.value:<10}"
        f" {one.account.hex()[:8] or '-':<8} {one.note or '-'}"
        for one in found.movements
    ]
    return "\n".join([*lines, f"charges {found.charges_cents}", ""])


FILES = {
    "invoice.txt": lambda: render.plain_of(INVOICE),
    "invoice.html": lambda: render.html_of(INVOICE),
    "invoice.json": lambda: render.json_of(INVOICE).decode(),
    "transfer.txt": lambda: qr.payload_of(
        qr.Transfer("Atoll Betrieb eG", OPERATOR.iban, None, reference_of(b"b" * 16))
    ),
    "earnings.csv": lambda: csv_of(MOVEMENTS),
    "judged.txt": lambda: judged("08"),
    "pain.001.001.09.xml": lambda: write(ORDER, VERSIONS[0]).decode(),
    "pain.001.001.03.xml": lambda: write(ORDER, VERSIONS[1]).decode(),
}


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_as_it_was(name: str) -> None:
    made = FILES[name]().encode()
    if os.environ.get("ATOLL_WRITE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / name).write_bytes(made)
    assert (FOLDER / name).read_bytes() == made


def test_both_layouts_of_a_statement_say_the_same() -> None:
    assert judged("02") == judged("08") == judged("13")
