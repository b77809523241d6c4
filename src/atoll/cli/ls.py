"""``atoll ls``: buckets, or the objects under a prefix."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from atoll.cli.output import emit, paint
from atoll.cli.s3 import Door, door_options, parse_place
from atoll.core.units import show_bytes

if TYPE_CHECKING:
    from atoll.client import AsyncClient


@click.command()
@click.argument("place", metavar="[s3://BUCKET[/PREFIX]]", required=False)
@click.option("-r", "--recursive", is_flag=True, help="All keys, not rolled up at /.")
@click.option("--bytes", "exact", is_flag=True, help="Sizes in bytes.")
@door_options
def ls(place: str | None, recursive: bool, exact: bool, as_json: bool, **door: object) -> None:
    """List buckets, or objects under a prefix."""
    where = Door(**door)  # type: ignore[arg-type]
    if place is None or place == "s3://":
        where.run(lambda client: _buckets(client, as_json))
        return
    found = parse_place(place)
    delimiter = "" if recursive else "/"
    where.run(lambda client: _objects(client, found.bucket, found.key, delimiter, exact, as_json))


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


async def _buckets(client: "AsyncClient", as_json: bool) -> None:
    for bucket in await client.list_buckets():
        if as_json:
            emit({"bucket": bucket.name, "created_ms": bucket.created_ms})
        else:
            click.echo(f"{_time(bucket.created_ms)}  s3://{bucket.name}")


async def _objects(
    client: "AsyncClient", bucket: str, prefix: str, delimiter: str, exact: bool, as_json: bool
) -> None:
    from atoll.client import PrefixEntry

    async for entry in client.list(bucket, prefix, delimiter=delimiter):
        if isinstance(entry, PrefixEntry):
            if as_json:
                emit({"prefix": entry.prefix})
            else:
                click.echo(f"{'':19}  {'':>10}  {paint(_shown(entry.prefix), fg='cyan')}")
        elif as_json:
            emit(
                {
                    "key": entry.key,
                    "size": entry.size,
                    "etag": entry.etag,
                    "modified_ms": entry.modified_ms,
                }
            )
        else:
            size = str(entry.size) if exact else show_bytes(entry.size)
            click.echo(f"{_time(entry.modified_ms)}  {size:>10}  {_shown(entry.key)}")


def _shown(key: str) -> str:
    """Keys may hold anything; a terminal gets no control characters from them."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in key)
