"""Decisions about fees and gas, without side effects."""

from collections.abc import Sequence
from typing import Final

from atoll.core.ports import ChainFees
from atoll.economy.chain.model import GAS_MAX, ChainProfile

GAS_MARGIN_PERCENT: Final = 25
GAS_MARGIN: Final = 10_000
"""Added to an estimate: state may change until the transaction is in a block."""
BUMP_PERCENT: Final = 25
"""Nodes replace a transaction for 10 % more at least (geth: price bump)."""
BUMPS_MAX: Final = 12
"""1.25 to the twelfth: more than 14 times the first fee."""


def first_fees(fees: ChainFees, profile: ChainProfile) -> tuple[int, int] | None:
    """Return fee limit and tip per unit of gas; None where the chain is dearer than allowed.

    Twice the base fee stands six full blocks in a row (each may raise it by an eighth).
    """
    if fees.base_wei + fees.tip_wei > profile.fee_wei_max:
        return None
    wanted = max(2 * fees.base_wei + fees.tip_wei, profile.fee_wei_floor)
    limit = min(wanted, profile.fee_wei_max)
    return limit, min(fees.tip_wei, limit)


def raised_fees(
    fee_wei_max: int, tip_wei: int, fees: ChainFees, profile: ChainProfile
) -> tuple[int, int] | None:
    """Return fees for a replacement, both at least a quarter higher; None above the ceiling."""

    def raised(wei: int) -> int:
        return -(-wei * (100 + BUMP_PERCENT) // 100)

    limit = max(raised(fee_wei_max), 2 * fees.base_wei + fees.tip_wei)
    if limit > profile.fee_wei_max:
        return None
    return limit, min(max(raised(tip_wei), fees.tip_wei), limit)


def gas_limit(estimate: int) -> int | None:
    """Return the gas limit for an estimate; None where no block takes so much."""
    if estimate > GAS_MAX:
        return None
    return min(estimate * (100 + GAS_MARGIN_PERCENT) // 100 + GAS_MARGIN, GAS_MAX)


def missing_nonces(next_on_chain: int, ours: frozenset[int]) -> list[int]:
    """Return nonces that keep later ones of ours waiting, since nothing was signed for them."""
    if not ours:
        return []
    return [nonce for nonce in range(next_on_chain, max(ours)) if nonce not in ours]


def sending_order(waiting: Sequence[tuple[bytes, int, int]]) -> list[int]:
    """Return in which order to send: places in ``waiting``, which has sender, nonce and serial.

    By nonce for each sender, since a chain takes them in no other order; among senders by serial,
    since what was wanted later may build on what was wanted earlier. A nonce that was filled in
    later goes before all that waits for it.
    """
    by_sender: dict[bytes, list[tuple[int, int, int]]] = {}
    for place, (sender, nonce, serial) in enumerate(waiting):
        by_sender.setdefault(sender, []).append((nonce, serial, place))
    ordered = []
    for entries in by_sender.values():
        entries.sort(reverse=True)
        rank = entries[0][1]
        for nonce, serial, place in entries:
            rank = min(rank, serial)
            ordered.append((rank, nonce, place))
    return [place for _, _, place in sorted(ordered)]
