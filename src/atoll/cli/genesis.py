"""``atoll genesis``: who got the token, when it is free, and whether a chain agrees."""

import asyncio
import datetime
import hashlib
from pathlib import Path

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, paint, table
from atoll.core.errors import AtollError, Kind
from atoll.economy import genesis as rules

_file_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Another genesis file than the one of this version.",
)


@click.group()
def genesis() -> None:
    """Check the genesis of the token: all of it, minted once, vesting in public."""


@genesis.command()
@_file_option
@click.option("--chain", "on_chain", is_flag=True, help="Compare it with the cloud's chain, too.")
@data_option("Folder of the cloud or coordinator. Default: that of `atoll up`.")
@config_option
@json_option
def verify(
    file: Path | None, on_chain: bool, data: Path | None, config_file: Path | None, as_json: bool
) -> None:
    """Recompute the genesis file: that it adds up, and what the contracts are made with.

    With --chain: what was minted and what vests there is the same, to the last unit.
    """
    read, raw = rules.read(file)
    rules.check(read)
    found: list[str] | None = None
    if on_chain:
        found = asyncio.run(_differences(read, data, config_file))
    if as_json:
        emit(_as_json(read, raw, found))
    else:
        click.echo("\n".join(_lines(read, found)))
    if found:
        raise AtollError(
            Kind.CORRUPT,
            "verify genesis",
            f"the chain differs in {len(found)} places",
            hint="--file names the genesis file that the chain was made with",
        )


async def _differences(
    read: rules.Genesis, data: Path | None, config_file: Path | None
) -> list[str]:
    from atoll.cli.chain.link import link_of
    from atoll.economy.chain.genesis import differences

    async with link_of(data, config_file) as link:
        contracts = await link.contracts()
        return await differences(await link.chain(), contracts, read, link.accounts)


def _years(read: rules.Genesis) -> list[tuple[str, int]]:
    """What is free at the beginning of each year, until everything is."""
    plan = rules.schedules(read)
    first = min(one.start_s for one in plan)
    year = datetime.datetime.fromtimestamp(first, datetime.UTC).year
    supply, found = rules.wei(read.token.supply, "supply"), []
    free = -1
    while free < supply:
        begin = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
        free = rules.free_wei(read, int(begin.timestamp()))
        found.append((begin.date().isoformat(), free))
        year += 1
    return found


def _as_json(read: rules.Genesis, raw: bytes, found: list[str] | None) -> dict[str, object]:
    arguments = {
        name: [f"0x{one.hex()}" if isinstance(one, bytes) else str(one) for one in values]
        for name, values in rules.arguments(read).items()
    }
    return {
        "supply_wei": str(rules.wei(read.token.supply, "supply")),
        "digest": rules.digest(read),
        "file_sha256": hashlib.sha256(raw).hexdigest(),
        "arguments": arguments,
        "free_wei_by_date": {date: str(free) for date, free in _years(read)},
        "chain_compared": found is not None,
        "differences": found or [],
    }


def _lines(read: rules.Genesis, found: list[str] | None) -> list[str]:
    rows = [["allocation", "holder", "ATOLL", "free"]]
    for one in read.allocation:
        terms = one.vesting
        when = "at once"
        if terms is not None:
            when = f"from {terms.start} over {terms.duration_days} days"
            when += f", nothing for {terms.cliff_days}" if terms.cliff_days else ""
        amount = rules.show(rules.wei(one.amount, one.name))
        rows.append([one.name, one.holder, amount, when])
    lines = table(rows, right=frozenset({2}))
    supply = rules.show(rules.wei(read.token.supply, "supply"))
    lines += ["", f"{supply} ATOLL, all of it allocated; nothing can be minted after.", ""]
    lines += [f"free on {date}: {rules.show(free)}" for date, free in _years(read)]
    lines += ["", f"digest {rules.digest(read)}"]
    if found is None:
        lines.append("not compared with a chain: --chain does that")
    elif found:
        lines += [paint(f"differs: {one}", fg="red") for one in found]
    else:
        lines.append(paint("the chain says the same, to the unit", fg="green"))
    return lines
