"""``atoll epoch``: what was settled, and whether it comes out right when it is computed again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atoll.cli.epoch_open import open_source
from atoll.cli.epoch_options import chain_options
from atoll.cli.epoch_sources import Source
from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, say, table
from atoll.core.errors import AtollError, Kind, meaning_of
from atoll.core.ids import show_node
from atoll.core.money import PICO_PER_MICRO, show_euro

if TYPE_CHECKING:
    from atoll.cli.epoch_chain import ChainOutcome
    from atoll.economy.settlement.document import ChunkEntry, Document, Index

ROWS_MAX = 50
"""Nodes that ``show`` lists; with --json all."""
CHUNKS_SAID = 50
"""Documents of more chunks show how many were read."""
Function = TypeVar("Function", bound=Callable[..., Any])
Answer = TypeVar("Answer")


def _source_options(function: Function) -> Function:
    options = (
        click.option(
            "--from",
            "place",
            metavar="URL|DIR|s3://…",
            help="https://HOST:PORT#FINGERPRINT of a coordinator, a folder, or s3://BUCKET.",
        ),
        data_option("Folder of the cloud. Default: that of `atoll up`."),
        json_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


def _run(
    place: str | None, data: Path | None, ask: Callable[[Source], Awaitable[Answer]]
) -> Answer:
    """Run a question against the source that is meant."""

    async def run() -> Answer:
        async with AsyncExitStack() as stack:
            return await ask(await open_source(place, data, stack))

    return asyncio.run(run())


@click.group()
def epoch() -> None:
    """See what was settled, and compute it again.

    Every epoch is published in full: what was stored, proven and paid, under pseudonyms.
    """


@epoch.command("list")
@_source_options
def list_(place: str | None, data: Path | None, as_json: bool) -> None:
    """List epochs, newest first."""
    import msgspec

    found = _run(place, data, lambda source: source.epochs())
    if as_json:
        emit([msgspec.to_builtins(one) for one in found])
        return
    rows = [["epoch", "from", "until", "state", "signed", "claimed", "content hash"]]
    rows += [
        [
            str(one.epoch),
            _time(one.from_ms),
            _time(one.until_ms),
            one.settlement.state if one.settlement else one.state,
            f"{one.settlement.signatures}" if one.settlement else "",
            _euro(one.settlement.claimed_micro * PICO_PER_MICRO) if one.settlement else "",
            one.content[:16],
        ]
        for one in found
    ]
    click.echo("\n".join(table(rows, right=frozenset({0, 4, 5}))))
    waits = next((one for one in found if one.settlement and one.settlement.problem), None)
    if waits is not None and waits.settlement is not None:
        say(f"epoch {waits.epoch}: {waits.settlement.problem}")
    if not found:
        say("no epoch was closed yet")


# --- show ----------------------------------------------------------------------------------------


@epoch.command()
@click.argument("number", metavar="N", type=click.IntRange(1))
@_source_options
def show(number: int, place: str | None, data: Path | None, as_json: bool) -> None:
    """Show what epoch N came to, and how far it is on the chain."""
    document, settlement = _run(place, data, lambda source: _shown(source, number))
    facts = {**_facts(document), "settlement": settlement}
    if as_json:
        emit(facts)
        return
    index = document.index
    rows = [
        ["epoch", str(index.epoch)],
        ["time", f"{_time(index.from_ms)} … {_time(index.until_ms)}"],
        *([["time factor", _factor(facts["time_factor"])]] if facts["time_factor"] > 1 else []),
        ["content hash", facts["content"]],
        ["root", facts["root"]],
        ["customers pay", show_euro(facts["paid_pico"])],
        ["returned unproven", show_euro(facts["refund_pico"])],
        ["not covered", show_euro(facts["unfunded_pico"])],
        ["providers earn", show_euro(facts["earned_pico"])],
        ["network's share", show_euro(facts["take_pico"])],
        ["owed by the root", f"{show_euro(index.released_micro * PICO_PER_MICRO)} so far"],
    ]
    click.echo("\n".join(table([*rows, *_settled_rows(settlement)])))
    click.echo("")
    nodes = [["node", "earned", "repair", "released", "held"]]
    nodes += [
        [show_node(one.node), *(_euro(x) for x in _figures(one))]
        for one in document.content.result.nodes[:ROWS_MAX]
    ]
    click.echo("\n".join(table(nodes, right=frozenset({1, 2, 3, 4}))))
    more = len(document.content.result.nodes) - ROWS_MAX
    if more > 0:
        say(f"and {more} more: --json shows all")


async def _shown(source: Source, number: int) -> "tuple[Document, dict[str, Any] | None]":
    """Return a document, and its way to the chain where the source is a coordinator's door."""
    import msgspec

    from atoll.cli.epoch_sources import DoorSource

    document = await _document(source, number)
    told = (await source.facts(number)).settlement if isinstance(source, DoorSource) else None
    return document, None if told is None else msgspec.structs.asdict(told)


def _settled_rows(settlement: dict[str, Any] | None) -> list[list[str]]:
    """Return what is told of an epoch's way to the chain, for people."""
    if settlement is None:
        return []
    rows = [["on the chain", settlement["state"]]]
    if settlement.get("signatures"):
        signed = f"{settlement['signatures']} verifiers, {settlement['quorum']} are needed"
        rows.append(["signed by", f"{signed} (attempt {settlement['attempt']})"])
    names = ("proposed_transaction", "final_transaction")
    rows += [[name.split("_")[0], settlement[name]] for name in names if settlement.get(name)]
    if settlement.get("claimed_micro"):
        rows.append(["claimed", show_euro(settlement["claimed_micro"] * PICO_PER_MICRO)])
    if settlement.get("problem"):
        rows.append(["waits", settlement["problem"]])
    return rows


def _figures(one: Any) -> tuple[int, int, int, int]:
    return one.earned_pico, one.repair_pico, one.released_pico, one.held_pico


def _factor(time_factor: int) -> str:
    return f"{time_factor:,} (a demonstration: every second of storage counts as so many)"


def _euro(pico: int) -> str:
    return show_euro(pico)


def _facts(document: "Document") -> dict[str, Any]:
    index, result = document.index, document.content.result
    return {
        "epoch": index.epoch,
        "from_ms": index.from_ms,
        "until_ms": index.until_ms,
        "time_factor": document.content.inputs.time_factor,
        "content": document.content_hash.hex(),
        "previous": index.previous.hex(),
        "root": index.root.hex(),
        "leaves": index.leaf_count,
        "released_micro": index.released_micro,
        "held_micro": index.held_micro,
        "coordinator_key": index.coordinator_key.hex(),
        "bytes": sum(chunk.byte_count for chunk in index.chunks),
        "paid_pico": sum(one.charge_pico - one.refund_pico for one in result.customers),
        "refund_pico": sum(one.refund_pico for one in result.customers),
        "unfunded_pico": sum(one.unfunded_pico for one in result.customers),
        "earned_pico": sum(one.earned_pico for one in result.nodes),
        "take_pico": result.take_pico,
        "nodes": [
            {
                "node": one.node.hex(),
                "account": "0x" + one.account.hex(),
                "earned_pico": one.earned_pico,
                "repair_pico": one.repair_pico,
                "released_pico": one.released_pico,
                "held_pico": one.held_pico,
            }
            for one in result.nodes
        ],
    }


async def _document(source: Source, number: int, expected: bytes | None = None) -> "Document":
    """Read a document; all its hashes hold. Raises ``NOT_FOUND`` and ``CORRUPT``."""
    from atoll.economy.settlement.document import read, read_index

    index = await source.index(number)
    entries = read_index(index, expected).chunks
    return read(index, [await source.chunk(one.sha256) for one in entries], expected)


# --- mirror --------------------------------------------------------------------------------------


@epoch.command()
@click.option(
    "--to",
    "targets",
    metavar="DIR|s3://BUCKET",
    multiple=True,
    required=True,
    help="Where to copy documents to. May be repeated.",
)
@click.option("--follow", is_flag=True, help="Go on copying what comes, until interrupted.")
@_source_options
def mirror(
    targets: tuple[str, ...], follow: bool, place: str | None, data: Path | None, as_json: bool
) -> None:
    """Copy documents of epochs to folders and buckets; what is there already is left.

    All is checked by its hash, so a mirror is as good as the coordinator: name it with --from.
    """
    from atoll.cli.epoch_mirror import keep_mirror

    done = asyncio.run(keep_mirror(place, data, targets, follow=follow))
    if as_json:
        emit({"epochs": done.epochs, "files": done.files})
    else:
        click.echo(f"{done.epochs} epochs are there, {done.files} files were written")


# --- recompute -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a recomputation found."""

    content: str
    differences: list[str]
    previous_read: bool
    """The epoch before was read, and this one begins where it ended. True for the first."""


@epoch.command()
@click.argument("number", metavar="N", type=click.IntRange(1))
@click.option(
    "--content",
    "expected",
    metavar="HASH",
    help="Content hash (64 hex digits) that it must have, from elsewhere.",
)
@chain_options
@_source_options
def recompute(
    number: int,
    expected: str | None,
    chain_only: bool,
    url: str | None,
    contracts: str | None,
    place: str | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Compute epoch N again from its lines; fail if one figure or one byte differs.

    It must also begin where the epoch before ended. Whether the lines themselves are true is shown
    by their evidence: `atoll receipt explain`.

    With --from-chain-only nobody is believed but the chain: root, content hash, parameters and the
    epoch that went before come from there, documents are bytes that must fit them.
    """
    wanted = _hash(expected)
    if chain_only:
        from atoll.cli.epoch_chain import recompute_from_chain

        ask = recompute_from_chain(number, url, contracts, data, _recompute)
        return _report_chain(number, _run(place, data, ask), as_json)
    found = _run(place, data, lambda source: _recompute(source, number, wanted))
    agrees = not found.differences
    if as_json:
        emit(
            {
                "epoch": number,
                "content": found.content,
                "agrees": agrees,
                "previous_read": found.previous_read,
                "differences": found.differences,
            }
        )
    else:
        for one in found.differences:
            click.echo(paint(one, fg="red"))
        if not found.previous_read:
            say(f"epoch {number - 1} is not there: whether this one follows it was not seen")
        if agrees:
            click.echo(f"epoch {number} comes out as published: {found.content}")
        else:
            say(f"epoch {number} is not what it says: {len(found.differences)} differences")
    return 0 if agrees else meaning_of(Kind.CORRUPT).exit_code


def _report_chain(number: int, found: "ChainOutcome", as_json: bool) -> int:
    agrees = not found.differences
    if as_json:
        facts = {name: getattr(found, name) for name in found.__dataclass_fields__}
        emit({"epoch": number, "agrees": agrees} | facts)
    else:
        for one in found.differences:
            click.echo(paint(one, fg="red"))
        for one in found.unseen:
            say(one)
        said = f"content {found.content}, root {found.root}, {found.state} on the chain"
        if agrees:
            click.echo(f"epoch {number} comes out as it was settled: {said}")
        else:
            say(f"epoch {number} is not what was settled: {said}")
    return 0 if agrees else meaning_of(Kind.CORRUPT).exit_code


def _hash(text: str | None) -> bytes | None:
    from atoll.economy.settlement.document import HASH_BYTES

    if text is None:
        return None
    try:
        found = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != HASH_BYTES:
        raise AtollError(
            Kind.BAD_REQUEST, "recompute epoch", "a content hash has 64 hexadecimal digits"
        )
    return found


async def _recompute(source: Source, number: int, expected: bytes | None) -> _Outcome:
    from atoll.economy.settlement.document import content_hash, read, read_index
    from atoll.economy.settlement.recompute import recompute as compute_again

    if expected is None:
        stated = {one.epoch: one.content for one in await source.epochs()}
        expected = bytes.fromhex(stated.get(number, "")) or None
    body = await source.index(number)
    name = content_hash(body).hex()
    if expected is not None and name != expected.hex():
        wrong = f"index: content hash {name}, settled was {expected.hex()}"
        return _Outcome(name, [wrong], previous_read=False)
    try:
        index = read_index(body, expected)
    except AtollError as error:
        return _Outcome(name, [f"index: {error.message}"], previous_read=False)
    chunks, wrong_chunks = await _chunks(source, index)
    if wrong_chunks:
        return _Outcome(name, wrong_chunks, previous_read=False)
    try:
        document = read(body, chunks, expected)
    except AtollError as error:
        return _Outcome(name, [error.message], previous_read=False)
    previous = None
    if number > 1:
        try:
            previous = await _document(source, number - 1, index.previous)
        except AtollError as error:
            if error.kind is not Kind.NOT_FOUND:
                return _Outcome(name, [f"epoch {number - 1}: {error.message}"], False)
    differences = [str(one) for one in compute_again(document, previous)]
    return _Outcome(name, differences, previous is not None or number == 1)


async def _chunks(source: Source, index: "Index") -> tuple[list[bytes], list[str]]:
    """Read all chunks; return them and what is wrong with which."""
    from atoll.economy.settlement.document import check_chunk

    bodies, wrong = [], []
    for place, entry in enumerate(index.chunks):
        if place and place % CHUNKS_SAID == 0:
            say(f"{place} of {len(index.chunks)} chunks")
        try:
            body = await source.chunk(entry.sha256)
            check_chunk(entry, body)
        except AtollError as error:
            if error.kind not in (Kind.CORRUPT, Kind.NOT_FOUND):
                raise
            wrong.append(f"{_named(place, entry)}: {error.message}")
            continue
        bodies.append(body)
    return bodies, wrong


def _named(place: int, entry: "ChunkEntry") -> str:
    return f"chunk {place} ({entry.section}, {entry.rows} rows, {entry.sha256.hex()[:16]})"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
