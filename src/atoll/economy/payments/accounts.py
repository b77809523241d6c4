"""Accounts at banks: IBAN (ISO 13616) and BIC (ISO 9362), checked before any money moves."""

import re
from dataclasses import dataclass

from atoll.core.errors import AtollError, Kind

IBAN_CHARACTERS_MAX = 34
_HINT = "copy it from a statement or a card of the bank: letters, digits, spaces"

IBAN_LENGTHS: dict[str, int] = {
    # Countries and territories of the SEPA schemes (EPC409-09): others cannot be paid by SEPA.
    "AD": 24, "AL": 28, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22,
    "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21,
    "HU": 28, "IE": 22, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24,
    "RS": 22, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "VA": 22,
}  # fmt: skip
"""How long an IBAN of each country is: the country that SEPA reaches, and its characters."""

_IBAN = re.compile(r"^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$", re.ASCII)
_BIC = re.compile(r"^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$", re.ASCII)


def remainder_97(characters: str) -> int:
    """Return the remainder by 97 of letters and digits, with A = 10 … Z = 35 (ISO/IEC 7064)."""
    value = 0
    for one in characters:
        digit = int(one, 36)
        value = (value * (100 if digit > 9 else 10) + digit) % 97
    return value


def check_digits(prefix: str, body: str) -> str:
    """Return the two digits that make ``prefix``, digits and ``body`` right (ISO/IEC 7064)."""
    return f"{98 - remainder_97(body + prefix + '00'):02}"


def parse_iban(text: str) -> str:
    """Return an IBAN without spaces, in capitals.

    Raises ``BAD_REQUEST`` for wrong digits, a wrong length, a country that SEPA does not reach.
    That the account exists is the bank's word alone.
    """
    iban = re.sub(r"[\s-]", "", text[: 4 * IBAN_CHARACTERS_MAX]).upper()
    if not _IBAN.match(iban):
        raise _bad("read an IBAN", "this is no IBAN")
    length = IBAN_LENGTHS.get(iban[:2])
    if length is None:
        raise _bad("read an IBAN", f"SEPA does not reach accounts in {iban[:2]}")
    if len(iban) != length:
        raise _bad("read an IBAN", f"an IBAN of {iban[:2]} has {length} characters")
    if not 2 <= int(iban[2:4]) <= 98 or remainder_97(iban[4:] + iban[:4]) != 1:
        raise _bad("read an IBAN", "its check digits are wrong")
    return iban


def show_iban(iban: str) -> str:
    """Write an IBAN in groups of four, as on paper."""
    return " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))


def parse_bic(text: str) -> str:
    """Return a BIC in capitals, 8 or 11 characters; "" for none. Raises ``BAD_REQUEST``."""
    bic = re.sub(r"\s", "", text[:40]).upper()
    if bic and not _BIC.match(bic):
        raise _bad("read a BIC", "a BIC has 8 or 11 letters and digits")
    return bic


def _bad(operation: str, message: str) -> AtollError:
    # An account's number is personal data: errors do not repeat it.
    return AtollError(Kind.BAD_REQUEST, operation, message, hint=_HINT)


@dataclass(frozen=True, slots=True)
class BankAccount:
    """An account at a bank and whose it is."""

    name: str
    iban: str
    """Without spaces."""
    bic: str = ""
    """Not needed within SEPA since 2016; some banks ask for it."""

    def __post_init__(self) -> None:
        if self.iban != parse_iban(self.iban) or self.bic != parse_bic(self.bic):
            raise _bad("name a bank account", "IBAN and BIC are kept without spaces")
        if not self.name.strip():
            raise _bad("name a bank account", "an account is somebody's")
