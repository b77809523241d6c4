"""``atoll unbond``: begin to take ATOLL back; it stays liable for a while."""

import asyncio
from typing import Any

import click

from atoll.cli.holder.common import (
    Act,
    Choices,
    Holder,
    carry_out,
    choices_of,
    confirm,
    finish,
    holder_options,
    holding_facts,
    open_holder,
    show_s,
    show_wei,
    wei_of,
)
from atoll.core.errors import AtollError, Kind

ALL = "all"


@click.command()
@click.argument("node")
@click.argument("amount", metavar="ATOLL|all", default=ALL)
@click.option("--own", is_flag=True, help="From the own tranche; by the node's owner only.")
@click.option("--generation", type=int, help="Of a pool that was closed. Default: the open one.")
@holder_options
def unbond(node: str, amount: str, own: bool, generation: int | None, **given: Any) -> None:
    """Begin to take ATOLL back from behind NODE.

    It is liable until its time is over (`atoll claim` then pays it out): what is slashed meanwhile
    is lost in the same proportion as what stays.
    """
    choices = choices_of(given)
    amount_wei = None if amount == ALL else wei_of(amount)
    run = _unbond(choices, node, amount_wei, own=own, generation=generation)
    finish(choices, asyncio.run(run))


async def _unbond(
    choices: Choices, node: str, amount_wei: int | None, *, own: bool, generation: int | None
) -> dict[str, object]:
    from atoll.economy.chain.holding import LIABLE_BUCKETS

    async with open_holder(choices) as holder:
        entry = await holder.entry(node)
        before = await holder.book.holding(entry, holder.signer.address)
        if own:
            act, leaving_wei = _own_act(holder, before, amount_wei)
        else:
            act, leaving_wei = await _pool_act(holder, before, amount_wei, generation)
        half = (before.unbonding_s + 1) // 2
        longest = LIABLE_BUCKETS * half
        confirm(
            choices,
            [
                f"What can be lost: {show_wei(leaving_wei)} stay liable for "
                f"{show_s(2 * half)} to {show_s(longest)}, and earn nothing meanwhile."
            ],
            f"Unbond {show_wei(leaving_wei)}?",
        )
        facts: dict[str, object] = {
            "amount_wei": str(leaving_wei),
            "can_be_lost": {"at_most_wei": str(leaving_wei), "liable_s": [2 * half, longest]},
            "before": holding_facts(before),
        }
        told = [f"unbonding {show_wei(leaving_wei)}; when its time is over: atoll claim {node}"]
        facts = await carry_out(holder, [act], facts, told)
        if not choices.dry_run:
            after = await holder.book.holding(entry, holder.signer.address)
            facts["after"] = holding_facts(after)
        return facts


def _own_act(holder: Holder, before: Any, amount_wei: int | None) -> tuple[Act, int]:
    from atoll.economy.chain.holding import BOND

    entry = before.entry
    if entry.owner != holder.signer.address:
        raise AtollError(
            Kind.FORBIDDEN,
            "unbond",
            f"the own tranche is its owner's: 0x{entry.owner.hex()}",
            hint="act as the owner: --node-folder DIR or --key FILE",
        )
    wanted = before.own_active_wei if amount_wei is None else amount_wei
    if not 0 < wanted <= before.own_active_wei:
        raise _too_much(before.own_active_wei)
    to, data = holder.book.call(BOND, "leave_own", entry.key, wanted)
    return Act(f"unbond {show_wei(wanted)} of the own tranche", to, data), wanted


async def _pool_act(
    holder: Holder, before: Any, amount_wei: int | None, generation: int | None
) -> tuple[Act, int]:
    from atoll.economy.chain.holding import BOND

    key, book = before.entry.key, holder.book
    number = before.generation if generation is None else generation
    account = holder.signer.address
    shares = int(await book.ask(BOND, "shares_of", key, number, account))
    worth = int(await book.ask(BOND, "worth", key, number, account))
    wanted = worth if amount_wei is None else amount_wei
    if not shares or wanted > worth:
        raise _too_much(worth)
    # Rounded up, so that at least the amount leaves; all shares where all is wanted.
    some = shares if wanted == worth else min(shares, -(-shares * wanted // worth))
    to, data = book.call(BOND, "leave", key, number, some)
    return Act(f"unbond {show_wei(wanted)}", to, data), wanted


def _too_much(there_wei: int) -> AtollError:
    return AtollError(
        Kind.PRECONDITION_FAILED,
        "unbond",
        f"{show_wei(there_wei)} of this account's are there",
        hint="`atoll claim NODE --dry-run` shows what is where; --own for the own tranche",
    )
