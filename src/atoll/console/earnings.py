"""From providers' earnings to what a person is shown. Pure."""

from collections.abc import Mapping

from atoll.console.model import EarningsView, Euros, Fact
from atoll.core.messages.payouts import AllEarnings
from atoll.core.money import PICO_PER_EUR

DECIMALS_MIN, DECIMALS_MAX = 4, 12
MONEY_DECIMALS = ((100, 2), (1, 4))
"""Of amounts that stand still: from so many euros on; six of smaller ones."""


def euros_by_node(earnings: AllEarnings, now_ms: int) -> Mapping[bytes, Euros]:
    """Return what each node earned until now, all with the same decimals."""
    decimals = _decimals(earnings)
    return {
        one.node_id: _euros(one.earned_by(now_ms), one.pico_per_s, decimals)
        for one in earnings.nodes
    }


def earnings_view(earnings: AllEarnings, now_ms: int) -> EarningsView:
    """Return what all nodes earned together."""
    nodes = earnings.nodes
    total = sum(one.earned_by(now_ms) for one in nodes)
    pace = sum(one.pico_per_s for one in nodes)
    month = sum(one.month_pico for one in nodes)
    sent = sum(one.sent_pico for one in nodes)
    factor = max((one.time_factor for one in nodes), default=1)
    return EarningsView(
        total=_euros(total, pace, _decimals(earnings)),
        facts=(
            Fact("A month", money(month), "projected, as stored now"),
            Fact("Held", money(sum(one.held_pico for one in nodes)), "until bonds are full"),
            Fact("Due", money(sum(one.due_pico for one in nodes)), "released, to be paid"),
            Fact("Paid", money(sum(one.paid_pico for one in nodes)), _sent(sent)),
            Fact("Spent", money(sum(one.credited_pico for one in nodes)), "on own storage"),
        ),
        remark=f"time counts {factor:,} times" if factor > 1 else "",
    )


def _sent(sent_pico: int) -> str:
    return f"{money(sent_pico)} on its way" if sent_pico else "by bank"


def _decimals(earnings: AllEarnings) -> int:
    """Return how many decimals let a node's figure move about once a tenth of a second."""
    paces = sorted(one.pico_per_s for one in earnings.nodes if one.pico_per_s)
    if not paces:
        return DECIMALS_MIN
    slow = paces[len(paces) // 2]
    return max(DECIMALS_MIN, min(DECIMALS_MAX, DECIMALS_MAX - len(str(slow)) + 2))


def _euros(pico: int, pico_per_s: int, decimals: int) -> Euros:
    return Euros(money(pico, decimals), pico, pico_per_s, decimals)


def money(pico: int, decimals: int = 0) -> str:
    """Write an amount of euros with so many decimals (0: as fits), rounded towards nothing."""
    whole, rest = divmod(abs(pico), PICO_PER_EUR)
    decimals = decimals or next((few for least, few in MONEY_DECIMALS if whole >= least), 6)
    sign = "-" if pico < 0 else ""
    return f"{sign}{whole:,}.{f'{rest:012}'[:decimals]}"
