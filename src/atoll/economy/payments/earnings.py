"""A provider's statement as CSV, with what each amount was worth when it was received.

Every receipt is a lot with its euro value at that time: its cost basis. What leaves takes from
the oldest lots first (FIFO). A part of a lot takes its share of the cost rounded down, and the
lot's last part takes the rest: costs in and out make the same sum to the pico. Which method a tax
office wants is the provider's to know; the receipts hold for any.
"""

import csv
import io
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from atoll.core.errors import AtollError, Kind
from atoll.core.money import AMOUNT_PICO_MAX, show_euro

MOVEMENTS_MAX = 1_000_000
DECIMALS_MAX = 18
UNITS_MAX = 10**36
COLUMNS = (
    "time", "kind", "asset", "amount", "value_eur", "cost_basis_eur", "gain_eur",
    "balance", "balance_cost_eur", "evidence",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asset:
    """What a provider holds: ``EUR`` (12 decimals), a stablecoin (6), the token (18)."""

    name: str
    decimals: int


@dataclass(frozen=True, slots=True)
class EarningsMovement:
    """Something a provider received, or that left him."""

    time_ms: int
    kind: str
    """``epoch``, ``payout``, ``credit``, …: a word for people."""
    asset: Asset
    units: int
    """In the asset's smallest unit; negative for what left."""
    value_pico: int
    """Its euro value at that time, as a whole; not negative."""
    evidence: str


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A movement with its cost and what it leaves."""

    movement: EarningsMovement
    cost_pico: int
    """Of a receipt its value, of what left the cost of the lots it took."""
    gain_pico: int
    """Value less cost of what left; 0 for receipts."""
    units_after: int
    cost_after_pico: int


def value_of(units: int, asset: Asset, rate_pico: int) -> int:
    """Return the euro value of units at a rate per whole one, rounded down to the pico."""
    whole: int = 10**asset.decimals
    return units * rate_pico // whole


def rows_of(movements: Sequence[EarningsMovement]) -> tuple[StatementRow, ...]:
    """Return a statement's rows, in the order given, which is that of time.

    Raises ``BAD_REQUEST`` for movements that are out of order, and where more leaves than came.
    """
    if len(movements) > MOVEMENTS_MAX:
        raise AtollError(Kind.TOO_LARGE, "write a statement", "ask for a shorter time")
    lots: dict[Asset, deque[tuple[int, int]]] = {}
    totals: dict[Asset, tuple[int, int]] = {}
    rows = []
    before_ms = None
    for one in movements:
        _check(one)
        if before_ms is not None and one.time_ms < before_ms:
            raise _bad("the movements are not in the order of time")
        before_ms = one.time_ms
        held = lots.setdefault(one.asset, deque())
        units, cost = totals.get(one.asset, (0, 0))
        if one.units > 0:
            held.append((one.units, one.value_pico))
            taken, gain = one.value_pico, 0
            cost += taken
        else:
            if -one.units > units:
                raise _bad("more left than was there", one.evidence)
            taken = _take(held, -one.units)
            gain = one.value_pico - taken
            cost -= taken
        totals[one.asset] = (units + one.units, cost)
        rows.append(StatementRow(one, taken, gain, units + one.units, cost))
    return tuple(rows)


def _take(lots: deque[tuple[int, int]], units: int) -> int:
    """Take units from the oldest lots; return their cost."""
    cost = 0
    while units:
        there, worth = lots.popleft()
        if there <= units:
            cost += worth
            units -= there
        else:
            part = worth * units // there
            lots.appendleft((there - units, worth - part))
            cost += part
            units = 0
    return cost


def _check(one: EarningsMovement) -> None:
    if not one.units or abs(one.units) > UNITS_MAX or not 0 <= one.value_pico <= AMOUNT_PICO_MAX:
        raise _bad("a movement moves something, and not more than there is", one.evidence)
    if not one.asset.name.isalnum() or not 0 <= one.asset.decimals <= DECIMALS_MAX:
        raise _bad("an asset has a short name and at most 18 decimals", one.evidence)


def _bad(message: str, about: str = "") -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "write a statement", message, about=about[:40])


def csv_of(movements: Sequence[EarningsMovement]) -> str:
    """Return the statement: comma-separated, CRLF (RFC 4180), decimal points, times in UTC.

    Numbers are exact. Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows_of(movements):
        one = row.movement
        left = one.units < 0
        writer.writerow(
            (
                datetime.fromtimestamp(one.time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                _text(one.kind),
                _text(one.asset.name),
                units_text(one.units, one.asset),
                _euro(-one.value_pico if left else one.value_pico),
                _euro(-row.cost_pico if left else row.cost_pico),
                _euro(row.gain_pico) if left else "",
                units_text(row.units_after, one.asset),
                _euro(row.cost_after_pico),
                _text(one.evidence),
            )
        )
    return out.getvalue()


def units_text(units: int, asset: Asset) -> str:
    """Write an amount of an asset exactly, as a decimal number."""
    whole, rest = divmod(abs(units), 10**asset.decimals)
    fraction = f"{rest:0{asset.decimals}}".rstrip("0") if asset.decimals else ""
    return f"{'-' if units < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"


def _euro(amount_pico: int) -> str:
    return show_euro(amount_pico).removesuffix(" EUR")


def _text(text: str) -> str:
    plain = "".join(one if one.isprintable() else " " for one in text)
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@")) else plain
