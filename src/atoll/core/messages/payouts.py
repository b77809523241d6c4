"""What providers earn, how they want to be paid, and what is paid out.

Amounts are pico-euro (1e-12 EUR); a message holds at most 18 million euro of a node.
"""

import hashlib

import msgspec

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


# --- how a provider is paid ----------------------------------------------------------------------

ORDER_PURPOSE = b"payout-order/1"
"""What a coordinator signs an encoded ``PayoutOrder`` for."""
BANK_LABEL = b"atoll/payout-bank/1\0"
ORDERS_SHOWN_MAX = 100
OPENED_AT_ONCE = 200
"""Nodes that one question opens payouts to: each asks the chain."""
FILE_BYTES_MAX = 4 << 20
"""Of a bank's file that is taken over, and of one that is written."""
STATEMENT_PAGE_MAX = 1_000


def bank_digest(payout: bytes, iban: str) -> bytes:
    """Return what stands for a bank account in one order: 32 bytes that tell others nothing."""
    return hashlib.sha256(BANK_LABEL + payout + iban.encode()).digest()


class SetPayout(Message, frozen=True):
    """A node: pay me like this. Errors: ``BAD_REQUEST``, ``NOT_FOUND`` (access key), ``REPLAYED``.

    A bank account that is left out stays as it is.
    """

    method: str
    """``euro``, ``credit`` or ``mix``."""
    credit_bps: int = 0
    """For ``mix``: the share that is spent on storage, 1 … 9,999."""
    name: str = ""
    """Of the bank account's holder."""
    iban: str = ""
    bic: str = ""
    access_key: str = ""
    """Whose storage: any S3 access key of that customer. Empty: as before."""

    def __repr__(self) -> str:
        return f"SetPayout({self.method})"


class GetPayoutTerms(Message, frozen=True):
    """A node: how am I paid, and what was paid lately?"""


class PayoutFacts(msgspec.Struct, frozen=True):
    """One payout."""

    payout: bytes
    node_id: bytes
    created_ms: int
    amount_cents: int
    state: str
    """``asked``, ``signed``, ``set_aside``, ``filed``, ``failed``, ``given_back``, ``dropped``."""
    bank_state: str
    """The bank's word: ``sent``, ``accepted``, ``paid``, ``rejected``, ``returned``; or empty."""
    file: int
    reason: str
    conflict: str
    """What the bank said that contradicts itself: for a person."""


class PayoutTerms(Message, frozen=True):
    """How a node is paid."""

    method: str
    credit_bps: int
    bank: str
    """Country and last four characters of the IBAN; empty for none."""
    customer: bytes
    """Whose storage it is spent on; empty for nobody's."""
    problem: str
    payouts: list[PayoutFacts]
    """The newest first."""


class PayoutOrder(Message, frozen=True):
    """What a coordinator promises: this goes to that bank account, for exactly this permit."""

    payout: bytes
    node_id: bytes
    account: bytes
    """The node's on the chain: what is paid out is there."""
    amount_cents: int
    bank_sha256: bytes
    """``bank_digest`` of the IBAN."""
    created_ms: int
    domain: bytes
    """The stablecoin's EIP-712 domain separator."""
    spender: bytes
    amount_micro: int
    """Exactly the cents."""
    nonce: int
    deadline_s: int


class SignedPayout(Message, frozen=True):
    """An encoded ``PayoutOrder`` and the coordinator's signature: the provider's evidence."""

    order: bytes
    signature: bytes


class GetPayoutOrders(Message, frozen=True):
    """A node: what am I to let go?"""


class PayoutOrders(Message, frozen=True):
    """What waits for the node's signature."""

    orders: list[SignedPayout]


class SignPayout(Message, frozen=True):
    """A node: here is the permit. Errors: ``NOT_FOUND``, ``BAD_REQUEST``."""

    payout: bytes
    permit: bytes
    """r, s and v: 65 bytes (EIP-2612)."""


class PayoutTaken(Message, frozen=True):
    """How the payout stands now."""

    state: str


class GetStatement(Message, frozen=True):
    """A node: my receipts and payments above a number, oldest first."""

    after: int = 0


class StatementEntry(msgspec.Struct, frozen=True):
    """One receipt or payment."""

    number: int
    time_ms: int
    kind: str
    amount_pico: int
    """Below nothing for what left."""
    evidence: str


class StatementPage(Message, frozen=True):
    """A page of a node's statement; the first also has what was spent on storage, by day."""

    entries: list[StatementEntry]
    more: bool
    days: list[EarningsDay] = []


# --- the operator --------------------------------------------------------------------------------


class OpenPayouts(Message, frozen=True):
    """The operator: let everybody who is owed a cent be paid. The same again asks nobody twice.

    ``OPENED_AT_ONCE`` nodes at a time, by alias.
    """

    after: int = 0
    """Aliases above this."""
    count_only: bool = False
    """Open nothing, only tell how far what is open is."""


class PayoutsOpened(Message, frozen=True):
    """What is on its way to the next file."""

    opened: int
    waiting: int
    """Not signed yet, or not arrived."""
    waiting_cents: int
    ready: int
    """May stand in a file."""
    ready_cents: int
    skipped: int
    """Nodes that are owed something and cannot be paid: no bank account, or one that failed."""
    not_arrived: int = 0
    """Nodes that are owed a cent and whose earnings have not arrived at their accounts yet."""
    more_after: int = 0
    """Go on after this alias; 0: that were all."""


class WritePayoutFile(Message, frozen=True):
    """The operator: write what is ready into a file for the bank.

    Errors: ``NOT_FOUND`` where nothing is ready, ``PRECONDITION_FAILED`` without ``[bank]``.
    """

    execution_date: str = ""
    """ISO; empty: today."""
    version: str = ""
    """Of pain.001; empty: the newest."""


class GetPayoutFile(Message, frozen=True):
    """The operator: the same bytes again. Errors: ``NOT_FOUND``."""

    number: int


class PayoutFileWritten(Message, frozen=True):
    """A file for the bank (pain.001)."""

    number: int
    data: bytes
    payouts: int
    amount_cents: int
    execution_date: str
    more: int
    """Payouts that are ready and did not fit."""

    def __repr__(self) -> str:
        return f"PayoutFileWritten({self.number})"


class ListPayouts(Message, frozen=True):
    """The operator: payouts, the newest first."""

    before_ms: int = 0
    """0: from now."""


class PayoutList(Message, frozen=True):
    """At most ``ORDERS_SHOWN_MAX`` payouts."""

    payouts: list[PayoutFacts]


class GiveBackPayout(Message, frozen=True):
    """The operator: a payout of which the bank said contradicting things was not paid after all.

    Errors: ``NOT_FOUND``, ``CONFLICT`` (nothing contradicts itself), ``PRECONDITION_FAILED`` (by
    the bank's statements it is not there).
    """

    payout: bytes


class TakeBankWords(Message, frozen=True):
    """The operator: what the bank says of payouts (pain.002, camt.053).

    Errors: ``BAD_REQUEST``, ``TOO_LARGE``, ``NOT_FOUND`` for a report about no file of ours.
    """

    data: bytes

    def __repr__(self) -> str:
        return "TakeBankWords()"


class BankWordsTaken(Message, frozen=True):
    """What came of it."""

    kind: str
    """``pain.002`` or ``camt.053``."""
    words: int
    """What it said of payouts of ours."""
    changed: list[PayoutFacts]
    """Payouts that stand otherwise now; none where it was all known."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {
    GetEarnings: NodeEarnings,
    SetPayout: PayoutTerms,
    GetPayoutTerms: PayoutTerms,
    GetPayoutOrders: PayoutOrders,
    SignPayout: PayoutTaken,
    GetStatement: StatementPage,
}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    GetAllEarnings: AllEarnings,
    OpenPayouts: PayoutsOpened,
    WritePayoutFile: PayoutFileWritten,
    GetPayoutFile: PayoutFileWritten,
    ListPayouts: PayoutList,
    GiveBackPayout: PayoutTaken,
    TakeBankWords: BankWordsTaken,
}
"""Requests of gateways and of the operator of this family and their answers."""
OPERATOR_REQUESTS: frozenset[type[Message]] = frozenset(CONTROL_REQUESTS)
"""All of them: what providers earn, and their bank accounts, are no customer's affair."""
