"""A cloud's chain for a command: its database, its keys and the server that it settles by."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from atoll.cli import wire
from atoll.cli.cloud import DATABASE_URL
from atoll.cli.places import COORDINATOR_SEED, cloud_folder, read_running
from atoll.cli.settling import chain_seed, settlement_of
from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.link import ChainLink
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.config import Config, load_here
from atoll.runtime.database import SqlDatabase, migrate
from atoll.runtime.folder import SECRETS, read_marker, read_secret

_NO_CHAIN = "it settles on none"


@asynccontextmanager
async def link_of(
    data: Path | None, config_file: Path | None, values: dict[str, object] | None = None
) -> AsyncGenerator[ChainLink, None]:
    """Open the chain of a cloud or a coordinator in a folder, running or not.

    Raises ``WRONG_FOLDER`` where there is neither, ``CONFIG`` where it has no chain.
    """
    folder = cloud_folder(data)
    marker = read_marker(folder)
    if marker is None or marker.kind not in ("cloud", "coordinator"):
        raise AtollError(
            Kind.WRONG_FOLDER,
            "open chain",
            f"there is no cloud and no coordinator in {folder}",
            hint="start one with `atoll up`, or name another with --data",
        )
    config: Config = load_here(folder, config_file, {}).config
    running = read_running(folder)
    settings = config.chain
    if not settings.url and running is not None and running.chain:
        settings = replace(settings, url=running.chain)
    compute = ThreadCompute(1)
    settlement = settlement_of(folder, settings, compute)
    if settlement is None:
        compute.close()
        why = "it does not run" if marker.kind == "cloud" and running is None else _NO_CHAIN
        raise AtollError(
            Kind.CONFIG,
            "open chain",
            f"no chain is known for {folder}: {why}",
            hint="start it with `atoll up`, or set chain.url",
        )
    url = await compute.run(_database_url, folder, config)
    await compute.run(migrate, url)
    database = SqlDatabase(url)
    seed = chain_seed(wire.identity_of(folder, COORDINATOR_SEED))
    link = ChainLink(
        SystemClock(),
        database,
        seed,
        replace(settlement.link, values=values or {}),
        settlement.open_chain,
    )
    try:
        yield link
    finally:
        await link.close()
        await database.close()
        compute.close()


def _database_url(folder: Path, config: Config) -> str:
    kept = ""
    if not config.coordinator.database and (folder / SECRETS / DATABASE_URL).exists():
        kept = read_secret(folder, DATABASE_URL).decode()
    return kept or wire.database_url(folder, config.coordinator)
