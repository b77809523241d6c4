"""The nouns of the market: how it begins, what is remembered of a class."""

from dataclasses import dataclass

from atoll.economy.settlement.model import TAKE_BPS

PICO_PER_MICRO_OF_TB = 1_000
"""Pico-euro per GB in a micro-euro per TB, which is how a node's facts say its price."""
PRICE_SPREAD = 10
"""Providers post between a tenth and ten times of where a class began."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a class begins, before anybody posted a price. Micro-euro per TB and month."""

    tier: str
    price_micro: int


STARTS = (
    Start("dc", 2_500_000),
    Start("edge", 1_000_000),
    Start("home", 1_300_000),
    Start("pro", 1_800_000),
)
"""In the order of the names. 1.30 EUR: what a home pays for power and wear of a TB, and as much
again (the notes of the design); the others by what their place costs beside it."""
EGRESS_MICRO_PER_TB = 2_000_000
REPAIR_MICRO_PER_TB = 4_000_000


@dataclass(frozen=True, slots=True)
class MarketConfig:
    """How the market is kept."""

    take_bps: int = TAKE_BPS
    pause_s: float = 60.0
    """Between two moves of the reference prices."""


@dataclass(frozen=True, slots=True)
class ClassState:
    """What is remembered of a class."""

    tier: str
    reference_pico: int
    multiplier_bps: int
    moved_ms: int
    """When the reference was last moved; 0 before the first time."""


@dataclass(frozen=True, slots=True)
class ClassUse:
    """How much of a class there is, and how much is in use."""

    nodes: int
    capacity_bytes: int
    used_bytes: int
