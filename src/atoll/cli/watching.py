"""Wires a watcher: its folder, its key, its chain, and where it reads documents."""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine

from atoll.cli.places import WATCHER_SEED
from atoll.cli.settling import chain_seed, chain_url
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, Compute, PieceTransport
from atoll.economy.chain import tables as chain_tables
from atoll.economy.chain.book import read_book
from atoll.economy.chain.link import profile_of
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer, parse_address
from atoll.economy.settlement.source import SOURCES_MAX, DiskSource, DoorSource, Source
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.config import Config
from atoll.runtime.database import SqlDatabase
from atoll.runtime.disk import FolderDisk
from atoll.runtime.folder import Folder
from atoll.runtime.transport import HttpPieceTransport
from atoll.watcher import tables as watcher_tables
from atoll.watcher.config import WatcherConfig
from atoll.watcher.contract import Distributor
from atoll.watcher.service import WatcherService

DATABASE = "watcher.db"
RECORD = "record"
"""Folder of the leaves that it keeps."""
WATCHER = "watcher"
"""Role of its key."""
DISTRIBUTOR = "EpochDistributor"
CHOICES = b"watcher-choices/1"
"""Purpose under which its identity derives what nobody can foretell."""
BOOK_POLL_S = 0.5
"""How often it is looked whether the address book is there."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The contract that is watched."""

    address: bytes
    first_block: int


def signer_of(folder: Path) -> Signer:
    """Return the key of the watcher of a folder; it is made at first use."""
    from atoll.cli.wire import identity_of

    return Signer.derived(chain_seed(identity_of(folder, WATCHER_SEED)), WATCHER)


def secret_of(folder: Path) -> bytes:
    """Return what the choice of demanded chunks follows from."""
    from atoll.cli.wire import identity_of

    return hashlib.sha256(identity_of(folder, WATCHER_SEED).sign(CHOICES, b"")).digest()


def watched(config: Config) -> Watched | None:
    """Return what is watched; None while the address book is not there or does not name it.

    Raises ``CONFIG`` where the settings name neither, ``CORRUPT`` for a book that is none.
    """
    named = config.watcher.contracts
    if not named:
        raise AtollError(
            Kind.CONFIG,
            "start watcher",
            "it is not said what is to be watched",
            hint="name the address book (contracts-CHAIN.json of the coordinator) or the address "
            "of its EpochDistributor: --contracts",
        )
    if named.startswith("0x"):
        return Watched(parse_address(named), config.chain.first_block)
    try:
        body = Path(named).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as cause:
        raise AtollError(
            Kind.CONFIG, "start watcher", f"{named} cannot be read: {cause}"
        ) from cause
    found = read_book(body, config.chain.id).get(DISTRIBUTOR)
    return None if found is None else Watched(found.address, found.block_number)


def sources_of(text: str, transport: PieceTransport, compute: Compute) -> list[Source]:
    """Return the sources that a setting names. Raises ``CONFIG``."""
    from atoll.cli.wire import address_of

    found: list[Source] = []
    for place in (one.strip() for one in text.split(",")):
        if not place:
            continue
        if "://" in place:
            found.append(DoorSource(transport, address_of(place, "")))
        else:
            path = Path(place).expanduser()
            found.append(DiskSource(str(path), FolderDisk(path), compute))
    if len(found) > SOURCES_MAX:
        raise AtollError(
            Kind.CONFIG, "start watcher", f"at most {SOURCES_MAX} sources are asked at once"
        )
    return found


async def purse_of(folder: Path, config: Config, distributor: bytes) -> tuple[int, int] | None:
    """Return what the watcher's account has: coin in wei, stablecoin in micro.

    None where no chain is named or it is away.
    """
    url = chain_url(folder, config.chain)
    if not url:
        return None
    compute = ThreadCompute(1)
    own = signer_of(folder).address
    try:
        chain = await RpcChain.open(url, compute)
        try:
            contract = Distributor(distributor, SystemClock(), embedded=False)
            await contract.open(chain)
            return await chain.balance(own), await contract.balance_micro(chain, own)
        finally:
            await chain.close()
    except AtollError as error:
        if error.kind not in (Kind.UNREACHABLE, Kind.TIMEOUT):
            raise
        return None
    finally:
        compute.close()


def open_watcher_database(folder: Path) -> SqlDatabase:
    """Open the database of a watcher's folder; its tables are made where they are not there."""
    url = f"sqlite:///{folder / DATABASE}"
    engine = create_engine(url)
    try:
        chain_tables.CHAIN_LINK.metadata.create_all(engine)
        watcher_tables.SCHEMA.create_all(engine)
    finally:
        engine.dispose()
    return SqlDatabase(url)


async def run_watcher(folder: Folder, config: Config) -> None:
    """Run a watcher until asked to stop."""
    from atoll.cli.wire import until_asked

    url = chain_url(folder.path, config.chain)
    if not url:
        raise AtollError(
            Kind.CONFIG,
            "start watcher",
            "no chain is named",
            hint="--chain URL, chain.url, or secrets/chain.url where it holds a password",
        )
    watched(config)  # what is wrong with the settings is said at once
    async with AsyncExitStack() as stack:
        watching = asyncio.create_task(_watch(folder.path, config, url, stack), name="begin")
        asked = asyncio.create_task(until_asked(), name="until asked")
        await asyncio.wait({watching, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done() and watching.exception() is None:
            await asked
        for task in (watching, asked):
            task.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        if watching.done() and not watching.cancelled():
            watching.result()


async def _watch(folder: Path, config: Config, url: str, stack: AsyncExitStack) -> None:
    """Begin to watch as soon as the address book is there."""
    while (contract := watched(config)) is None:  # noqa: ASYNC110 - a file of another process
        await asyncio.sleep(BOOK_POLL_S)
    transport = HttpPieceTransport()
    stack.push_async_callback(transport.close)
    compute = ThreadCompute(1)
    stack.callback(compute.close)
    database = open_watcher_database(folder)
    stack.push_async_callback(database.close)

    async def open_chain() -> Chain:
        return await RpcChain.open(url, compute)

    chain = config.chain
    service = WatcherService(
        SystemClock(),
        database,
        FolderDisk(folder / RECORD),
        compute,
        open_chain,
        contract.address,
        sources_of(config.watcher.sources, transport, compute),
        signer_of(folder),
        secret_of(folder),
        WatcherConfig(
            chain_id=chain.id,
            profile=profile_of(chain.id, chain.confirmations, chain.fee_wei_max),
            first_block=contract.first_block,
            demands_max=config.watcher.demands_max,
            accuse=config.watcher.accuse == "on",
        ),
    )
    stack.push_async_callback(service.stop)
    await service.start()
