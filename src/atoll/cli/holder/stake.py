"""``atoll stake``: add to the own tranche of a node."""

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


@click.command()
@click.argument("node")
@click.argument("amount", metavar="ATOLL")
@holder_options
def stake(node: str, amount: str, **given: Any) -> None:
    """Put ATOLL behind NODE as its own tranche: the first to be lost.

    NODE is its id (or the beginning of it), its key in the registry (0x…), or `.` for the node of
    --node-folder. Anyone can add to a tranche; only the node's owner takes it out again.
    """
    choices = choices_of(given)
    finish(choices, asyncio.run(_stake(choices, node, wei_of(amount))))


async def _stake(choices: Choices, node: str, amount_wei: int) -> dict[str, object]:
    from atoll.economy.chain.holding import BOND, risk_of

    async with open_holder(choices) as holder:
        entry = await holder.entry(node)
        before = await holder.book.holding(entry, holder.signer.address)
        own = before.own_wei + amount_wei
        risk = risk_of(own, before.delegated_wei, own, is_own=True, unbonding_s=before.unbonding_s)
        acts = await allow(holder, amount_wei)
        lines = risk_lines(risk, is_own=True)
        if entry.owner != holder.signer.address:
            lines.append(
                f"This account does not own the node: only 0x{entry.owner.hex()} can take it out."
            )
        confirm(choices, lines, f"Stake {show_wei(amount_wei)}?")
        to, data = holder.book.call(BOND, "bond_own", entry.key, amount_wei)
        acts.append(Act(f"stake {show_wei(amount_wei)}", to, data))
        facts: dict[str, object] = {
            "amount_wei": str(amount_wei),
            "can_be_lost": risk_facts(risk),
            "before": holding_facts(before),
        }
        told = [f"own tranche of n-{entry.node_id.hex()[:10]}: {show_wei(own)}"]
        facts = await carry_out(holder, acts, facts, told)
        if not choices.dry_run:
            after = await holder.book.holding(entry, holder.signer.address)
            facts["after"] = holding_facts(after)
        return facts
