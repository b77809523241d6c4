"""What an epoch is computed from and what comes out: frozen, whole numbers, one canonical form.

Every struct is an array in MessagePack, its fields in the order below (``docs/spec/epochs.md``).
``node`` is a node id (32 bytes), ``payer`` names a customer (16 bytes: in what is published a
pseudonym of that epoch), ``account`` is where a provider is paid on chain (20 bytes), ``evidence``
the SHA-256 of what a line rests on.
"""

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.money import BPS

BUCKETS = ("insurance", "treasury", "coordinators", "verifiers", "stakers", "burn")
"""Where the take goes: insurance and repair, treasury, coordinators and gateways, verifiers and
relays, stakers, burn. In the order of the contract."""
INSURANCE = 0
TREASURY = 1
SHARES_BPS = (2_500, 1_500, 2_000, 1_500, 2_000, 500)
TAKE_BPS, TAKE_MIN_BPS, TAKE_MAX_BPS = 1_200, 500, 2_000
TOP_UP_BPS = 1_000
DISCOUNT_BPS_MAX = 500
REPORTER_BPS_MAX = 1_000
LINES_MAX = 50_000_000
NO_LIMIT = -1
REAL_TIME = 1
TIME_FACTOR_MAX = 10**9
"""A second counts as at most thirty years."""


def wrong(message: str) -> AtollError:
    """Return the refusal of inputs that cannot be."""
    return AtollError(Kind.BAD_REQUEST, "compute epoch", message)


class TakeParameters(msgspec.Struct, frozen=True, array_like=True):
    """The numbers that govern an epoch, as the chain's ``Parameters`` had them."""

    take_bps: int = TAKE_BPS
    shares_bps: tuple[int, int, int, int, int, int] = SHARES_BPS
    """Of the take, in the order of ``BUCKETS``."""
    top_up_bps: int = TOP_UP_BPS
    """rho: a top-up is at most this share of the same epoch's take, net of discounts."""
    discount_bps_max: int = DISCOUNT_BPS_MAX
    reporter_bps_max: int = REPORTER_BPS_MAX

    @property
    def self_payable_bps(self) -> int:
        """What a coalition of everybody could pay to itself: all of the take but the treasury's."""
        return BPS - self.shares_bps[TREASURY]

    def check(self) -> None:
        """Raise ``BAD_REQUEST`` unless self-dealing loses with these numbers."""
        if not TAKE_MIN_BPS <= self.take_bps <= TAKE_MAX_BPS:
            raise wrong(f"a take of {self.take_bps} basis points is out of bounds")
        if sum(self.shares_bps) != BPS or min(self.shares_bps) < 0:
            raise wrong("the shares of the take make up the whole")
        if self.top_up_bps < 0 or self.top_up_bps + self.self_payable_bps >= BPS:
            raise wrong(
                "top-up and the shares a coalition could pay to itself reach the whole take"
            )
        if not 0 <= self.discount_bps_max <= min(DISCOUNT_BPS_MAX, self.take_bps // 2):
            raise wrong("a discount is at most half of the take")
        if not 0 <= self.reporter_bps_max <= REPORTER_BPS_MAX:
            raise wrong("a reporter gets at most a tenth of a slash")


# --- inputs ---------------------------------------------------------------------------------------


class NodeTerms(msgspec.Struct, frozen=True, array_like=True):
    """On which terms a node is paid in this epoch."""

    node: bytes
    account: bytes
    tier: str
    hold_back_bps: int = 0
    ceiling_pico: int = 0
    """What is held beyond this is returned; a graceful exit has 0."""
    credit_bps: int = 0
    """Barter: this share of what would be released is spent on the owner's own storage, at par."""


class CustomerTerms(msgspec.Struct, frozen=True, array_like=True):
    """What holds for one customer; without a row: no discount, no limit."""

    payer: bytes
    discount_bps: int = 0
    limit_pico: int = NO_LIMIT
    """What can be drawn from him. Only given where it binds: it would tell who he is."""


class StorageLine(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of one customer at one node, times time, at the price the node had posted."""

    node: bytes
    payer: bytes
    byte_ms: int
    price_pico: int
    """As posted, per GB-month."""
    price_max_pico: int
    """The customer's maximum per GB-month of pieces; 0 for the class's own."""
    evidence: bytes


class EgressLine(msgspec.Struct, frozen=True, array_like=True):
    """Bytes that a customer read from a node, by receipts that both signed."""

    node: bytes
    payer: bytes
    byte_count: int
    evidence: bytes


class RepairLine(msgspec.Struct, frozen=True, array_like=True):
    """Pieces of a failed node that a worker rebuilt."""

    worker: bytes
    failed: bytes
    """Empty where it is not known: then the insurance pays."""
    byte_count: int
    evidence: bytes


class ProofLine(msgspec.Struct, frozen=True, array_like=True):
    """What a node proved, by verdicts that two thirds of committees signed."""

    node: bytes
    slots_due: int
    """Slots in which a proof was owed; none inside declared absence or where verifiers were out."""
    slots_missed: int
    samples: int
    """Judged in the slots that were met."""
    failed: int
    evidence: bytes

    def fraction(self) -> tuple[int, int]:
        """Return the proven fraction as numerator and denominator."""
        if not self.slots_due:
            return 1, 1
        met = self.slots_due - self.slots_missed
        if not met or not self.samples:
            return 0, 1
        return met * (self.samples - self.failed), self.slots_due * self.samples

    def check(self) -> None:
        """Raise ``BAD_REQUEST`` for figures that cannot be."""
        if not 0 <= self.slots_missed <= self.slots_due or not 0 <= self.failed <= self.samples:
            raise wrong("a proof line contradicts itself")


class Damage(msgspec.Struct, frozen=True, array_like=True):
    """What one customer lost."""

    payer: bytes
    amount_pico: int


class Slash(msgspec.Struct, frozen=True, array_like=True):
    """Something held is taken, on evidence that a machine can check."""

    node: bytes
    amount_pico: int
    """At most this; never more than is held."""
    repair_pico: int
    """The repair bill, served first."""
    customers: list[Damage]
    """Served second, in proportion."""
    reporter: bytes
    """Account (20 bytes) of whoever brought the evidence; empty for nobody."""
    reporter_bps: int
    evidence: bytes


class Credit(msgspec.Struct, frozen=True, array_like=True):
    """The insurance pays a customer, as far as it has anything."""

    payer: bytes
    amount_pico: int
    evidence: bytes


class EpochInputs(msgspec.Struct, frozen=True, array_like=True):
    """Everything an epoch is computed from, beside totals, tariff and parameters."""

    epoch: int
    from_ms: int
    until_ms: int
    nodes: list[NodeTerms]
    customers: list[CustomerTerms]
    storage: list[StorageLine]
    egress: list[EgressLine]
    repairs: list[RepairLine]
    proofs: list[ProofLine]
    slashes: list[Slash]
    credits: list[Credit]
    reserve_pico: int = 0
    """What there is to top up from."""
    time_factor: int = REAL_TIME
    """So many times longer is stored bytes' time for fees: more than 1 in demonstrations only."""


# --- what goes on from epoch to epoch -------------------------------------------------------------


class AccountTotal(msgspec.Struct, frozen=True, array_like=True):
    """What an account was ever paid: it never falls."""

    account: bytes
    released_pico: int


class NodeTotal(msgspec.Struct, frozen=True, array_like=True):
    """What is held of a node's pay now, for the account it was last paid to."""

    node: bytes
    account: bytes
    held_pico: int


class Owed(msgspec.Struct, frozen=True, array_like=True):
    """Repair work that the insurance could not pay yet."""

    node: bytes
    amount_pico: int


class EpochTotals(msgspec.Struct, frozen=True, array_like=True):
    """Where an epoch ended and the next begins. Lists are sorted by their first field."""

    epoch: int
    accounts: list[AccountTotal]
    nodes: list[NodeTotal]
    buckets_pico: tuple[int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0)
    """Taken in by each bucket so far."""
    carried: tuple[int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0)
    """Fractions of a pico still owed to each bucket, in 1/10,000."""
    insurance_pico: int = 0
    """What the insurance has now."""
    owed: list[Owed] = []


FIRST = EpochTotals(epoch=0, accounts=[], nodes=[])
"""Before the first epoch, which is number 1."""


# --- results --------------------------------------------------------------------------------------


class NodeResult(msgspec.Struct, frozen=True, array_like=True):
    """One node's epoch; the top-up is part of what is withheld.

    ``earned + repair + top_up + returned = released + credited + withheld``.
    """

    node: bytes
    account: bytes
    fee_pico: int
    """What customers were to pay for it, had all been proven."""
    earned_pico: int
    repair_pico: int
    top_up_pico: int
    withheld_pico: int
    returned_pico: int
    slashed_pico: int
    """Taken from what was held: repair of its lost pieces, and slashes."""
    credited_pico: int
    released_pico: int
    held_pico: int
    """Held after the epoch."""


class CustomerResult(msgspec.Struct, frozen=True, array_like=True):
    """One customer's epoch: he pays ``charge - refund``."""

    payer: bytes
    charge_pico: int
    refund_pico: int
    """The unproven share."""
    discount_pico: int
    unfunded_pico: int
    """What was used and could not be drawn: nobody is paid for it."""
    credit_pico: int
    """From slashes and the insurance."""


class Reward(msgspec.Struct, frozen=True, array_like=True):
    """What a reporter gets, released at once."""

    account: bytes
    amount_pico: int


class EpochResult(msgspec.Struct, frozen=True, array_like=True):
    """What an epoch comes to. Lists are sorted by their first field."""

    nodes: list[NodeResult]
    customers: list[CustomerResult]
    rewards: list[Reward]
    take_pico: int
    """Net of discounts."""
    buckets_pico: tuple[int, int, int, int, int, int]
    """The take's split; with what was carried it makes up the take."""
    top_up_pico: int
    slash_repair_pico: int
    slash_insurance_pico: int
    insurance_out_pico: int
    """Repair work and credits that the insurance paid."""
    totals: EpochTotals
