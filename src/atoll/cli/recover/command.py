"""The command: reads phrase and nodes, wires the data's way without a coordinator, tells."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from atoll.cli.options import json_option
from atoll.cli.output import emit, say
from atoll.core.errors import AtollError, Kind
from atoll.core.units import show_bytes

if TYPE_CHECKING:
    from atoll.client.recovery.model import NodePlace, RecoveryReport
    from atoll.client.recovery.search import Catalogue

NODES = "nodes.json"
PHRASE_BYTES_MAX = 4096
NODES_BYTES_MAX = 64 << 20
PROGRESS_S = 1.0
PROBLEMS_SHOWN = 10


@click.command()
@click.option(
    "--phrase-file",
    metavar="FILE",
    help="File with the recovery phrase; - for standard input.",
)
@click.option(
    "--nodes",
    multiple=True,
    metavar="FILE|URL",
    help="A node list (nodes.json), or a node's address https://HOST:PORT#FINGERPRINT. Repeatable.",
)
@click.option("--to", "target", metavar="DIR|s3://[BUCKET]", help="Where the objects go.")
@click.option("--bucket", default="", metavar="NAME", help="Only this bucket.")
@click.option("--endpoint", metavar="URL", help="S3 endpoint for --to s3://.")
@click.option("--dry-run", is_flag=True, help="Find everything, restore nothing.")
@click.option("--into-coordinator", metavar="DIR|URL", help="Let a new coordinator take over.")
@click.option(
    "--save-nodes", metavar="FILE", type=click.Path(path_type=Path), help="Save the node list."
)
@click.option("--data", type=click.Path(path_type=Path), envvar="ATOLL_DATA", metavar="DIR")
@json_option
def recover(as_json: bool, **options: Any) -> None:
    """Bring buckets back from nodes alone: no coordinator, no database, only the phrase.

    Every object that was acknowledged comes back byte for byte, with its S3 facts in a list beside
    it (DIR/BUCKET/%objects.jsonl). Run the same command again to go on after a stop. What could not
    be brought back, and why, stands in recover-report.json.
    """
    if options["save_nodes"]:
        _save_nodes(options["save_nodes"], options["data"], as_json=as_json)
        return
    if not options["phrase_file"] or not options["nodes"]:
        raise click.UsageError("--phrase-file and --nodes are needed")
    if not (options["target"] or options["dry_run"] or options["into_coordinator"]):
        raise click.UsageError("say where with --to, or look around with --dry-run")
    phrase = _read_phrase(options["phrase_file"])
    from atoll.core.crypto import root_from_phrase

    run_recovery(root_from_phrase(phrase), options, as_json=as_json)


def run_recovery(root: bytes, options: dict[str, Any], *, as_json: bool) -> None:
    """Run it, tell how it went; leave with 1 if something could not be brought back."""
    report = asyncio.run(_recover(root, options, as_json=as_json))
    _tell(report, as_json=as_json)
    if report.figures.failed or report.problems_total:
        sys.exit(1)


def _save_nodes(file: Path, data: Path | None, *, as_json: bool) -> None:
    from atoll.cli.places import find_running
    from atoll.client.recovery.model import decode_nodes

    folder = data or find_running(None).folder
    source = folder / NODES
    if not source.is_file():
        raise AtollError(
            Kind.NOT_FOUND,
            "save nodes",
            f"there is no {source}",
            hint="a coordinator writes it within half a minute of its start",
        )
    listed = decode_nodes(source.read_bytes())
    file.write_bytes(msgspec.json.encode(listed))
    facts = {"saved": str(file), "nodes": len(listed.nodes)}
    emit(facts) if as_json else say(f"saved {len(listed.nodes)} nodes to {file}")


def _read_phrase(name: str) -> str:
    if name == "-":
        return sys.stdin.read(PHRASE_BYTES_MAX)
    try:
        with Path(name).open(encoding="utf-8") as file:
            return file.read(PHRASE_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as cause:
        raise AtollError(
            Kind.NOT_FOUND, "read recovery phrase", f"{name} cannot be read", hint=str(cause)
        ) from cause


async def _recover(root: bytes, options: dict[str, Any], *, as_json: bool) -> "RecoveryReport":
    """Recover the phrase's first account, then every other that it leads to, into one report."""
    from atoll.cli.recover.wiring import write_report

    places = await _places(options["nodes"])
    report, catalogues = await _recover_one(root, places, options, None, as_json=as_json)
    for other in catalogues.items():
        more, _ = await _recover_one(root, places, options, other, as_json=as_json)
        report = report.joined(more)
    write_report(report, options)
    if options["bucket"] and not report.buckets:
        raise AtollError(
            Kind.BUCKET_NOT_FOUND,
            "recover",
            f"there is no bucket {options['bucket']!r} of this phrase on these nodes",
            hint="look what there is: the same without --bucket, with --dry-run",
        )
    return report


async def _recover_one(
    root: bytes,
    places: "list[NodePlace]",
    options: dict[str, Any],
    other: "tuple[bytes, Catalogue] | None",
    *,
    as_json: bool,
) -> "tuple[RecoveryReport, dict[bytes, Catalogue]]":
    """Recover one account; return the report, and the catalogues of others that were met."""
    from atoll.cli.recover.wiring import Recovery

    async with AsyncExitStack() as stack:
        recovery = await Recovery.open(stack, root, places, options, other)
        telling = asyncio.create_task(_progress(recovery, as_json=as_json))
        try:
            await recovery.search(options["bucket"])
            if options["into_coordinator"]:
                await recovery.take_over(
                    options["into_coordinator"], options["data"], options["bucket"]
                )
            if options["target"] and not options["dry_run"]:
                await recovery.restore(options["bucket"])
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        met = dict(recovery.finder.catalogues)
        met.pop(recovery.account, None)
        return recovery.finish(options["bucket"]), met


def _read_nodes(name: str) -> "list[NodePlace]":
    from atoll.client.recovery.model import decode_nodes

    try:
        with Path(name).open("rb") as file:
            return decode_nodes(file.read(NODES_BYTES_MAX)).nodes
    except OSError as cause:
        raise AtollError(
            Kind.NOT_FOUND, "read node list", f"{name} cannot be read", hint=str(cause)
        ) from cause


async def _places(names: tuple[str, ...]) -> "list[NodePlace]":
    """Read node lists and addresses; the same node named twice counts once."""
    found: dict[str, NodePlace] = {}
    for name in names:
        if name.startswith(("http://", "https://")):
            place = await _ask_place(name)
            found[place.node_id] = place
            continue
        found |= {place.node_id: place for place in _read_nodes(name)}
    if not found:
        raise AtollError(Kind.BAD_REQUEST, "read node list", "the list names no node")
    return list(found.values())


async def _ask_place(url: str) -> "NodePlace":
    """Return the place of a node named by its address; the node tells its id."""
    from atoll.cli.wire import address_of
    from atoll.client.recovery.model import NodePlace
    from atoll.runtime.transport import HttpPieceTransport

    address = address_of(url, "")
    transport = HttpPieceTransport()
    try:
        reply = await transport.call(address, "GET", "/v1/health", {}, b"", 10.0)
        facts = msgspec.json.decode(reply.body)
        node_id = bytes.fromhex(facts["node_id"]).hex()
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError) as cause:
        raise AtollError(Kind.BAD_REQUEST, "ask node", f"{url} is no storage node") from cause
    finally:
        await transport.close()
    return NodePlace(node_id, address.host, address.port, address.fingerprint.hex())


async def _progress(recovery: Any, *, as_json: bool) -> None:
    """Say every second how far it has come."""
    from atoll.cli.recover.wiring import Recovery

    assert isinstance(recovery, Recovery)
    while True:
        await asyncio.sleep(PROGRESS_S)
        figures = recovery.report.figures
        if as_json:
            emit({"progress": msgspec.to_builtins(figures)})
            continue
        line = f"{figures.stage}: {figures.nodes_answered}/{figures.nodes} nodes"
        if figures.stage in ("objects", "done"):
            done = figures.restored + figures.skipped
            line = f"objects: {done}/{figures.objects}, {show_bytes(figures.restored_bytes)}"
            line += f" of {show_bytes(figures.object_bytes)}"
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{line}", err=True, nl=False)
        else:
            say(line)


def _tell(report: "RecoveryReport", *, as_json: bool) -> None:
    figures = report.figures
    if as_json:
        emit({"report": msgspec.to_builtins(report)})
        return
    if sys.stderr.isatty():
        say()
    say(
        f"{figures.nodes_answered} of {figures.nodes} nodes answered; {figures.pieces} pieces of"
        f" {figures.segments} segments, {figures.manifests} manifests, {figures.buckets} buckets"
    )
    say(
        f"found {figures.objects} objects, {show_bytes(figures.object_bytes)}"
        f" ({figures.objects_from_capsules} in no manifest)"
    )
    say(
        f"restored {figures.restored}, {show_bytes(figures.restored_bytes)};"
        f" {figures.skipped} were there already; {figures.failed} failed"
    )
    for problem in report.problems[:PROBLEMS_SHOWN]:
        say(f"  {problem.what}: {problem.why}")
    if report.problems_total > PROBLEMS_SHOWN:
        say(f"  and {report.problems_total - PROBLEMS_SHOWN} more: see recover-report.json")
    for node in report.nodes:
        if node.lies:
            say(f"  node n-{node.place.node_id[:10]} lied about {node.lies} pieces")
