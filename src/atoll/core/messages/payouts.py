"""What providers earn, how they want to be paid, and what is paid out.

Amounts are pico-euro (1e-12 EUR); a message holds at most 18 million euro of a node.
"""

from atoll.core.messages.base import Message
from atoll.core.money import MONTH_MS

EARNING_DAYS_MAX = 400
EARNING_NODES_MAX = 5_000
"""Nodes of one answer about all: what a message holds."""

# --- earnings ------------------------------------------------------------------------------------


class GetEarnings(Message, frozen=True):
    """A node: what have I earned? Errors: ``NOT_FOUND``."""

    days: int = 31
    """So many of the last days one by one, 0 … ``EARNING_DAYS_MAX``."""


class EarningsDay(Message, frozen=True):
    """What epochs that ended on one day (UTC) brought a node.

    ``earned + repair + top_up - slashed = released + credited + held``.
    """

    day: str
    """ISO: ``2026-11-20``."""
    earned_pico: int = 0
    """For storage and traffic, the network's share taken off, the unproven left out."""
    repair_pico: int = 0
    top_up_pico: int = 0
    slashed_pico: int = 0
    """Taken from what was held."""
    held_pico: int = 0
    """By how much what is held changed: below nothing where more was returned."""
    credited_pico: int = 0
    """Spent on own storage."""
    released_pico: int = 0
    """To be paid out."""


class NodeEarnings(Message, frozen=True):
    """One node's earnings: now, projected, held, paid."""

    node_id: bytes
    alias: int
    told_ms: int
    """The coordinator's clock when it said this."""
    time_ms: int
    """Up to here ``now_pico`` is measured."""
    since_ms: int
    """Where the last epoch that is settled ended."""
    now_pico: int
    """Earned since then, as far as it is proven."""
    month_pico: int
    """What storage held now would earn in a month of 30 days at today's price and proofs."""
    time_factor: int
    """So many times faster is it earned: more than 1 in demonstrations only."""
    settled_pico: int
    """Earned in all epochs that are settled, slashes taken off."""
    held_pico: int
    """Held back of it now."""
    credited_pico: int
    """Spent on own storage so far."""
    released_pico: int
    """Released so far: to be paid, or paid."""
    sent_pico: int
    """On its way to the provider's bank."""
    paid_pico: int
    """Left for the provider's bank, by the bank's word."""
    due_pico: int
    """Released and neither sent nor paid."""
    proven_bps: int
    """Share of what is stored that counts as proven, in 1/10,000."""
    method: str = "euro"
    """How it is paid: ``euro``, ``credit`` or ``mix``."""
    credit_bps: int = 0
    """Share that is spent on own storage."""
    bank: str = ""
    """Where euros go: country and last four characters; empty: no bank account is named."""
    problem: str = ""
    """Why nothing can be paid out, in words; empty for nothing."""
    days: list[EarningsDay] = []
    """Oldest first; days without any are left out."""

    @property
    def pico_per_s(self) -> int:
        """What is earned in a second, rounded down."""
        return self.month_pico * self.time_factor * 1000 // MONTH_MS

    def earned_by(self, now_ms: int) -> int:
        """Return all that was earned until now: what is measured, and the pace since then."""
        passed_ms = max(0, now_ms - self.time_ms)
        grown = self.month_pico * self.time_factor * passed_ms // MONTH_MS
        return self.settled_pico + self.now_pico + grown


class GetAllEarnings(Message, frozen=True):
    """What have nodes earned, by alias? For the operator's page."""

    after: int = 0
    """Aliases above this; at most ``EARNING_NODES_MAX`` nodes."""
    days: int = 0


class AllEarnings(Message, frozen=True):
    """Every node's earnings."""

    time_ms: int
    nodes: list[NodeEarnings]
    more: bool = False


NODE_REQUESTS: dict[type[Message], type[Message]] = {GetEarnings: NodeEarnings}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {GetAllEarnings: AllEarnings}
"""Requests of gateways of this family and their answers."""
