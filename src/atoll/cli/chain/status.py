"""``atoll chain status``: how the chain stands, what waits for it, what stands on it."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, paint, table
from atoll.core.errors import AtollError
from atoll.core.money import PICO_PER_MICRO, show_euro
from atoll.core.ports import ChainBlock

if TYPE_CHECKING:
    from atoll.coordinator.funding.model import Reconciliation
    from atoll.economy.chain.book import Checked
    from atoll.economy.chain.link import ChainLink
    from atoll.economy.chain.model import Contract
    from atoll.economy.chain.outbox import OutboxState

_UNKNOWN = "unknown: the chain is away"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the command shows."""

    chain_id: int
    embedded: bool
    problem: str
    head: ChainBlock | None
    """None while the chain is away."""
    read_to: int
    last_seen: tuple[int, int, int]
    """Block, its time in seconds, when it was seen in milliseconds; -1, 0, 0 for never."""
    outbox: "OutboxState"
    contracts: dict[str, "Contract"]
    checked: dict[str, "Checked"]
    """Empty while the chain is away."""
    accounts: dict[str, bytes]
    balances: dict[str, int]
    money: "Reconciliation | None"
    """Customers' euros on the chain and in the books; None where that cannot be told."""


@click.command()
@data_option("Folder of the cloud or coordinator. Default: that of `atoll up`.")
@config_option
@json_option
def status(data: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Show chain, lag, what waits, whether contracts are ours and euros agree with the books."""
    facts = asyncio.run(_gather(data, config_file))
    if as_json:
        emit(_as_json(facts))
    else:
        click.echo("\n".join(_lines(facts)))


async def _gather(data: Path | None, config_file: Path | None) -> _Facts:
    from atoll.cli.chain.link import link_of

    async with link_of(data, config_file) as link:
        return await _ask(link)


async def _ask(link: "ChainLink") -> _Facts:
    from atoll.coordinator.funding.books import reconcile
    from atoll.economy.chain.book import check_contract
    from atoll.economy.chain.outbox import check_chain

    accounts = {"operator": link.operator.address, "deployer": link.deployer.address}
    contracts = await link.contracts()
    head, problem = None, ""
    checked: dict[str, Checked] = {}
    balances: dict[str, int] = {}
    money: Reconciliation | None = None
    try:
        chain = await link.chain()
        await check_chain(chain, link.config.chain_id)
        head = await chain.block()
        for name, contract in contracts.items():
            checked[name] = await check_contract(chain, contract)
        for role, address in accounts.items():
            balances[role] = await chain.balance(address)
    except AtollError as error:
        head, problem = None, str(error)
    if head is not None:
        with suppress(AtollError):  # contracts that are not there yet, or a chain in a hurry
            money = await reconcile(link.database, link)
    return _Facts(
        chain_id=link.config.chain_id,
        embedded=link.config.embedded,
        problem=problem,
        head=head,
        read_to=await link.watcher.read_to(),
        last_seen=await link.outbox.last_seen(),
        outbox=await link.outbox.state(),
        contracts=contracts,
        checked=checked,
        accounts=accounts,
        balances=balances,
        money=money,
    )


def _lag_blocks(facts: _Facts) -> int | None:
    if facts.head is None:
        return None
    # Without contracts there is nothing to read.
    return max(0, facts.head.number - facts.read_to) if facts.contracts else 0


def _as_json(facts: _Facts) -> dict[str, object]:
    from atoll.economy.chain.signer import checksum_address

    head, outbox = facts.head, facts.outbox
    return {
        "chain_id": facts.chain_id,
        "embedded": facts.embedded,
        "reachable": head is not None,
        "problem": facts.problem,
        "block": None if head is None else head.number,
        "block_hash": None if head is None else head.hash.hex(),
        "block_age_s": None if head is None else max(0, int(time.time()) - head.time_s),
        "lag_blocks": _lag_blocks(facts),
        "last_seen": {"block": facts.last_seen[0], "seen_ms": facts.last_seen[2]},
        "outbox": {
            "pending": outbox.pending,
            "wanted": outbox.wanted,
            "in_flight": outbox.in_flight,
            "final": outbox.final,
            "failed": outbox.failed,
            "refused": outbox.refused,
            "problems": [{"key": key, "problem": what} for key, what in outbox.problems],
        },
        "accounts": {
            role: {
                "address": checksum_address(address),
                # As text: JSON's numbers end at 2^53 in most readers.
                "balance_wei": str(facts.balances[role]) if role in facts.balances else None,
            }
            for role, address in facts.accounts.items()
        },
        "contracts": {
            name: {
                "address": checksum_address(contract.address),
                "block": contract.block_number,
                "code_hash": contract.code_hash.hex(),
                "code": facts.checked[name].verdict if name in facts.checked else None,
                "current": facts.checked[name].current if name in facts.checked else None,
            }
            for name, contract in facts.contracts.items()
        },
        "money": None if facts.money is None else _money_as_json(facts.money),
    }


def _money_as_json(money: "Reconciliation") -> dict[str, object]:
    return {
        "agrees": money.agrees,
        "moves": money.moves,
        "waits_for": money.waits_for,
        "sums": [
            {"name": one.name, "chain_micro": one.chain_micro, "books_micro": one.books_micro}
            for one in money.lines
        ],
    }


def _lines(facts: _Facts) -> list[str]:
    kind = "embedded: a real EVM of this machine alone, no witness" if facts.embedded else "public"
    lines = [f"{'chain':10} {facts.chain_id} ({kind})"]
    if facts.head is None:
        lines += [
            f"{'state':10} {paint('away', fg='red')}: {facts.problem}",
            f"{'':10} storing goes on; settlement catches up when it is back",
        ]
        block, _, seen_ms = facts.last_seen
        if block >= 0:
            ago = max(0, int(time.time()) - seen_ms // 1000)
            lines.append(f"{'last seen':10} block {block:,}, {ago:,} s ago")
    else:
        age = max(0, int(time.time()) - facts.head.time_s)
        lines.append(
            f"{'block':10} {facts.head.number:,}, {age:,} s old; read up to"
            f" {max(facts.read_to, 0):,} ({_lag_blocks(facts):,} behind)"
        )
    out = facts.outbox
    words = f"{out.pending} pending ({out.wanted} to sign, {out.in_flight} in flight)"
    lines.append(
        f"{'outbox':10} {words}, {out.final} final, {out.failed} undone, {out.refused} refused"
    )
    lines += [f"{'':10} {key}: {problem}" for key, problem in out.problems]
    return [*lines, *_contract_lines(facts), *_money_lines(facts)]


def _money_lines(facts: _Facts) -> list[str]:
    money = facts.money
    if money is None:
        return []

    def euro(micro: int) -> str:
        return show_euro(micro * PICO_PER_MICRO, decimals_min=6)

    rows = [("euros", "chain", "books", "")]
    for one in money.lines:
        verdict = "" if not one.difference_micro else f"{euro(one.difference_micro)} differ"
        if one.difference_micro and not money.moves:
            verdict = paint(verdict, fg="red")
        rows.append((one.name, euro(one.chain_micro), euro(one.books_micro), verdict))
    lines = ["", *table(rows, right=frozenset({1, 2}))]
    if money.moves:
        lines.append(f"{money.moves} movements are under way")
    return [*lines, f"waits for: {money.waits_for}"] if money.waits_for else lines


def _contract_lines(facts: _Facts) -> list[str]:
    from atoll.economy.chain.signer import checksum_address

    if not facts.contracts:
        return [f"{'contracts':10} none yet. Next: atoll chain deploy"]
    rows = [("contract", "address", "code")]
    for name, contract in facts.contracts.items():
        checked = facts.checked.get(name)
        verdict = _UNKNOWN if checked is None else checked.verdict
        if checked is not None and verdict == "as deployed":
            verdict = paint(verdict, fg="green") if checked.current else f"{verdict}, older version"
        elif checked is not None:
            verdict = paint(verdict, fg="red")
        rows.append((name, checksum_address(contract.address), verdict))
    return ["", *table(rows)]
