"""``atoll rm``: remove objects."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from atoll.cli.output import emit, say
from atoll.cli.s3 import Door, Place, door_options, parse_place
from atoll.core.errors import AtollError, Kind

if TYPE_CHECKING:
    from atoll.client import AsyncClient

BATCH_KEYS = 1000


@click.command()
@click.argument("place", metavar="s3://BUCKET/KEY")
@click.option("-r", "--recursive", is_flag=True, help="Remove every object under the prefix.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@door_options
def rm(place: str, recursive: bool, dry_run: bool, as_json: bool, **door: object) -> None:
    """Remove an object, or with --recursive all under a prefix."""
    target = parse_place(place, key=not recursive)
    where = Door(**door)  # type: ignore[arg-type]
    remover = _Remover(target, dry_run, as_json)
    if recursive:
        count = where.run(remover.all_under)
        if not as_json:
            verb = "found" if dry_run else "removed"
            say(f"{count:,} object{'' if count == 1 else 's'} {verb}")
    else:
        where.run(remover.one)


@dataclass(frozen=True, slots=True)
class _Remover:
    target: Place
    dry_run: bool
    as_json: bool

    async def one(self, client: "AsyncClient") -> None:
        if not self.dry_run:
            await client.delete(self.target.bucket, self.target.key)
        self._told(self.target.key)

    async def all_under(self, client: "AsyncClient") -> int:
        count, batch = 0, list[str]()
        async for entry in client.list(self.target.bucket, self.target.key):
            batch.append(getattr(entry, "key", ""))
            if len(batch) == BATCH_KEYS:
                count += await self._batch(client, batch)
                batch = []
        return count + (await self._batch(client, batch) if batch else 0)

    async def _batch(self, client: "AsyncClient", keys: list[str]) -> int:
        if not self.dry_run:
            await _remove(client, self.target.bucket, keys)
        for key in keys:
            self._told(key)
        return len(keys)

    def _told(self, key: str) -> None:
        verb = "would remove" if self.dry_run else "removed"
        if self.as_json:
            emit({verb.replace(" ", "_"): key})
        else:
            say(f"{verb} {Place(self.target.bucket, key)}")


async def _remove(client: "AsyncClient", bucket: str, keys: list[str]) -> None:
    stayed = await client.delete_many(bucket, keys)
    if stayed:
        key, reason = stayed[0]
        raise AtollError(
            Kind.FORBIDDEN,
            "remove objects",
            f"{len(stayed)} objects stayed, the first because: {reason}",
            about=key,
        )
