"""Prices: what a class of storage costs today, and what a provider's price would bring.

Prices are pico-euro (1e-12 EUR) per GB and month of 30 days, of pieces: a GB of objects is n/k of
that. docs/spec/epochs.md has the rules.
"""

from atoll.core.messages.base import Message


class GetPrices(Message, frozen=True):
    """What does storage cost?"""


class ClassPrice(Message, frozen=True):
    """One class of storage: a tier."""

    tier: str
    reference_pico: int
    """Weighted median of what providers post; it moves by 2 % a day at most."""
    multiplier_bps: int
    """By how much of the class is in use; 10,000 is 1."""
    price_min_pico: int
    price_max_pico: int
    """Providers post between these."""
    customer_pico: int
    """The one price customers are shown: reference and multiplier, take included."""
    customer_max_pico: int
    """What no byte of the class costs more than."""
    egress_pico: int
    """For a GB read, take included."""
    nodes: int
    """That are alive and offer room."""
    capacity_bytes: int
    used_bytes: int


class Prices(Message, frozen=True):
    """All classes, by name."""

    time_ms: int
    take_bps: int
    repair_pico: int
    """A repair worker gets this for a GB."""
    classes: list[ClassPrice]


class PreviewPrice(Message, frozen=True):
    """What would a node of this class get at this price? Errors: ``BAD_REQUEST``."""

    tier: str
    price_pico: int
    """0: the reference."""
    capacity_bytes: int
    held_bytes: int = 0
    score_bps: int = 10_000
    """Its score in placement; 10,000 is the best."""


class AskPreview(Message, frozen=True):
    """A node: what would this price bring me? With its own capacity, pieces and score.

    Errors: ``NOT_FOUND``.
    """

    price_pico: int
    """0: the reference."""


class PricePreview(Message, frozen=True):
    """At this price, this share, this income; per month of 30 days, everything proven."""

    tier: str
    price_pico: int
    """Within the bounds of the class."""
    payout_pico: int
    """What the provider would get per GB-month today."""
    customer_pico: int
    """What customers would pay for it."""
    share_bps: int
    """Of what is newly stored in the class."""
    held_bytes: int
    expected_bytes: int
    """In the long run."""
    capacity_bytes: int
    income_now_micro: int
    """1e-6 EUR a month, with what is held now."""
    income_expected_micro: int
    """With what is expected."""
    income_full_micro: int
    """With every byte in use."""
    ceiling: bool
    """No customer pays more: nothing is gained by asking more."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {AskPreview: PricePreview}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    GetPrices: Prices,
    PreviewPrice: PricePreview,
}
"""Requests of gateways of this family and their answers."""
