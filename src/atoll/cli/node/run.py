"""``atoll node run``: a storage node."""

from pathlib import Path

import click

from atoll.cli.options import Size, config_option, data_option
from atoll.runtime.config import TIERS, load_here
from atoll.runtime.folder import default_folder


@click.command()
@data_option("Its data folder. Default: an XDG data folder.")
@click.option("--coordinator", metavar="URL", help="https://HOST:PORT#FINGERPRINT")
@click.option("--fingerprint", metavar="HEX", help="SHA-256 of the coordinator's certificate.")
@click.option("--host", help="Address to listen on; beyond loopback always with TLS.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on.")
@click.option("--advertise", metavar="HOST[:PORT]", help="Where others reach it.")
@click.option("--capacity", type=Size(), help="Room offered, as 500GB.")
@click.option("--operator", help="Who runs it.")
@click.option("--site", help="Where it stands, as one word.")
@click.option("--region", help="Region, as eu-central.")
@click.option("--country", help="Country, two letters.")
@click.option("--tier", type=click.Choice(TIERS), help="Kind of place.")
@click.option("--price", "price_micro", type=click.IntRange(0), help="Micro-euro per TB and month.")
@config_option
def run(data: Path | None, config_file: Path | None, **given: object) -> None:
    """Run a storage node until it is asked to stop. `atoll join` prepares one."""
    from atoll.cli import wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder

    path = data or default_folder("node")
    names = {"capacity": "capacity_bytes"}
    flags = {f"node.{names.get(name, name)}": value for name, value in given.items()}
    config = load_here(path, config_file, flags).config
    wire.node_config(config.node, None, local=False)  # says what is missing, before any file
    folder = open_folder(path, "node", SystemClock().now_ms())
    wire.run(config, wire.run_node(folder, config))
