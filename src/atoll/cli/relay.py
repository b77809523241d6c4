"""``atoll relay``: carry the connections of nodes behind a NAT."""

import json
from pathlib import Path

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit
from atoll.cli.places import RELAY_SEED
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import load_here
from atoll.runtime.folder import default_folder

_data = data_option("Its data folder. Default: an XDG data folder.")


@click.group()
def relay() -> None:
    """Run a relay: it carries connections to nodes that cannot be called, and reads nothing."""


@relay.command()
@_data
@click.option("--host", help="Address to listen on; beyond loopback tunnels run over TLS.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the tunnels.")
@click.option("--port-first", type=click.IntRange(0, 65_535), help="First port given to nodes.")
@click.option("--operator", help="Who runs it; a node uses relays of different operators.")
@click.option("--bytes-per-s", type=click.IntRange(0), help="Of one node, each way. 0: no limit.")
@config_option
def run(data: Path | None, config_file: Path | None, **given: object) -> None:
    """Run a relay until it is asked to stop."""
    from atoll.cli import relaying, wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder

    path = data or default_folder("relay")
    config = load_here(path, config_file, {f"relay.{n}": v for n, v in given.items()}).config
    folder = open_folder(path, "relay", SystemClock().now_ms())
    wire.run(config, relaying.run_relay(folder, config))


@relay.command()
@_data
@json_option
def show(data: Path | None, as_json: bool) -> None:
    """Show a relay's key and, as of a few seconds ago, what it carried for whom."""
    from atoll.cli import wire
    from atoll.cli.relaying import RUNNING_RELAY
    from atoll.runtime.folder import read_marker

    path = data or default_folder("relay")
    marker = read_marker(path)
    if marker is None or marker.kind != "relay":
        raise AtollError(
            Kind.WRONG_FOLDER,
            "show relay",
            f"there is no relay in {path}",
            hint="name its folder with --data, or start one with `atoll relay run`",
        )
    facts: dict[str, object] = {"key": wire.identity_of(path, RELAY_SEED).public_key.hex()}
    if (path / RUNNING_RELAY).is_file():
        facts |= json.loads((path / RUNNING_RELAY).read_bytes())
    if as_json:
        emit(facts)
        return
    nodes = facts.pop("nodes", [])
    for name, value in facts.items():
        click.echo(f"{name:12} {value}")
    assert isinstance(nodes, list)
    for node in nodes:
        click.echo(
            f"n-{node['node_id'][:10]}  in {node['to_node_bytes']:,}  out"
            f" {node['from_node_bytes']:,}  connections {node['connections']}"
        )
