"""Money: whole numbers in three units, and the few ways in which it may be rounded.

* ledger: pico-euro, 1e-12 EUR; names end in ``_pico``. Fine enough that a megabyte kept for a
  minute costs something.
* chain: units of a euro stablecoin, 1e-6 EUR; names end in ``_micro``.
* shares: basis points, 1/10,000; names end in ``_bps``.

Prices of storage are pico-euro per GB-month: 10^9 bytes kept for 30 days. Traffic is priced in
pico-euro per GB. There is no float anywhere near money.

Nothing is lost to rounding: what goes on chain is the floor of a *cumulative* figure
(``micro_of``), so that what one epoch leaves over the next one pays; and a sum is divided by
``split`` or ``Shares``, whose parts make the whole again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.core.errors import AtollError, Kind

PICO_PER_EUR = 10**12
PICO_PER_MICRO = 10**6
MICRO_PER_EUR = 10**6
BPS = 10_000
"""The whole, in basis points."""
GB_BYTES = 10**9
MONTH_MS = 30 * 86_400_000
"""A month of every price: 30 days."""
GB_MONTH_BYTE_MS = GB_BYTES * MONTH_MS
"""Byte-milliseconds of one GB kept for one month."""
AMOUNT_PICO_MAX = 10**30
"""No amount is larger (10^18 EUR): a figure beyond it is a fault, not money."""

_EURO = re.compile(r"^\s*(-?)(\d{1,18})(?:[.,](\d{1,12}))?\s*(?:€|EUR)?\s*$", re.ASCII)


def parse_euro(text: str) -> int:
    """Read euros: ``12``, ``12.34``, ``0,000001 EUR``; return pico-euro.

    Raises ``CONFIG`` for anything else: thousands separators, more than twelve decimals.
    """
    found = _EURO.match(text)
    if found is None:
        raise AtollError(
            Kind.CONFIG,
            "read euros",
            f"{text!r} is no amount of euros",
            hint="write 12.34, with at most twelve decimals and no thousands separator",
        )
    sign, whole, fraction = found.groups()
    pico = int(whole) * PICO_PER_EUR + int((fraction or "").ljust(12, "0"))
    return -pico if sign else pico


def show_euro(amount_pico: int, decimals_min: int = 2) -> str:
    """Write an amount exactly, with as few decimals as that takes: ``12.34 EUR``.

    ``parse_euro`` reads the same back.
    """
    whole, pico = divmod(abs(amount_pico), PICO_PER_EUR)
    fraction = f"{pico:012}".rstrip("0").ljust(decimals_min, "0")
    sign = "-" if amount_pico < 0 else ""
    return f"{sign}{whole}{'.' if fraction else ''}{fraction} EUR"


def micro_of(cumulative_pico: int) -> int:
    """Return the floor of a cumulative figure in stablecoin units (1e-6 EUR).

    Only for figures that never fall: then differences of floors add up, and nothing is lost.
    """
    if cumulative_pico < 0:
        raise ValueError("a cumulative figure is never negative")
    return cumulative_pico // PICO_PER_MICRO


def part_down(amount_pico: int, share_bps: int) -> int:
    """Return a share of an amount, rounded down."""
    return amount_pico * share_bps // BPS


def part_up(amount_pico: int, share_bps: int) -> int:
    """Return a share of an amount, rounded up."""
    return -(-amount_pico * share_bps // BPS)


def split(amount_pico: int, weights: Sequence[int]) -> list[int]:
    """Divide an amount by weights so that the parts make it up exactly.

    Each part is rounded down; what is left over goes, one pico each, to the parts that lost most
    by that (largest remainder, Hamilton's method), the first ones where they lost the same. Parts
    of weight 0 get nothing. Raises ``ValueError`` where no weight is positive and there is
    something to divide.
    """
    total = sum(weights)
    if amount_pico < 0 or any(weight < 0 for weight in weights):
        raise ValueError("neither the amount nor a weight may be negative")
    if not amount_pico:
        return [0] * len(weights)
    if not total:
        raise ValueError("nobody to divide it among")
    parts = []
    lost = []
    for place, weight in enumerate(weights):
        whole, remainder = divmod(amount_pico * weight, total)
        parts.append(whole)
        lost.append((-remainder, place))
    missing = amount_pico - sum(parts)
    if missing:
        lost.sort()
        for _, place in lost[:missing]:
            parts[place] += 1
    return parts


@dataclass(frozen=True, slots=True)
class Shares:
    """A division that goes on from time to time: fractions of a pico are carried, never lost."""

    shares_bps: tuple[int, ...]
    """They make ``BPS``."""
    carried: tuple[int, ...]
    """What each share is still owed, in 1/10,000 pico: 0 … 9,999."""

    def __post_init__(self) -> None:
        if sum(self.shares_bps) != BPS or any(share < 0 for share in self.shares_bps):
            raise ValueError("shares make up the whole")
        if len(self.carried) != len(self.shares_bps):
            raise ValueError("each share carries a fraction of its own")
        if any(not 0 <= rest < BPS for rest in self.carried) or sum(self.carried) % BPS:
            raise ValueError("what is carried makes up whole picos")

    @property
    def remainder_pico(self) -> int:
        """What was taken in and is not given out yet: fewer picos than there are shares."""
        return sum(self.carried) // BPS

    def take(self, amount_pico: int) -> tuple[list[int], "Shares"]:
        """Divide an amount; return the parts and how the division goes on."""
        if amount_pico < 0:
            raise ValueError("only what came in is divided")
        parts = []
        carried = []
        for share, rest in zip(self.shares_bps, self.carried, strict=True):
            whole, left = divmod(amount_pico * share + rest, BPS)
            parts.append(whole)
            carried.append(left)
        return parts, Shares(self.shares_bps, tuple(carried))
