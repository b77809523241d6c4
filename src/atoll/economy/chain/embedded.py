"""What the contracts are made with, where nobody says otherwise."""

from typing import Any, Final

from atoll.economy import genesis
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID

DAY_S: Final = 86_400
TIME_DIVISOR: Final = 3_600
"""A day of a public chain is 24 s on an embedded one, unless set otherwise."""
UNBONDING_S: Final = 14 * DAY_S
OWNER_DELAY_S: Final = 15 * DAY_S
"""Of the timelock: longer than unbonding; with less ``Parameters`` has no owner."""
ACCOUNT_ROLES: Final = (
    "holder",
    "community",
    "contributors",
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
"""Accounts that contracts name. On an embedded chain their keys follow from the coordinator's seed;
on a public one people give their addresses."""


def default_values(time_divisor: int) -> dict[str, Any]:
    """Return the arguments of the contracts; windows are ``time_divisor`` times shorter."""
    return {
        "TestStable.embedded_chain_id": EMBEDDED_CHAIN_ID,
        **genesis.arguments(genesis.read()[0]),
        "Timelock.minimum_delay_s": max(1, OWNER_DELAY_S // time_divisor),
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
        "SlashCourt.keys": [],
        "SlashCourt.nodes": [],
    }
