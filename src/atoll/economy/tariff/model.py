"""The nouns of prices. A class of storage is a tier: ``edge``, ``home``, ``pro`` or ``dc``.

Normative text: ``docs/spec/epochs.md``, "Prices".
"""

import msgspec

from atoll.core.errors import AtollError, Kind

DAY_MS = 86_400_000
REFERENCE_MOVE_BPS_DAY = 200
"""A reference price moves by 2 % a day at most, so that nobody swings it in an afternoon."""
UTILISATION_EVEN_BPS = 7_000
"""At this share of a class in use its prices stand as they are posted."""
MULTIPLIER_MIN_BPS = 8_000
MULTIPLIER_MAX_BPS = 20_000
UTILISATION_SLOPE_BPS = 33_333
"""``k``: from 70 % to 100 % in use the multiplier rises from 1 to 2."""
REFERENCE_SHARE_MIN_BPS = 5_000
REFERENCE_SHARE_MAX_BPS = 20_000
"""In placement a price counts as at least half and at most twice the reference."""
SCORE_BPS_MAX = 10_000


def wrong(message: str) -> AtollError:
    """Return the refusal of figures that cannot be."""
    return AtollError(Kind.BAD_REQUEST, "check tariff", message)


class ClassTariff(msgspec.Struct, frozen=True, array_like=True):
    """Prices of one class of storage in one epoch. Per GB-month and per GB, pico-euro."""

    tier: str
    price_min_pico: int
    """Providers post between this …"""
    price_max_pico: int
    """… and this."""
    reference_pico: int
    """Weighted median of what is posted."""
    multiplier_bps: int
    """By how much of the class is in use; applies to every price of the class."""
    egress_pico: int
    """Paid to the provider for a GB that a customer reads."""

    def check(self) -> None:
        """Raise ``BAD_REQUEST`` for figures that cannot be."""
        if not 0 < self.price_min_pico <= self.reference_pico <= self.price_max_pico:
            raise wrong(f"class {self.tier}: the reference price is outside of the bounds")
        if not MULTIPLIER_MIN_BPS <= self.multiplier_bps <= MULTIPLIER_MAX_BPS:
            raise wrong(f"class {self.tier}: a multiplier of {self.multiplier_bps} basis points")
        if self.egress_pico < 0:
            raise wrong(f"class {self.tier}: a negative price of traffic")


class Tariff(msgspec.Struct, frozen=True, array_like=True):
    """All prices of one epoch."""

    classes: list[ClassTariff]
    """By tier, in the order of the names; each once."""
    repair_pico: int
    """Paid to a repair worker for a GB of pieces rebuilt."""

    def check(self) -> None:
        """Raise ``BAD_REQUEST`` for figures that cannot be."""
        tiers = [one.tier for one in self.classes]
        if tiers != sorted(set(tiers)) or not tiers:
            raise wrong("classes stand in the order of their names, each once")
        if self.repair_pico < 0:
            raise wrong("a negative price of repair")
        for one in self.classes:
            one.check()

    def of(self, tier: str) -> ClassTariff:
        """Return the prices of a class. Raises ``BAD_REQUEST`` for one that is not sold."""
        for one in self.classes:
            if one.tier == tier:
                return one
        raise wrong(f"there is no class {tier!r}")


class Posted(msgspec.Struct, frozen=True, array_like=True):
    """What one provider asks, and how much room it has shown that it has."""

    price_pico: int
    proven_free_bytes: int
    """Free as reported, by a node that proves what it holds; others weigh nothing."""


class Rival(msgspec.Struct, frozen=True, array_like=True):
    """One node of a class, as placement weighs it."""

    price_pico: int
    score_bps: int


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """A node whose owner thinks about a price."""

    price_pico: int
    score_bps: int
    capacity_bytes: int
    held_bytes: int
    """What it is paid for now."""


class Preview(msgspec.Struct, frozen=True, array_like=True):
    """At this price, this share, this income. Per month of 30 days, everything proven."""

    price_pico: int
    """As it would be posted: within the bounds of the class."""
    payout_pico: int
    """What the provider would get per GB-month today: after multiplier and ceiling."""
    customer_pico: int
    """What customers would pay for it."""
    share_bps: int
    """Of what is newly stored in the class."""
    expected_bytes: int
    """Held in the long run: that share of what the class holds, at most the capacity."""
    income_now_pico: int
    """With what is held now."""
    income_expected_pico: int
    """With ``expected_bytes``."""
    income_full_pico: int
    """With every byte of the capacity in use."""
    ceiling: bool
    """The price is above what any customer pays: nothing is gained by asking more."""


class HoldBack(msgspec.Struct, frozen=True, array_like=True):
    """How a provider builds up its bond, instead of buying one."""

    bps: int
    """Of its pay, held until the ceiling is reached."""
    ceiling_pico: int
    """The bond required; what is held beyond it is returned at once."""
