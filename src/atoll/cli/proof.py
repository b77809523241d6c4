"""``atoll proof``: see what nodes proved, take it home, check it with nothing else in hand."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.options import json_option
from atoll.cli.output import emit, paint, say, table
from atoll.cli.s3 import Door, door_options, parse_place
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import show_node

if TYPE_CHECKING:
    from atoll.client import AsyncClient
    from atoll.core.messages.proofs import ProofList, ProofResult, VerifierPlace
    from atoll.core.proofs.bundle import Bundle, Checked, ObjectPiece, ProofFile

FETCH_TIMEOUT_S = 20.0
NODES_MAX = 1_000
_TITLES = ("when", "slot", "node", "outcome", "samples", "failed", "pieces")


@click.group()
def proof() -> None:
    """See and check what nodes prove: that they hold what they should."""


# --- show ----------------------------------------------------------------------------------------


@proof.command()
@click.option("--node", default="", help="One node, by the beginning of its id.")
@click.option("--failed", is_flag=True, help="Only slots with failed samples.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--before", "before_slot", type=click.IntRange(0), default=0, help="Older than SLOT.")
@door_options
def show(
    node: str, failed: bool, limit: int, before_slot: int, as_json: bool, **door: object
) -> None:
    """Show the latest verdicts on nodes, newest first."""
    question = {
        "node": node,
        "failed_only": failed,
        "limit": limit,
        "before_slot": before_slot,
    }
    found = Door(**door).run(lambda client: _ask(client, question))  # type: ignore[arg-type]
    if as_json:
        emit(_facts(found))
        return
    rows: list[tuple[str, ...]] = [_TITLES]
    rows += [_row(result) for result in found.results]
    click.echo("\n".join(table(rows, right=frozenset((1, 4, 5)))))
    if not found.results:
        say("nothing was proven yet: heads are agreed first, then samples are drawn")
    click.echo("")
    for place in found.verifiers:
        state = paint("proven liar", fg="red") if place.key in found.excluded else place.operator
        click.echo(f"verifier {place.key.hex()[:16]}  {place.host}:{place.port}  {state}")
    if found.evidence:
        click.echo(f"evidence of lies: {len(found.evidence)} (with --json: all of it)")


async def _ask(client: "AsyncClient", question: dict[str, Any]) -> "ProofList":
    import msgspec

    from atoll.core.messages.proofs import ProofList

    return msgspec.convert(await client.ask("proofs", question), ProofList)


def _row(result: "ProofResult") -> tuple[str, ...]:
    colour = {"passed": "green", "failed": "red"}.get(result.outcome, "yellow")
    return (
        _when(result.slot * result.slot_ms),
        str(result.slot),
        show_node(result.node_id) if result.node_id else f"#{result.alias}",
        paint(result.outcome, fg=colour),
        str(result.samples),
        str(result.failed),
        " ".join(piece.hex()[:10] for piece in result.pieces[:4]),
    )


def _facts(found: "ProofList") -> dict[str, Any]:
    return {
        "slot": found.slot,
        "epoch": found.epoch,
        "coordinator_key": found.coordinator_key.hex(),
        "results": [
            {
                "slot": one.slot,
                "time_ms": one.slot * one.slot_ms,
                "node": one.node_id.hex(),
                "outcome": one.outcome,
                "samples": one.samples,
                "failed": one.failed,
                "pieces": [piece.hex() for piece in one.pieces],
                "verdict": one.verdict.hex(),
            }
            for one in found.results
        ],
        "verifiers": [
            {
                "key": place.key.hex(),
                "operator": place.operator,
                "host": place.host,
                "port": place.port,
                "excluded": place.key in found.excluded,
            }
            for place in found.verifiers
        ],
        "heads": [head.hex() for head in found.heads],
        "evidence": [body.hex() for body in found.evidence],
    }


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


# --- export --------------------------------------------------------------------------------------


@proof.command()
@click.option("--node", default="", help="A node, by the beginning of its id.")
@click.option(
    "--object", "place", default="", metavar="s3://BUCKET/KEY", help="Nodes of an object."
)
@click.option(
    "--slot", type=click.IntRange(0), default=0, help="Of this slot. Default: the latest."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to FILE.")
@door_options
def export(
    node: str, place: str, slot: int, output: Path | None, as_json: bool, **door: object
) -> None:
    """Write the latest proof of a node, or of all nodes of an object, as a file.

    `atoll proof verify FILE` checks it anywhere, without any server.
    """
    from atoll.core.proofs.bundle import ProofFile, write_proof_file

    if bool(node) == bool(place):
        raise AtollError(
            Kind.BAD_REQUEST,
            "export proof",
            "name either --node or --object",
            hint="`atoll status` lists nodes, `atoll ls` objects",
        )
    if output is None and sys.stdout.isatty():
        raise AtollError(
            Kind.BAD_REQUEST,
            "export proof",
            "a proof file is no text for a terminal",
            hint="redirect it (> FILE) or name one with --output FILE",
        )

    async def gather(client: "AsyncClient") -> ProofFile:
        if place:
            return await _of_object(client, place, slot)
        return ProofFile(f"node {node}", [await _of_node(client, node, slot)])

    content = Door(**door).run(gather)  # type: ignore[arg-type]
    data = write_proof_file(content)
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        output.write_bytes(data)
    nodes = len(content.bundles)
    if as_json and output is not None:
        emit({"file": str(output), "bytes": len(data), "nodes": nodes})
    else:
        say(f"{nodes} {'proof' if nodes == 1 else 'proofs'}, {len(data):,} bytes")


async def _of_node(client: "AsyncClient", node: str, slot: int) -> "Bundle":
    question: dict[str, Any] = {"node": node, "limit": 20}
    if slot:
        question |= {"before_slot": slot + 1}
    found = await _ask(client, question)
    for result in found.results:
        if result.verdict and (not slot or result.slot == slot):
            return await _bundle(found, result)
    raise AtollError(
        Kind.NOT_FOUND,
        "export proof",
        f"{node} proved nothing" + (f" in slot {slot}" if slot else " lately"),
        hint="`atoll proof show` lists what there is",
    )


async def _of_object(client: "AsyncClient", name: str, slot: int) -> "ProofFile":
    import msgspec

    from atoll.core.messages.policy import ObjectExplained
    from atoll.core.proofs.bundle import ObjectPiece, ProofFile

    target = parse_place(name)
    pieces: list[ObjectPiece] = []
    after = 0
    while True:
        question = {"bucket": target.bucket, "key": target.key, "after_segment": after}
        answer = await client.ask("object-explain", question)
        found: ObjectExplained = msgspec.convert(answer, ObjectExplained)
        for segment in found.segments:
            pieces += [
                ObjectPiece(segment.segment, one.index, one.node_id) for one in segment.places
            ]
        after += len(found.segments)
        if not found.segments or after >= found.segments_total:
            break
    nodes = sorted({piece.node_id for piece in pieces if piece.node_id})[:NODES_MAX]
    bundles = []
    for node_id in nodes:
        try:
            bundles.append(await _of_node(client, node_id.hex(), slot))
        except AtollError as error:
            say(f"{show_node(node_id)}: {error.message}")
    if not bundles:
        raise AtollError(
            Kind.NOT_FOUND, "export proof", "no node of this object proved anything yet"
        )
    return ProofFile(name, bundles, pieces)


async def _bundle(found: "ProofList", result: "ProofResult") -> "Bundle":
    """Fetch a proof from any verifier that keeps it, with the chains behind its beacon."""
    from atoll.core.proofs.bundle import Bundle
    from atoll.core.proofs.signed import decode_statement
    from atoll.core.proofs.verdicts import SignedVerdict, read_verdict
    from atoll.runtime.transport import HttpPieceTransport

    verdict = decode_statement(result.verdict, SignedVerdict)
    wanted = read_verdict(verdict.body).proof
    transport = HttpPieceTransport()
    try:
        for place in found.verifiers:
            body = await _fetch(transport, place, result)
            if body and _digest(body) == wanted:
                return Bundle(body, verdict, _chains(found))
    finally:
        await transport.close()
    raise AtollError(
        Kind.NOT_FOUND,
        "export proof",
        "no verifier keeps this proof any more, or none answers",
        hint="export a newer one: `atoll proof show` lists slots",
        about=show_node(result.node_id),
    )


async def _fetch(transport: Any, place: "VerifierPlace", result: "ProofResult") -> bytes:
    import msgspec

    from atoll.core.ports import Address

    address = Address(place.host, place.port, place.fingerprint)
    path = f"/v1/proofs/{result.node_id.hex()}/{result.slot}"
    try:
        reply = await transport.call(address, "GET", path, {}, b"", FETCH_TIMEOUT_S)
        if reply.status != 200:
            return b""
        _, _, body = msgspec.msgpack.decode(reply.body, type=tuple[bytes, Any, bytes])
    except (AtollError, msgspec.MsgspecError):
        return b""
    return bytes(body)


def _digest(body: bytes) -> bytes:
    from atoll.core.proofs.samples import SlotProof, proof_digest
    from atoll.core.proofs.signed import decode_statement

    try:
        return proof_digest(decode_statement(body, SlotProof))
    except AtollError:
        return b""


def _chains(found: "ProofList") -> Any:
    from atoll.core.proofs.signed import Signed, decode_statement

    return [decode_statement(body, Signed) for body in found.chains]


# --- verify --------------------------------------------------------------------------------------


@proof.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--coordinator", "key", metavar="KEY", help="Only that coordinator's word counts (hex)."
)
@json_option
def verify(file: Path, key: str | None, as_json: bool) -> None:
    """Check a proof FILE (- for standard input): every signature, draw, leaf and path.

    No server is asked. What the file cannot say is whose keys these are: compare the coordinator's
    key, and those of the verifiers, with what you know, or give --coordinator.
    """
    from atoll.core.proofs.bundle import check_bundle, read_proof_file

    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as cause:
        raise AtollError(
            Kind.NOT_FOUND, "verify proof", f"{file}: {cause.strerror}", hint="check the path"
        ) from cause
    pinned = None
    if key is not None:
        try:
            pinned = bytes.fromhex(key)
        except ValueError:
            pinned = b""
        if len(pinned) != 32:
            raise AtollError(Kind.BAD_REQUEST, "verify proof", "a key has 64 hex digits")
    content = read_proof_file(data)
    checked = [check_bundle(bundle, pinned) for bundle in content.bundles]
    proven = {one.node_id for one in checked if one.passed}
    if as_json:
        emit(_checked_facts(content.about, checked, content.pieces, proven))
    else:
        _tell(content.about, checked, content.pieces, proven)
    if any(not one.passed for one in checked):
        raise AtollError(
            Kind.DATA_LOST,
            "verify proof",
            "the file holds, and it shows that samples failed",
            hint="the pieces are named above",
        )


def _tell(
    about: str, checked: "list[Checked]", pieces: "list[ObjectPiece]", proven: set[bytes]
) -> None:
    click.echo(f"about        {about}")
    click.echo(f"coordinator  {checked[0].coordinator_key.hex()}")
    for one in checked:
        good = paint("passed", fg="green") if one.passed else paint("FAILED", fg="red")
        click.echo("")
        click.echo(f"node         {one.node_id.hex()}")
        click.echo(f"when         {_when(one.opened_ms)} UTC, slot {one.slot}, head of {one.epoch}")
        click.echo(f"holds        {one.pieces:,} pieces, {one.piece_bytes:,} bytes, by both words")
        click.echo(f"samples      {one.samples - len(one.failed)} of {one.samples} {good}")
        for failed in one.failed[:20]:
            name = failed.segment.hex() if failed.segment else "a piece that the node did not name"
            click.echo(f"             {failed.fault}: {name} piece {failed.index}")
        click.echo(f"beacon       {one.reveals} values, each of its verifier's chain")
        click.echo(f"signed by    {len(one.signers)} of {len(one.committee)}, {one.needed} needed")
        for signer in one.signers:
            click.echo(f"             {signer.hex()}")
    if pieces:
        held = sum(piece.node_id in proven for piece in pieces)
        click.echo("")
        click.echo(f"object       {held} of {len(pieces)} pieces lie on nodes whose samples passed")


def _checked_facts(
    about: str, checked: "list[Checked]", pieces: "list[ObjectPiece]", proven: set[bytes]
) -> dict[str, Any]:
    return {
        "about": about,
        "proofs": [
            {
                "coordinator_key": one.coordinator_key.hex(),
                "node_key": one.node_key.hex(),
                "node": one.node_id.hex(),
                "epoch": one.epoch,
                "slot": one.slot,
                "opened_ms": one.opened_ms,
                "pieces": one.pieces,
                "piece_bytes": one.piece_bytes,
                "samples": one.samples,
                "failed": [
                    {
                        "fault": failed.fault,
                        "segment": failed.segment.hex(),
                        "index": failed.index,
                        "position": failed.position,
                    }
                    for failed in one.failed
                ],
                "signers": [signer.hex() for signer in one.signers],
                "committee": [member.hex() for member in one.committee],
                "needed": one.needed,
            }
            for one in checked
        ],
        "object_pieces": len(pieces),
        "object_pieces_on_proven_nodes": sum(piece.node_id in proven for piece in pieces),
    }
