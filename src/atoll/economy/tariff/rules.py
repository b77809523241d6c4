"""Pure decisions about prices: reference, multiplier, pay and fee, weight, preview, hold-back."""

from collections.abc import Iterable, Sequence

from atoll.core.money import BPS, GB_BYTES, MONTH_MS, PICO_PER_EUR, part_down
from atoll.economy.tariff.model import (
    DAY_MS,
    MULTIPLIER_MAX_BPS,
    MULTIPLIER_MIN_BPS,
    REFERENCE_MOVE_BPS_DAY,
    REFERENCE_SHARE_MAX_BPS,
    REFERENCE_SHARE_MIN_BPS,
    SCORE_BPS_MAX,
    UTILISATION_EVEN_BPS,
    UTILISATION_SLOPE_BPS,
    ClassTariff,
    HoldBack,
    Offer,
    Posted,
    Preview,
    Rival,
)

TB_BYTES = 10**12
BOND_PICO_PER_TB = 4 * PICO_PER_EUR
"""What it costs to rebuild a TB that a node lost, at 20/40 (notes of the design)."""
BOND_MONTHS = 2
"""A bond covers at least this many months of pay."""
START_BYTES = TB_BYTES
"""What a node may hold with no bond at all."""
LADDER_BPS = (7_500, 5_000, 2_500)
LADDER_STEP_MS = 3 * MONTH_MS
"""75, 50, 25 % for three months each, then nothing."""
FLAT_BPS = 2_500
"""The default: a quarter, until the bond is complete."""


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


# --- the market's figures ------------------------------------------------------------------------


def weighted_median(posted: Iterable[Posted]) -> int | None:
    """Return the lowest price at which half of the weight is reached; None without weight."""
    known = sorted(
        (one.price_pico, one.proven_free_bytes) for one in posted if one.proven_free_bytes > 0
    )
    total = sum(weight for _, weight in known)
    reached = 0
    for price, weight in known:
        reached += weight
        if 2 * reached >= total:
            return price
    return None


def reference_price(before_pico: int, posted: Iterable[Posted], elapsed_ms: int) -> int:
    """Return the new reference: towards the weighted median, by 2 % a day at most.

    Time counts by the millisecond: a day in steps moves no further than a day at once, but for
    the compounding of the steps. Where nobody posts, it stays.
    """
    median = weighted_median(posted)
    if median is None or elapsed_ms <= 0:
        return before_pico
    move = before_pico * REFERENCE_MOVE_BPS_DAY * min(elapsed_ms, DAY_MS) // (BPS * DAY_MS)
    return _clamp(median, before_pico - move, before_pico + move)


def multiplier_bps(
    used_bytes: int, capacity_bytes: int, slope_bps: int = UTILISATION_SLOPE_BPS
) -> int:
    """Return ``clamp(1 + k (u - 0.7), 0.8, 2)`` for the share ``u`` of a class in use."""
    if capacity_bytes <= 0:
        return BPS
    used_bps = _clamp(used_bytes * BPS // capacity_bytes, 0, BPS)
    raised = BPS + slope_bps * (used_bps - UTILISATION_EVEN_BPS) // BPS
    return _clamp(raised, MULTIPLIER_MIN_BPS, MULTIPLIER_MAX_BPS)


# --- one price ------------------------------------------------------------------------------------


def posted_price(price_pico: int, prices: ClassTariff) -> int:
    """Return a provider's price within the bounds of its class; 0 posts the reference."""
    asked = price_pico or prices.reference_pico
    return _clamp(asked, prices.price_min_pico, prices.price_max_pico)


def payout_price(price_pico: int, prices: ClassTariff) -> int:
    """Return what a provider is paid per GB-month today.

    Its price, at most twice the reference, times the multiplier of the class.
    """
    ceiling = part_down(prices.reference_pico, REFERENCE_SHARE_MAX_BPS)
    asked = min(posted_price(price_pico, prices), ceiling)
    return part_down(asked, prices.multiplier_bps)


def fee_price(payout_pico: int, take_bps: int) -> int:
    """Return what a customer pays so that this is left after the take, rounded up."""
    return -(-payout_pico * BPS // (BPS - take_bps))


def class_price(prices: ClassTariff, take_bps: int) -> int:
    """Return the one price of a class that customers see: per GB-month of pieces."""
    return fee_price(part_down(prices.reference_pico, prices.multiplier_bps), take_bps)


def class_price_max(prices: ClassTariff, take_bps: int) -> int:
    """Return what no byte of the class costs more than today, whoever holds it."""
    return fee_price(payout_price(prices.price_max_pico, prices), take_bps)


def customer_price(piece_pico: int, k: int, n: int) -> int:
    """Return a price per GB-month of objects, of one per GB-month of pieces: n/k, rounded up."""
    return -(-piece_pico * n // k)


# --- placement ------------------------------------------------------------------------------------


def placement_weight(score_bps: int, price_pico: int, reference_pico: int) -> int:
    """Return ``score^2 / price``, the price within 0.5 … 2 times the reference; 0 … 2 x 10^8."""
    score = _clamp(score_bps, 0, SCORE_BPS_MAX)
    low = max(1, part_down(reference_pico, REFERENCE_SHARE_MIN_BPS))
    high = max(low, part_down(reference_pico, REFERENCE_SHARE_MAX_BPS))
    return score * score * reference_pico // _clamp(price_pico, low, high)


def month_pay(byte_count: int, price_pico: int) -> int:
    """Return the price of so many bytes for a month."""
    return byte_count * price_pico // GB_BYTES


def preview(
    offer: Offer,
    prices: ClassTariff,
    rivals: Sequence[Rival],
    class_held_bytes: int,
    take_bps: int,
) -> Preview:
    """Say what a price would bring: at this price, this share, this income.

    ``rivals`` are the other nodes of the class, ``class_held_bytes`` what the whole class holds.
    The share is that of new pieces, by weight; caps per operator, network and site are not in it.
    """
    price = posted_price(offer.price_pico, prices)
    payout = payout_price(price, prices)
    own = placement_weight(offer.score_bps, price, prices.reference_pico)
    all_weights = own + sum(
        placement_weight(one.score_bps, one.price_pico, prices.reference_pico) for one in rivals
    )
    expected = class_held_bytes * own // all_weights if all_weights else 0
    expected = min(offer.capacity_bytes, expected)
    return Preview(
        price_pico=price,
        payout_pico=payout,
        customer_pico=fee_price(payout, take_bps),
        share_bps=own * BPS // all_weights if all_weights else 0,
        expected_bytes=expected,
        income_now_pico=month_pay(offer.held_bytes, payout),
        income_expected_pico=month_pay(expected, payout),
        income_full_pico=month_pay(offer.capacity_bytes, payout),
        ceiling=price > part_down(prices.reference_pico, REFERENCE_SHARE_MAX_BPS),
    )


# --- hold-back ------------------------------------------------------------------------------------


def required_bond(income_month_pico: int, held_bytes: int) -> int:
    """Return the bond of a node.

    Two months of pay, or the repair of what it holds beyond the start, whichever is more.
    """
    beyond = max(0, held_bytes - START_BYTES)
    return max(BOND_MONTHS * income_month_pico, -(-beyond * BOND_PICO_PER_TB // TB_BYTES))


def capacity_ceiling(bond_pico: int, held_pico: int) -> int:
    """Return the bytes a node may hold with this bond and this much held back: earn-in."""
    return START_BYTES + (bond_pico + held_pico) * TB_BYTES // BOND_PICO_PER_TB


def hold_back(
    *, age_ms: int, bond_pico: int, required_pico: int, ladder: bool = False, exiting: bool = False
) -> HoldBack:
    """Return what is held of a node's pay in this epoch.

    A bond paid at once counts against what is required; where it covers it all nothing is held.
    With ``ladder`` 75, 50, 25 % are held for three months each; otherwise 25 % until the bond is
    complete. A graceful exit returns everything.
    """
    if exiting:
        return HoldBack(0, 0)
    ceiling = max(0, required_pico - bond_pico)
    if not ladder:
        return HoldBack(FLAT_BPS if ceiling else 0, ceiling)
    step = max(0, age_ms) // LADDER_STEP_MS
    return HoldBack(LADDER_BPS[step] if ceiling and step < len(LADDER_BPS) else 0, ceiling)
