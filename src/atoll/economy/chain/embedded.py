"""What the contracts of an embedded chain are made with, where nobody says otherwise."""

from typing import Any, Final

from atoll.economy.chain.model import EMBEDDED_CHAIN_ID

DAY_S: Final = 86_400
TIME_DIVISOR: Final = 3_600
"""A day of a public chain is 24 s on an embedded one, unless set otherwise."""
SUPPLY_WEI: Final = 10**9 * 10**18
"""Tokens: a thousand million, half of them vesting."""
VESTING_START_S: Final = 1_767_225_600
"""1 January 2026, fixed, so that the same plan gives the same addresses."""
UNBONDING_S: Final = 14 * DAY_S
ACCOUNT_ROLES: Final = (
    "holder",
    "governor",
    "guardian",
    "repair",
    "insurance",
    "treasury",
    "coordinators",
    "verifiers",
    "stakers",
    "burn",
)
"""Accounts that contracts name; their keys follow from the coordinator's seed."""


def embedded_values(time_divisor: int) -> dict[str, Any]:
    """Return the arguments of the contracts; windows are ``time_divisor`` times shorter."""
    return {
        "TestStable.embedded_chain_id": EMBEDDED_CHAIN_ID,
        "Vesting.beneficiaries": ["@holder"],
        "Vesting.amounts": [SUPPLY_WEI // 2],
        "Vesting.starts_s": [VESTING_START_S],
        "Vesting.cliffs_s": [0],
        "Vesting.durations_s": [4 * 365 * DAY_S],
        "Token.holders": ["@Vesting", "@holder"],
        "Token.amounts": [SUPPLY_WEI // 2, SUPPLY_WEI - SUPPLY_WEI // 2],
        "Timelock.minimum_delay_s": max(1, UNBONDING_S // time_divisor),
        "Parameters.time_divisor": time_divisor,
        "Treasury.payees": [
            "@insurance",
            "@treasury",
            "@coordinators",
            "@verifiers",
            "@stakers",
            "@burn",
        ],
        "Bond.unbonding_s": max(2, UNBONDING_S // time_divisor),
        "Bond.reward_s": max(1, DAY_S // time_divisor),
    }
