"""Accounts, references, amounts, codes: written, read back, and refused when mistyped."""

import builtins
import re
from typing import Any

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.bank import refusal

from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_EUR
from atoll.economy.payments import accounts, amounts, qr, reference

IBANS = (
    "DE89370400440532013000", "NL91ABNA0417164300", "FR1420041010050500013M02606",
    "MT84MALT011000012345MTLCAST001S", "NO9386011117947", "GB29NWBK60161331926819",
)  # fmt: skip
ACCOUNTS = st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize("iban", IBANS)
def test_an_iban_is_read_as_typed(iban: str) -> None:
    assert accounts.parse_iban(f" {accounts.show_iban(iban).lower()} ") == iban


@pytest.mark.parametrize("iban", IBANS)
def test_any_wrong_character_of_an_iban_is_noticed(iban: str) -> None:
    for at in range(2, len(iban)):
        wrong = "7" if iban[at] != "7" else "8"
        with pytest.raises(AtollError) as refused:
            accounts.parse_iban(iban[:at] + wrong + iban[at + 1 :])
        assert iban not in str(refused.value)
    with pytest.raises(AtollError):
        accounts.parse_iban(iban[:-1])


def test_an_account_that_sepa_does_not_reach_is_refused() -> None:
    with pytest.raises(AtollError, match="does not reach"):
        accounts.parse_iban("BR1800360305000010009795493C1")
    assert accounts.parse_bic("cobadeff xxx") == "COBADEFFXXX"
    with pytest.raises(AtollError):
        accounts.parse_bic("COBADEF")


@given(st.text(max_size=60))
def test_garbage_is_no_account_and_crashes_nothing(text: str) -> None:
    for read in (accounts.parse_iban, reference.parse_reference, amounts.parse_cents):
        assert refusal(read, text) in (None, Kind.BAD_REQUEST)
    reference.references_in([text])


def test_the_reference_of_an_account_is_fixed() -> None:
    assert reference.reference_of(b"a" * 16) == "RF918GH4K1T2RMTZZQ47"
    # An example of the standard's kind, known from its Wikipedia article.
    assert reference.parse_reference("RF18 5390 0754 7034") == "RF18539007547034"


@given(ACCOUNTS, st.integers(1, 19), st.sampled_from(["thanks ", "Kd.Nr. 4711/", "rf", ""]))
def test_a_reference_is_found_however_text_is_broken(account: bytes, cut: int, word: str) -> None:
    ours = reference.reference_of(account)
    shown = reference.show_reference(ours).lower()
    assert len(ours) == reference.REFERENCE_CHARACTERS
    assert reference.is_reference(ours)
    assert reference.parse_reference(shown) == ours
    assert ours in reference.references_in([word + shown[:cut], shown[cut:] + " " + word])


@given(ACCOUNTS)
def test_letters_typed_for_digits_are_understood(account: bytes) -> None:
    ours = reference.reference_of(account)
    typed = ours[:4] + ours[4:].replace("0", "O").replace("1", "I")
    assert reference.parse_reference(typed) == ours
    assert reference.references_in([typed]) == (ours,)


@given(ACCOUNTS, st.integers(2, 19), st.sampled_from(reference.ALPHABET))
def test_one_wrong_character_is_no_reference(account: bytes, at: int, wrong: str) -> None:
    ours = reference.reference_of(account)
    if ours[at] == wrong or ours[at].isdigit() != wrong.isdigit():
        return
    assert not reference.is_reference(ours[:at] + wrong + ours[at + 1 :])


@given(st.integers(0, 10**30))
def test_rounding_loses_less_than_a_cent_to_the_named_side(amount_pico: int) -> None:
    down, up = amounts.cents_down(amount_pico), amounts.cents_up(amount_pico)
    assert amounts.pico_of(down) <= amount_pico <= amounts.pico_of(up)
    assert up - down == bool(amount_pico % amounts.PICO_PER_CENT)
    assert amounts.pico_of(100) == PICO_PER_EUR


@given(st.integers(0, amounts.CENTS_MAX))
def test_cents_are_read_as_written(cents: int) -> None:
    shown = amounts.show_cents(cents)
    assert re.fullmatch(r"\d+\.\d\d", shown)
    assert amounts.parse_cents(shown) == amounts.parse_cents(shown + "000") == cents
    assert amounts.show_cents(-cents).lstrip("-") == shown


@pytest.mark.parametrize("text", ["1.005", "-1.00", "1e3", "1,00", "", "١", "1.00.0", "NaN", "+1"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AtollError):
        amounts.parse_cents(text)


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=70)


@given(NAMES, st.one_of(st.none(), st.integers(1, amounts.CENTS_MAX)), ACCOUNTS, st.booleans())
def test_a_transfer_is_read_back_from_its_code(
    name: str, cents: int | None, account: bytes, free: bool
) -> None:
    text = "Rechnung 1" if free else ""
    ours = "" if free else reference.reference_of(account)
    asked = qr.Transfer(name, IBANS[0], cents, ours, text, "COBADEFF")
    try:
        payload = qr.payload_of(asked)
    except AtollError:
        assert len(name.encode()) > 100
        return
    assert qr.parse_payload(payload) == asked
    assert len(payload.encode()) <= qr.PAYLOAD_BYTES_MAX


@given(st.text(max_size=400))
def test_garbage_is_no_transfer(text: str) -> None:
    for payload in (text, "BCD\n002\n1\nSCT\n\nX\n" + text):
        assert refusal(qr.parse_payload, payload) in (None, Kind.BAD_REQUEST)


def test_a_code_says_no_more_than_it_may() -> None:
    ours = reference.reference_of(b"a" * 16)
    for asked in (
        qr.Transfer("A", IBANS[0], 0),
        qr.Transfer("A", IBANS[0], amounts.CENTS_MAX + 1),
        qr.Transfer("A\nB", IBANS[0], 1),
        qr.Transfer("", IBANS[0], 1),
        qr.Transfer("A", IBANS[0], 1, ours, "and a text"),
        qr.Transfer("A", IBANS[0], 1, "RF00" + ours[4:]),
        qr.Transfer("A", IBANS[1][:-1] + "1", 1),
        qr.Transfer("ä" * 70, IBANS[0], 1, text="ä" * 140),
    ):
        with pytest.raises(AtollError):
            qr.payload_of(asked)


def test_the_code_as_text_and_as_picture_hold_the_same_modules() -> None:
    payload = qr.payload_of(qr.Transfer("Atoll", IBANS[0], 1234, reference.reference_of(b"a" * 16)))
    code = segno.make_qr(payload, error="m", mode="byte", encoding="utf-8", boost_error=False)
    assert code.error == "M"
    assert int(code.version) <= qr.QR_VERSION_MAX
    lines = qr.text_of(payload).split("\n")
    modules = [[one in dark for one in line] for line in lines for dark in ((" ", "▄"), (" ", "▀"))]
    size = code.symbol_size(border=qr.QUIET_MODULES)[0]
    wanted = [[bool(one) for one in row] for row in code.matrix_iter(border=qr.QUIET_MODULES)]
    assert modules[:size] == wanted
    assert qr.svg_of(payload).startswith("<svg")
    assert "http" not in qr.svg_of(payload)


def test_without_the_extra_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "segno":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AtollError) as refused:
        qr.text_of("BCD")
    assert refused.value.kind is Kind.NOT_IMPLEMENTED
    assert "cashout" in refused.value.hint
