"""``atoll bucket``: how a bucket's manifests are written, and which coordinator keeps it."""

from pathlib import Path
from typing import Any

import click

from atoll.cli.output import emit, say
from atoll.cli.s3 import Door, door_options, parse_place
from atoll.core.units import show_bytes

MODES = ("group", "sync")


@click.group()
def bucket() -> None:
    """Manifests of a bucket, and the coordinator that keeps it."""


@bucket.command()
@click.argument("place", metavar="s3://BUCKET")
@click.argument("wanted", metavar="[group|sync]", type=click.Choice(MODES), required=False)
@door_options
def mode(place: str, wanted: str | None, as_json: bool, **door: Any) -> None:
    """Show or set how writes wait for the bucket's manifests.

    group: manifests follow within a second. sync: a write is answered when it stands in a manifest
    on nodes, so that nothing acknowledged depends on any coordinator's database.
    """
    body = {"bucket": parse_place(place).bucket, "mode": wanted or ""}
    shown = Door(**door).run(lambda client: client.ask("bucket-mode", body))
    if as_json:
        emit(shown)
        return
    say(
        f"s3://{shown['bucket']}: {shown['mode']}; {shown['waiting']} changes wait"
        f" ({shown['lag_ms']} ms); {shown['manifests']} manifests,"
        f" {show_bytes(shown['manifest_bytes'])}"
    )


@bucket.command()
@click.argument("place", metavar="s3://BUCKET")
@click.option("--to", "target", required=True, metavar="URL|DIR", help="The new coordinator.")
@click.option("--nodes", multiple=True, metavar="FILE|URL", help="Default: DATA/nodes.json.")
@click.option("--data", type=click.Path(path_type=Path), envvar="ATOLL_DATA", metavar="DIR",
              help="Folder of the cloud or gateway that has the keys.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON lines.")
def move(place: str, target: str, nodes: tuple[str, ...], data: Path | None, as_json: bool) -> None:
    """Let another coordinator keep a bucket, without the present one's consent.

    No byte moves: nodes that serve the new coordinator too take the owner's signature, and the
    bucket's manifests say what is in it. Stop writing to the bucket first.
    """
    from atoll.cli.places import cloud_folder
    from atoll.cli.recover.command import NODES, run_recovery
    from atoll.cli.rooms import root_key

    folder = cloud_folder(data)
    options = {
        "nodes": nodes or (str(folder / NODES),),
        "target": None,
        "bucket": parse_place(place).bucket,
        "dry_run": False,
        "into_coordinator": target,
        "endpoint": None,
        "data": folder,
    }
    run_recovery(root_key(folder), options, as_json=as_json)
