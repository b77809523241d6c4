"""``atoll epoch recompute --from-chain-only``: documents held against what the chain says.

Root, content hash, parameters and the epoch before come from the chain. Whoever gives documents is
believed nothing: they are bytes that fit, or do not.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from atoll.cli.places import cloud_folder, read_running
from atoll.cli.settling import book_name, chain_url
from atoll.cli.watching import Watched, watched
from atoll.core.errors import AtollError, Kind
from atoll.economy.settlement.document import NO_DOCUMENT, Index, content_hash, read_index
from atoll.economy.settlement.model import TakeParameters
from atoll.economy.settlement.wire import decode_rows
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.config import Config, load_here

if TYPE_CHECKING:
    from atoll.watcher.settled import SettledEpoch

PREVIOUS_MAX = 4_096
"""Epochs that the chain may have left out between two roots (``EPOCH_SKIP_MAX``)."""


class Documents(Protocol):
    """Whoever has documents."""

    async def index(self, epoch: int) -> bytes:
        """Return an index."""

    async def chunk(self, sha256: bytes) -> bytes:
        """Return a chunk."""


class Computed(Protocol):
    """What computing a document again found."""

    @property
    def differences(self) -> list[str]:
        """What differs."""

    @property
    def previous_read(self) -> bool:
        """Whether it was compared with the epoch before."""


Recompute = Callable[[Any, int, bytes], Awaitable[Computed]]
"""Computes an epoch again, from a source of documents, by its content hash."""


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """What was found."""

    content: str
    root: str
    state: str
    """``final``, or ``open`` while it may still be struck down."""
    before: int
    """The last final epoch below it; 0 for none."""
    differences: list[str]
    unseen: list[str]
    """What could not be checked, and why."""


def recompute_from_chain(
    number: int,
    url: str | None,
    contracts: str | None,
    data: Path | None,
    recompute: Recompute,
) -> Callable[[Documents], Awaitable[ChainOutcome]]:
    """Return what is to be asked of a source of documents. Raises ``CONFIG``."""
    config = _config(url, contracts, data)
    where = watched(config)
    if where is None:
        raise AtollError(
            Kind.CONFIG,
            "recompute epoch",
            f"{config.watcher.contracts} names no distributor",
            hint="name its address: --contracts 0x…",
        )

    async def ask(source: Documents) -> ChainOutcome:
        return await _compare(source, await _settled(config, where, number), recompute)

    return ask


def _config(url: str | None, contracts: str | None, data: Path | None) -> Config:
    """Return settings that name a chain and a contract, from flags or a cloud's folder."""
    folder = cloud_folder(data)
    found = load_here(folder, None, {"chain.url": url, "watcher.contracts": contracts}).config
    running = read_running(folder)
    chain = found.chain
    if not chain.url:
        known = running.chain if running is not None else ""
        chain = replace(chain, url=known or chain_url(folder, chain))
    watcher = found.watcher
    if not watcher.contracts:
        watcher = replace(watcher, contracts=str(folder / book_name(chain.id)))
    if not chain.url:
        raise AtollError(
            Kind.CONFIG,
            "recompute epoch",
            "no chain is named",
            hint="--chain URL, or --data with the folder of a cloud that runs",
        )
    return replace(found, chain=chain, watcher=watcher)


async def _settled(config: Config, where: Watched, number: int) -> "SettledEpoch":
    from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
    from atoll.economy.chain.outbox import check_chain
    from atoll.economy.chain.rpc import RpcChain
    from atoll.watcher.contract import Distributor
    from atoll.watcher.settled import settled_epoch

    compute = ThreadCompute(1)
    try:
        chain = await RpcChain.open(config.chain.url, compute)
        try:
            await check_chain(chain, config.chain.id)
            embedded = config.chain.id == EMBEDDED_CHAIN_ID
            contract = Distributor(where.address, SystemClock(), embedded=embedded)
            return await settled_epoch(chain, contract, where.first_block, number)
        finally:
            await chain.close()
    finally:
        compute.close()


async def _compare(
    source: Documents, settled: "SettledEpoch", recompute: Recompute
) -> ChainOutcome:
    proposed = settled.proposed
    found = await recompute(source, proposed.epoch, proposed.content)
    differences, unseen = list(found.differences), []
    if not found.previous_read and not differences:
        unseen.append(f"the document of epoch {proposed.epoch - 1} is not there")
    try:
        body = await source.index(proposed.epoch)
        if content_hash(body) == proposed.content:
            index = read_index(body)
            differences += _root_differences(index, settled)
            differences += await _parameter_differences(source, index, settled)
            differences += await _order_differences(source, index, settled, unseen)
    except AtollError as error:
        if error.kind not in (Kind.NOT_FOUND, Kind.CORRUPT):
            raise
        differences.append(error.message)
    if not settled.parameters_then:
        unseen.append(
            "the chain's server does not remember the parameters of then; compared with today's"
        )
    before = 0 if settled.before is None else settled.before.epoch
    return ChainOutcome(
        content=proposed.content.hex(),
        root=proposed.root.hex(),
        state=settled.state,
        before=before,
        differences=list(dict.fromkeys(differences)),
        unseen=unseen,
    )


def _root_differences(index: Index, settled: "SettledEpoch") -> list[str]:
    proposed = settled.proposed
    pairs = (
        ("root", index.root.hex(), proposed.root.hex()),
        ("leaf_count", str(index.leaf_count), str(proposed.count)),
        ("epoch", str(index.epoch), str(proposed.epoch)),
    )
    return [
        f"index.{name}: published {said}, on the chain {there}"
        for name, said, there in pairs
        if said != there
    ]


async def _parameter_differences(
    source: Documents, index: Index, settled: "SettledEpoch"
) -> list[str]:
    """Return where an epoch was computed with other numbers than the chain has."""
    for entry in index.chunks:
        if entry.section != "parameters":
            continue
        published = decode_rows(await source.chunk(entry.sha256), TakeParameters)[0]
        there = settled.parameters
        return [
            f"parameters.{name}: published {getattr(published, name)}, "
            f"on the chain {getattr(there, name)}"
            for name in TakeParameters.__struct_fields__
            if getattr(published, name) != getattr(there, name)
        ]
    return ["parameters: it has none"]


async def _order_differences(
    source: Documents, index: Index, settled: "SettledEpoch", unseen: list[str]
) -> list[str]:
    """Follow the hashes back to the last final epoch: it must be the one that the chain has."""
    before = settled.before
    last = 0 if before is None else before.epoch
    expected, epoch = index.previous, index.epoch - 1
    for _ in range(PREVIOUS_MAX):
        if epoch <= last:
            break
        try:
            body = await source.index(epoch)
        except AtollError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            unseen.append(f"the document of epoch {epoch} is not there: what it follows is open")
            return []
        if content_hash(body) != expected:
            return [f"index.previous: epoch {epoch} there is another one"]
        expected, epoch = read_index(body).previous, epoch - 1
    settled_before = NO_DOCUMENT if before is None else before.content
    if expected != settled_before:
        return [
            f"index.previous: follows {expected.hex()}, "
            f"on the chain epoch {last} is {settled_before.hex()}"
        ]
    return []
