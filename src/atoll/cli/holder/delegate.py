"""``atoll delegate``: put ATOLL behind somebody else's node, for a part of its rewards."""

import asyncio
from typing import Any

import click

from atoll.cli.holder.common import (
    Act,
    Choices,
    allow,
    carry_out,
    choices_of,
    confirm,
    finish,
    holder_options,
    holding_facts,
    open_holder,
    risk_facts,
    risk_lines,
    show_wei,
    wei_of,
)
from atoll.core.errors import AtollError, Kind

SHARES_SLIP_BPS = 100
"""A hundredth fewer shares than now are accepted: rewards and slashes may come in between."""


@click.command()
@click.argument("node")
@click.argument("amount", metavar="ATOLL")
@holder_options
def delegate(node: str, amount: str, **given: Any) -> None:
    """Put ATOLL behind NODE's own tranche, for rewards less its commission.

    NODE is its id (or the beginning of it), or its key in the registry (0x…). Delegations are at
    most as much as the node's own tranche.
    """
    choices = choices_of(given)
    finish(choices, asyncio.run(_delegate(choices, node, wei_of(amount))))


async def _delegate(choices: Choices, node: str, amount_wei: int) -> dict[str, object]:
    from atoll.economy.chain.holding import BOND, risk_of

    async with open_holder(choices) as holder:
        entry = await holder.entry(node)
        before = await holder.book.holding(entry, holder.signer.address)
        acts = await allow(holder, amount_wei)
        if amount_wei > before.room_wei:
            raise AtollError(
                Kind.PRECONDITION_FAILED,
                "delegate",
                f"the node has room for {show_wei(before.room_wei)} more",
                hint="delegations are at most as much as the own tranche; choose another node",
            )
        mine = before.worth_wei + amount_wei
        risk = risk_of(
            before.own_wei,
            before.delegated_wei + amount_wei,
            mine,
            is_own=False,
            unbonding_s=before.unbonding_s,
        )
        lines = risk_lines(risk, is_own=False)
        lines.append(f"The node keeps {before.commission_bps / 100:g} % of what it brings.")
        confirm(choices, lines, f"Delegate {show_wei(amount_wei)}?")
        shares_min = await _shares(holder.book, entry.key, before.generation, amount_wei)
        to, data = holder.book.call(BOND, "delegate", entry.key, amount_wei, shares_min)
        acts.append(Act(f"delegate {show_wei(amount_wei)}", to, data))
        facts: dict[str, object] = {
            "amount_wei": str(amount_wei),
            "shares_min": str(shares_min),
            "can_be_lost": risk_facts(risk),
            "before": holding_facts(before),
        }
        told = [f"yours behind n-{entry.node_id.hex()[:10]}: {show_wei(mine)}"]
        facts = await carry_out(holder, acts, facts, told)
        if not choices.dry_run:
            after = await holder.book.holding(entry, holder.signer.address)
            facts["after"] = holding_facts(after)
        return facts


async def _shares(book: Any, key: bytes, generation: int, amount_wei: int) -> int:
    """Return how many shares an amount must bring: a hundredth less than now."""
    from atoll.economy.chain.holding import BOND

    assets, shares = await book.ask(BOND, "pools", key, generation)
    now = amount_wei * (int(shares) + 10**6) // (int(assets) + 1)
    return now * (10_000 - SHARES_SLIP_BPS) // 10_000
