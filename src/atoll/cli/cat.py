"""``atoll cat``: an object's bytes on standard output."""

import sys
from typing import TYPE_CHECKING

import click

from atoll.cli.s3 import Door, door_options, parse_place

if TYPE_CHECKING:
    from atoll.client import AsyncClient


@click.command()
@click.argument("source", metavar="s3://BUCKET/KEY")
@click.option("--start", type=click.IntRange(0), default=0, help="First byte.")
@click.option("--end", type=click.IntRange(1), help="One past the last byte.")
@door_options
def cat(source: str, start: int, end: int | None, as_json: bool, **door: object) -> None:
    """Write an object, or some of its bytes, to standard output."""
    place = parse_place(source, key=True)

    async def work(client: "AsyncClient") -> None:
        async with client.stream(place.bucket, place.key, start=start, end=end) as (_, blocks):
            async for block in blocks:
                sys.stdout.buffer.write(block)

    Door(**door).run(work)  # type: ignore[arg-type]
    sys.stdout.buffer.flush()
