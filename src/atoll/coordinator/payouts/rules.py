"""Pure decisions of payouts: what a node has earned."""

from collections.abc import Sequence
from datetime import UTC, datetime

from atoll.coordinator.payouts.model import (
    DAY_MS,
    DAY_PICO_MAX,
    NOT_PAID,
    NOTHING,
    DaySums,
    Figures,
    Terms,
)
from atoll.coordinator.registry.model import NodeView
from atoll.core.messages.payouts import EarningsDay, NodeEarnings
from atoll.economy.payments.accounts import BankAccount
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
        days=[
            EarningsDay(
                day=day_name(day),
                earned_pico=one.earned_pico,
                repair_pico=one.repair_pico,
                top_up_pico=one.top_up_pico,
                slashed_pico=one.slashed_pico,
                held_pico=one.held_pico,
                credited_pico=one.credited_pico,
                released_pico=one.released_pico,
            )
            for day, one in days
        ],
    )


def problem_of(view: NodeView, terms: Terms) -> str:
    """Say why a node cannot be paid; empty where it can."""
    if not view.facts.payout_account:
        return "the node names no account: install atoll[chain] and start it again"
    if terms.problem:
        return terms.problem
    if terms.credit_bps < 10_000 and terms.bank is None:
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
