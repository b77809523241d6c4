"""Pure decisions of payouts: what a node has earned, how it is paid, what may be paid out."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from atoll.coordinator.payouts.model import (
    DAY_MS,
    DAY_PICO_MAX,
    MICRO_PER_CENT,
    NOT_PAID,
    NOTHING,
    DaySums,
    Figures,
    Method,
    Order,
    OrderState,
    Terms,
)
from atoll.coordinator.registry.model import NodeView
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.payouts import (
    EarningsDay,
    NodeEarnings,
    PayoutFacts,
    SetPayout,
)
from atoll.core.money import BPS
from atoll.economy.payments.accounts import BankAccount, parse_bic, parse_iban
from atoll.economy.payments.amounts import CENTS_MAX, cents_down
from atoll.economy.payments.payouts.model import Payout, PayoutFile, Progress, State
from atoll.economy.payments.payouts.order import NAME_CHARACTERS_MAX, latin
from atoll.economy.settlement.model import EpochResult, NodeResult


def earnings_of(
    view: NodeView, figures: Figures, now_ms: int, days: Sequence[tuple[int, DaySums]] = ()
) -> NodeEarnings:
    """Return what a node has earned: now, projected, held, paid. Every door shows this."""
    node, account = view.node_id, view.facts.payout_account
    so_far, sums = figures.so_far, figures.sums.get(node, NOTHING)
    paid = figures.paid.get(node, NOT_PAID)
    terms = figures.terms.get(node) or Terms(node)
    return NodeEarnings(
        node_id=node,
        alias=view.alias,
        told_ms=now_ms,
        time_ms=so_far.until_ms,
        since_ms=so_far.since_ms,
        now_pico=so_far.nodes.get(node, 0),
        month_pico=so_far.months.get(node, 0),
        time_factor=so_far.time_factor,
        settled_pico=sums.gained_pico,
        held_pico=figures.held.get(node, 0),
        credited_pico=sums.credited_pico,
        released_pico=sums.released_pico,
        sent_pico=paid.sent_pico,
        paid_pico=paid.paid_pico,
        due_pico=figures.due.get(account, 0) if account else 0,
        proven_bps=so_far.proven_bps.get(node, 0),
        method=terms.method.value,
        credit_bps=terms.credit_bps,
        bank=hint_of(terms.bank),
        problem=problem_of(view, terms),
        days=[day_facts(day, one) for day, one in days],
    )


def day_facts(day: int, one: DaySums) -> EarningsDay:
    """Return a day as it is told."""
    return EarningsDay(
        day=day_name(day),
        earned_pico=one.earned_pico,
        repair_pico=one.repair_pico,
        top_up_pico=one.top_up_pico,
        slashed_pico=one.slashed_pico,
        held_pico=one.held_pico,
        credited_pico=one.credited_pico,
        released_pico=one.released_pico,
    )


def problem_of(view: NodeView, terms: Terms) -> str:
    """Say why a node cannot be paid; empty where it can."""
    if not view.facts.payout_account:
        return "the node names no account: install atoll[chain] and start it again"
    if terms.problem:
        return terms.problem
    if terms.credit_bps < BPS and terms.bank is None:
        return "no bank account is named: `atoll payout set euro --iban …`"
    return ""


def hint_of(bank: BankAccount | None) -> str:
    """Return as much of a bank account as tells its owner which it is."""
    return f"{bank.iban[:2]}…{bank.iban[-4:]}" if bank is not None else ""


def day_of(time_ms: int) -> int:
    """Return the days since 1970 (UTC) of a moment."""
    return time_ms // DAY_MS


def day_name(day: int) -> str:
    """Write a day as ISO 8601 does."""
    return datetime.fromtimestamp(day * DAY_MS // 1000, UTC).strftime("%Y-%m-%d")


def sums_of(result: EpochResult) -> dict[bytes, DaySums]:
    """Return what an epoch brought each node; those that it brought nothing are left out."""
    found = {one.node: _sums(one) for one in result.nodes}
    return {node: one for node, one in found.items() if one != NOTHING}


def _sums(one: NodeResult) -> DaySums:
    return DaySums(
        earned_pico=_held(one.earned_pico),
        repair_pico=_held(one.repair_pico),
        top_up_pico=_held(one.top_up_pico),
        slashed_pico=_held(one.slashed_pico),
        held_pico=_held(one.withheld_pico - one.returned_pico - one.slashed_pico),
        credited_pico=_held(one.credited_pico),
        released_pico=_held(one.released_pico),
    )


def _held(amount_pico: int) -> int:
    return max(-DAY_PICO_MAX, min(DAY_PICO_MAX, amount_pico))


# --- how a provider is paid ----------------------------------------------------------------------


def bank_account_of(name: str, iban: str, bic: str) -> BankAccount:
    """Return a bank account that can be paid to. Raises ``BAD_REQUEST``, without repeating it."""
    if not name.strip():
        raise _bad("a bank account is somebody's", "give the holder's name with --name")
    found = BankAccount(" ".join(name.split()), parse_iban(iban), parse_bic(bic))
    if not re.search(r"[A-Za-z0-9]", latin(found.name, NAME_CHARACTERS_MAX)):
        raise _bad(
            "nothing of the account holder's name can be written in Latin letters",
            "give the name as the bank has it in Latin letters",
        )
    return found


def terms_set(before: Terms, request: SetPayout, customer: bytes, now_ms: int) -> Terms:
    """Return a node's new terms. ``customer``: whose access key was named; empty for none.

    Raises ``BAD_REQUEST``.
    """
    try:
        method = Method(request.method)
    except ValueError:
        raise _bad("one is paid by `euro`, `credit` or `mix`", "say one of them") from None
    share = {Method.EURO: 0, Method.CREDIT: BPS, Method.MIX: request.credit_bps}[method]
    if method is Method.MIX and not 0 < share < BPS:
        raise _bad("a mix spends more than nothing and less than all", "say a share as 30%")
    bank = before.bank
    if request.iban or request.name:
        bank = bank_account_of(request.name, request.iban, request.bic)
    customer = customer or before.customer
    if method is not Method.EURO and not customer:
        raise _bad("whose storage is it to be spent on?", "name an S3 access key of the customer")
    if method is not Method.CREDIT and bank is None:
        raise _bad("no bank account is named", "give it with --iban and --name")
    return replace(
        before,
        method=method,
        credit_bps=share,
        customer=customer,
        bank=bank,
        problem="",
        changed_ms=now_ms,
    )


def _bad(message: str, hint: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "set payout", message, hint=hint)


# --- what is paid out ----------------------------------------------------------------------------


def payable_cents(due_pico: int, at_hand_micro: int | None) -> int:
    """Return what may be paid out now: whole cents, the rest stays.

    ``due_pico``: the provider's balance. ``at_hand_micro``: what has arrived at his account on the
    chain and is there; None where nothing is settled on a chain.
    """
    cents = cents_down(max(0, due_pico))
    if at_hand_micro is not None:
        cents = min(cents, max(0, at_hand_micro) // MICRO_PER_CENT)
    return min(cents, CENTS_MAX)


def required(debtor: BankAccount | None) -> BankAccount:
    """Return the operator's bank account. Raises ``PRECONDITION_FAILED`` where he named none."""
    if debtor is None:
        raise AtollError(
            Kind.PRECONDITION_FAILED,
            "pay by bank",
            "the operator's bank account is not set",
            hint="set bank.holder and bank.iban in the coordinator's atoll.toml, start it again",
        )
    return debtor


def at_hand_micro(arrived_micro: int, taken_cents: int, there_micro: int) -> int:
    """Return what of a node's earnings is at its account on the chain.

    ``arrived_micro``: claimed so far; ``taken_cents``: paid out of that and not given back;
    ``there_micro``: what the account has, from whomever.
    """
    return min(arrived_micro - taken_cents * MICRO_PER_CENT, there_micro)


def moved(order: Order, state: OrderState, now_ms: int) -> Order:
    """Return an order in its next state. Every change has a time of its own."""
    return replace(order, state=state, changed_ms=max(now_ms, order.changed_ms + 1))


def payout_of(order: Order) -> Payout:
    """Return an order as banks are told."""
    return Payout(order.payout, order.to, order.amount_cents, "Atoll earnings")


def heard(order: Order, said: Progress, now_ms: int) -> Order:
    """Return an order after the bank's words."""
    return replace(order, progress=said, changed_ms=max(now_ms, order.changed_ms + 1))


def failed(order: Order) -> bool:
    """Say whether what was set aside for an order is to be given back."""
    said = order.progress
    return (
        order.state is OrderState.FILED
        and said is not None
        and said.state in (State.REJECTED, State.RETURNED)
        and not said.conflict
    )


def facts_of(order: Order) -> PayoutFacts:
    """Return an order as it is told; nothing of its bank account."""
    said = order.progress
    return PayoutFacts(
        payout=order.payout,
        node_id=order.node,
        created_ms=order.created_ms,
        amount_cents=order.amount_cents,
        state=order.state.value,
        bank_state=said.state.value if said else "",
        file=order.file,
        reason=said.reason if said else "",
        conflict=said.conflict if said else "",
    )


def file_of(debtor: BankAccount, day: str, created_ms: int, orders: Sequence[Order]) -> PayoutFile:
    """Return orders as one file for the bank."""
    return PayoutFile(debtor, day, created_ms, tuple(payout_of(one) for one in orders))
