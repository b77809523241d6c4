"""Euros for reading: as many decimals as the largest amount of a table needs, and bars."""

from collections.abc import Iterable
from datetime import UTC, datetime

from atoll.cli.output import paint
from atoll.core.money import PICO_PER_EUR

DECIMALS_MIN, DECIMALS_MAX = 2, 12
_STEPS = ((1, 2), (100, 4), (10_000, 6), (1_000_000, 8), (100_000_000, 10))
"""From 1/n EUR on so many decimals."""
BAR_CELLS = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def decimals_for(amounts_pico: Iterable[int]) -> int:
    """Return how many decimals show the largest of some amounts with at least three figures."""
    largest = max((abs(one) for one in amounts_pico), default=0)
    if not largest:
        return 2
    for part, decimals in _STEPS:
        if largest * part >= PICO_PER_EUR:
            return decimals
    return DECIMALS_MAX


def show(amount_pico: int, decimals: int) -> str:
    """Write an amount, rounded to nearest; one that would look like nothing says so: ``<0.01``."""
    unit = 10 ** (DECIMALS_MAX - decimals)
    units = (abs(amount_pico) * 2 + unit) // (2 * unit)
    sign = "-" if amount_pico < 0 else ""
    if amount_pico and not units:
        return f"{sign}<{_plain(1, decimals)}"
    return f"{sign if units else ''}{_plain(units, decimals)}"


def show_one(amount_pico: int) -> str:
    """Write one amount by itself, with its currency."""
    text = show(amount_pico, decimals_for((amount_pico,)))
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(DECIMALS_MIN, '0')} EUR"


def _plain(units: int, decimals: int) -> str:
    whole, rest = divmod(units, 10**decimals)
    return f"{whole:,}.{rest:0{decimals}}" if decimals else f"{whole:,}"


def bar(part: int, whole: int) -> str:
    """Return a bar of a share: green, yellow from three quarters on, red when it is used up."""
    eighths = BAR_CELLS * 8 if part >= whole else max(0, part * BAR_CELLS * 8 // max(1, whole))
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[rest] if rest else "")
    colour = "red" if part >= whole else "yellow" if part * 4 >= whole * 3 else "green"
    return paint(drawn, fg=colour) + paint("░" * (BAR_CELLS - len(drawn)), dim=True)


def moment(time_ms: int) -> str:
    """Write a moment, in UTC: ``2026-11-20 19:30``."""
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%d %H:%M}"
