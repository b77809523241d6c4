"""``atoll chain deploy``: the contracts onto the chain, once."""

import asyncio
import tomllib
from pathlib import Path

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, say
from atoll.core.errors import AtollError, Kind

VALUES_BYTES_MAX = 1 << 20
HEX_PREFIX = "0x"


@click.command()
@data_option("Folder of the cloud or coordinator. Default: that of `atoll up`.")
@click.option(
    "--values",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="TOML file: argument = value, or [Contract] argument = value.",
)
@config_option
@json_option
def deploy(data: Path | None, values: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Put the contracts on the chain, in order; what stands already is left as it is.

    It can be cut off and run again at any time. On an embedded chain `atoll up` does it by itself.
    """
    asyncio.run(_deploy(data, _read_values(values), config_file, as_json))


async def _deploy(
    data: Path | None, values: dict[str, object], config_file: Path | None, as_json: bool
) -> None:
    from atoll.cli.chain.link import link_of
    from atoll.economy.chain.signer import checksum_address

    async with link_of(data, config_file, values) as link:
        progress = await link.deploy(lambda step: say(f"{step} …"))
        found = {name: checksum_address(c.address) for name, c in progress.contracts.items()}
    if as_json:
        emit({"chain_id": link.config.chain_id, "contracts": found})
        return
    for name, address in found.items():
        click.echo(f"{name:16} {address}")


def _read_values(path: Path | None) -> dict[str, object]:
    """Read the plan's values: ``Contract.argument`` or ``argument``; 0x texts are bytes."""
    if path is None:
        return {}
    try:
        raw = path.read_bytes()[: VALUES_BYTES_MAX + 1]
        tree = tomllib.loads(raw.decode())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise AtollError(Kind.CONFIG, "read values", f"{path}: {cause}") from cause
    found: dict[str, object] = {}
    for name, value in tree.items():
        entries = value if isinstance(value, dict) else {"": value}
        for argument, inner in entries.items():
            found[f"{name}.{argument}" if argument else name] = _value(inner)
    return found


def _value(value: object) -> object:
    if isinstance(value, list):
        return [_value(entry) for entry in value]
    if isinstance(value, str) and value.startswith(HEX_PREFIX):
        try:
            return bytes.fromhex(value.removeprefix(HEX_PREFIX))
        except ValueError as cause:
            raise AtollError(Kind.CONFIG, "read values", f"{value!r} is no hex") from cause
    if isinstance(value, str) and value.isdigit():
        return int(value)  # TOML's own whole numbers end at 2^63
    return value
