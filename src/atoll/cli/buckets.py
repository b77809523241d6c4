"""``atoll mb`` and ``atoll rb``: make and remove buckets."""

import click

from atoll.cli.output import emit, say
from atoll.cli.s3 import Door, door_options, parse_place


def _bucket(text: str) -> str:
    return parse_place(text).bucket if "://" in text else text.rstrip("/")


@click.command()
@click.argument("bucket", metavar="s3://BUCKET")
@door_options
def mb(bucket: str, as_json: bool, **door: object) -> None:
    """Make a bucket."""
    name = _bucket(bucket)
    Door(**door).run(lambda client: client.make_bucket(name))  # type: ignore[arg-type]
    emit({"made": name}) if as_json else say(f"made s3://{name}")


@click.command()
@click.argument("bucket", metavar="s3://BUCKET")
@door_options
def rb(bucket: str, as_json: bool, **door: object) -> None:
    """Remove an empty bucket."""
    name = _bucket(bucket)
    Door(**door).run(lambda client: client.delete_bucket(name))  # type: ignore[arg-type]
    emit({"removed": name}) if as_json else say(f"removed s3://{name}")
