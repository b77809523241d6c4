"""``atoll claim``: take rewards, and what was unbonded and is not liable any more."""

import asyncio
from typing import Any

import click

from atoll.cli.holder.common import (
    Act,
    Choices,
    Holder,
    carry_out,
    choices_of,
    finish,
    holder_options,
    holding_facts,
    open_holder,
    show_micro,
    show_s,
    show_wei,
)


@click.command()
@click.argument("node")
@holder_options
def claim(node: str, **given: Any) -> None:
    """Take what is yours behind NODE: rewards in euro, and ATOLL whose unbonding is over.

    Nothing can be lost by it. With --dry-run it shows all that stands there, also what is still
    liable, and until when.
    """
    choices = choices_of(given)
    finish(choices, asyncio.run(_claim(choices, node)))


async def _claim(choices: Choices, node: str) -> dict[str, object]:
    async with open_holder(choices) as holder:
        entry = await holder.entry(node)
        before = await holder.book.holding(entry, holder.signer.address)
        acts = await _acts(holder, before)
        if not choices.as_json:
            for line in _lines(before):
                click.echo(line)
        ready = sum(one.amount_wei for one in before.leaving if one.ready_s <= before.time_s)
        facts: dict[str, object] = {
            "ready_wei": str(ready),
            "reward_micro": before.reward_micro,
            "can_be_lost": {"at_most_wei": "0"},
            "before": holding_facts(before),
        }
        if not acts:
            if not choices.as_json:
                click.echo("nothing to claim now")
            return facts | {"account": "0x" + holder.signer.address.hex(), "transactions": []}
        facts = await carry_out(holder, acts, facts, ["claimed"])
        if not choices.dry_run:
            after = await holder.book.holding(entry, holder.signer.address)
            facts["after"] = holding_facts(after)
        return facts


async def _acts(holder: Holder, before: Any) -> list[Act]:
    """Return what is to be sent: only what brings something."""
    from atoll.economy.chain.holding import BOND, GENERATIONS_BACK

    book, key, account = holder.book, before.entry.key, holder.signer.address
    acts: list[Act] = []
    for one in before.leaving:
        if one.ready_s > before.time_s:
            continue
        if one.generation < 0:
            call = book.call(BOND, "withdraw_own", key, one.bucket)
        else:
            call = book.call(BOND, "withdraw", key, one.generation, one.bucket)
        acts.append(Act(f"withdraw {show_wei(one.amount_wei)}", *call))
    first = max(0, before.generation - GENERATIONS_BACK)
    for number in range(first, before.generation + 1):
        reward = await book.ask(BOND, "claim_reward", key, number, account, sender=account)
        if reward:
            call = book.call(BOND, "claim_reward", key, number, account)
            acts.append(Act(f"claim rewards of pool {number}", *call))
    if before.entry.owner == account and before.operator_micro:
        call = book.call(BOND, "claim_operator", key)
        acts.append(Act(f"claim {show_micro(before.operator_micro)} as operator", *call))
    return acts


def _lines(before: Any) -> list[str]:
    entry = before.entry
    lines = [
        f"n-{entry.node_id.hex()[:10]}: own tranche {show_wei(before.own_wei)}, delegated "
        f"{show_wei(before.delegated_wei)}, held back {show_micro(before.held_micro)}",
        f"yours: {show_wei(before.worth_wei)} delegated, {show_micro(before.reward_micro)} rewards",
    ]
    for one in before.leaving:
        whose = "own tranche" if one.generation < 0 else f"pool {one.generation}"
        wait_s = one.ready_s - before.time_s
        when = "can be withdrawn" if wait_s <= 0 else f"liable for another {show_s(wait_s)}"
        lines.append(f"leaving ({whose}): {show_wei(one.amount_wei)}, {when}")
    return lines
