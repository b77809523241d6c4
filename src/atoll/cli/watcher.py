"""``atoll watcher``: run one, see what it found and what it earned."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, say, table
from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_MICRO, show_euro
from atoll.runtime.config import Config, load_here
from atoll.runtime.folder import default_folder

if TYPE_CHECKING:
    from atoll.watcher.model import Kept

WEI_PER_COIN = 10**18
_data = data_option("Its data folder. Default: an XDG data folder.")


@click.group()
def watcher() -> None:
    """Watch what is settled on the chain, and strike down what is wrong.

    Half of a struck proposer's bond goes to whoever strikes. It needs nobody's leave: a chain, the
    address of the contract, and anybody who has the documents.
    """


@watcher.command()
@_data
@click.option("--chain", "url", metavar="URL", help="JSON-RPC server of the chain.")
@click.option("--contracts", metavar="FILE|0x…", help="Address book, or the distributor's address.")
@click.option(
    "--from",
    "sources",
    metavar="URL|DIR",
    multiple=True,
    help="Who may have documents: https://HOST:PORT#FINGERPRINT, or a folder. May be repeated.",
)
@config_option
def run(
    data: Path | None,
    config_file: Path | None,
    url: str | None,
    contracts: str | None,
    sources: tuple[str, ...],
) -> None:
    """Watch until asked to stop.

    Its account needs some of the chain's coin for fees, and euros of the chain for demands: `atoll
    watcher show` names it. On an embedded chain it helps itself.
    """
    from atoll.cli import watching, wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder

    flags = {
        "chain.url": url,
        "watcher.contracts": contracts,
        "watcher.sources": ",".join(sources) or None,
    }
    path = data or default_folder("watcher")
    config = load_here(path, config_file, flags).config
    folder = open_folder(path, "watcher", SystemClock().now_ms())
    wire.run(config, watching.run_watcher(folder, config))


@watcher.command()
@_data
@click.option(
    "--chain", "url", metavar="URL", help="JSON-RPC server, to show what its account has."
)
@config_option
@json_option
def show(data: Path | None, config_file: Path | None, url: str | None, as_json: bool) -> None:
    """Show its account, what it found in each proposal, and what it earned."""
    from atoll.runtime.folder import lock_holder, read_marker

    path = data or default_folder("watcher")
    marker = read_marker(path)
    if marker is None or marker.kind != "watcher":
        raise AtollError(
            Kind.WRONG_FOLDER,
            "show watcher",
            f"there is no watcher in {path}",
            hint="name its folder with --data, or start one with `atoll watcher run`",
        )
    config = load_here(path, config_file, {"chain.url": url}).config
    facts = asyncio.run(_facts(path, config)) | {"running": bool(lock_holder(path))}
    if as_json:
        emit(facts)
        return
    for line in _words(facts):
        click.echo(line)
    if not facts["proposals"]:
        say("nothing was proposed yet")


async def _facts(path: Path, config: Config) -> dict[str, Any]:
    from atoll.cli import watching
    from atoll.economy.chain.signer import checksum_address
    from atoll.watcher import store

    signer = watching.signer_of(path)
    facts: dict[str, Any] = {
        "account": checksum_address(signer.address),
        "distributor": None,
        "earned_micro": 0,
        "coin_wei": None,
        "balance_micro": None,
        "proposals": [],
    }
    named = watching.watched(config) if config.watcher.contracts else None
    database = watching.open_watcher_database(path)
    try:
        known = await database.read(store.distributors)
        if named is None and not known:
            return facts
        address = named.address if named is not None else known[0]
        cases = await database.read(lambda c: store.cases(c, address))
        facts["earned_micro"] = await database.read(
            lambda c: store.earned_micro(c, address, signer.address)
        )
    finally:
        await database.close()
    facts["distributor"] = checksum_address(address)
    purse = await watching.purse_of(path, config, address)
    if purse is not None:
        facts["coin_wei"], facts["balance_micro"] = purse
    facts["proposals"] = [_proposal(one, signer.address) for one in cases]
    return facts


def _proposal(one: "Kept", own: bytes) -> dict[str, Any]:
    return {
        "attempt": one.attempt,
        "epoch": one.epoch,
        "root": one.root.hex(),
        "content": one.content.hex(),
        "verdict": one.verdict.value,
        "problem": one.problem,
        "struck": one.outcome == "struck",
        "ours": one.challenger == own,
        "reward_micro": one.reward_micro if one.challenger == own else 0,
    }


def _words(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"{'account':12} {facts['account']}",
        f"{'distributor':12} {facts['distributor'] or 'not known yet'}",
        f"{'running':12} {'yes' if facts['running'] else 'no'}",
        f"{'earned':12} {show_euro(facts['earned_micro'] * PICO_PER_MICRO)}",
    ]
    if facts["balance_micro"] is not None:
        lines.append(f"{'has':12} {show_euro(facts['balance_micro'] * PICO_PER_MICRO)}")
        lines.append(f"{'for fees':12} {facts['coin_wei'] / WEI_PER_COIN:.6f} of the chain's coin")
    lines.append("")
    rows = [["attempt", "epoch", "found", "outcome", "why"]]
    for one in facts["proposals"]:
        outcome = "" if not one["struck"] else "struck by us" if one["ours"] else "struck"
        rows.append(
            [str(one["attempt"]), str(one["epoch"]), one["verdict"], outcome, one["problem"][:80]]
        )
    return lines + table(rows, right=frozenset({0, 1})) if len(rows) > 1 else lines
