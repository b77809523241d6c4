"""Cents: the only amounts that banks know, and how picos become them."""

import re

from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_EUR

CENTS_PER_EUR = 100
PICO_PER_CENT = PICO_PER_EUR // CENTS_PER_EUR
CENTS_MAX = 99_999_999_999
"""The largest amount of a SEPA credit transfer: 999,999,999.99 EUR (EPC069-12, EPC130-08)."""

_DECIMAL = re.compile(r"^(\d{1,16})(?:\.(\d{1,5}))?$", re.ASCII)


def cents_down(amount_pico: int) -> int:
    """Return whole cents, rounded down: for what a customer pays, and what is paid out in parts.

    What is left of a payout stays in its balance. Raises ``ValueError`` for negative amounts, for
    which "down" would favour the other side.
    """
    if amount_pico < 0:
        raise ValueError("only amounts are rounded, not directions")
    return amount_pico // PICO_PER_CENT


def cents_up(amount_pico: int) -> int:
    """Return whole cents, rounded up: for what a customer is given back."""
    if amount_pico < 0:
        raise ValueError("only amounts are rounded, not directions")
    return -(-amount_pico // PICO_PER_CENT)


def pico_of(amount_cents: int) -> int:
    """Return cents as pico-euro, exactly."""
    return amount_cents * PICO_PER_CENT


def show_cents(amount_cents: int) -> str:
    """Write cents as banks' files do: ``12.34``, ``-0.05``."""
    whole, cents = divmod(abs(amount_cents), CENTS_PER_EUR)
    return f"{'-' if amount_cents < 0 else ''}{whole}.{cents:02}"


def parse_cents(text: str) -> int:
    """Read an amount of euros of a bank's file (``12``, ``12.3``, ``12.34000``) as cents.

    Raises ``BAD_REQUEST`` for anything else: signs, exponents, fractions of a cent.
    """
    found = _DECIMAL.match(text.strip())
    if found is None:
        raise _bad(f"{text[:40]!r} is no amount")
    fraction = (found[2] or "").rstrip("0")
    if len(fraction) > 2:
        raise _bad(f"{text[:40]!r} is not a whole number of cents")
    return int(found[1]) * CENTS_PER_EUR + int(fraction.ljust(2, "0"))


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "read an amount", message)
