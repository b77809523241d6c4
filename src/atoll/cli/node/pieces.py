"""``atoll node pieces``: what a node is held to, what it holds, and why the two may differ."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from atoll.cli.node.coordinator import coordinator_of
from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, table
from atoll.cli.places import (
    NODE_SEED,
    cloud_folder,
    read_running,
)
from atoll.core.ids import show_node
from atoll.core.messages import Message
from atoll.core.messages.sets import AskSet, ListNodeSets, NodeSet, NodeSets, Tally
from atoll.core.units import show_bytes, show_seconds
from atoll.runtime.config import load_here
from atoll.runtime.folder import default_folder

if TYPE_CHECKING:
    pass

ASK_PATH = "/v1/node/ask"
TIMEOUT_S = 60.0
Answer = TypeVar("Answer", bound=Message)
CAUSES = ("young", "kept", "retained", "surplus")
"""Why a node holds what is not counted, as a report names it."""
_CAUSE_WORDS = {
    "young": "uploads under way",
    "kept": "kept for a repair",
    "retained": "locked by their owners",
    "surplus": "not yet in the trash",
}


@click.command()
@data_option("A node's folder, or the cloud's. Default: XDG data folders.")
@json_option
def pieces(data: Path | None, as_json: bool) -> None:
    """Show what nodes are held to and what they hold, to the byte, and why the two differ.

    In a node's folder (--data) it asks with that node's own key and shows that node; in a cloud's
    folder it shows all nodes.
    """
    folder = (data or default_folder("node")).expanduser().absolute()
    if (folder / "secrets" / NODE_SEED).exists():
        found = [asyncio.run(_ask_as_node(folder))]
    else:
        found = asyncio.run(ask_as_owner(cloud_folder(data)))
    if as_json:
        for one in found:
            emit(plain(one))
    else:
        click.echo("\n".join(lines_of(found, int(time.time() * 1000))))


def plain(one: NodeSet) -> dict[str, object]:
    """Return a node's set as JSON objects: ids in hex, the difference by cause."""
    facts: dict[str, object] = msgspec.to_builtins(one, builtin_types=(bytes,))
    facts.pop("type", None)
    facts["node_id"] = one.node_id.hex()
    facts["agreed"] = one.agreed
    report = one.report
    if report is not None:
        shown = msgspec.to_builtins(report, builtin_types=(bytes,))
        shown.pop("missing_pieces")
        facts["report"] = _without_types(shown)
    return {name: _without_types(value) for name, value in facts.items()}


def _without_types(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {name: _without_types(inner) for name, inner in value.items() if name != "type"}


# --- whom to ask ----------------------------------------------------------------------------------


async def _ask_as_node(folder: Path) -> NodeSet:
    from atoll.cli import wire
    from atoll.core.identity import RequestProof, prove_request
    from atoll.core.messages import Failure, decode, encode
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.transport import HttpPieceTransport

    running = read_running(folder.parent.parent)
    if running is not None:
        address = wire.address_of(running.coordinator, "")
    else:
        settings = load_here(folder).config.node
        address = wire.address_of(settings.coordinator.split()[0], settings.fingerprint)
    identity = wire.identity_of(folder, NODE_SEED)
    transport = HttpPieceTransport()
    try:
        body = encode(AskSet())
        proof = prove_request(identity, "POST", ASK_PATH, body, SystemClock().now_ms())
        headers = {RequestProof.HEADER: proof.to_header(), "content-type": "application/msgpack"}
        reply = await transport.call(address, "POST", ASK_PATH, headers, body, TIMEOUT_S)
    finally:
        await transport.close()
    if reply.status >= 300:
        failure: Failure = decode(reply.body, Failure)
        raise failure.to_error()
    found: NodeSet = decode(reply.body, NodeSet)
    return found


async def ask_as_owner(folder: Path) -> list[NodeSet]:
    """Return the sets of all nodes of the cloud in a folder. Raises ``UNREACHABLE``."""
    from atoll.client.remote import RemoteControl
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.transport import HttpPieceTransport

    address, identity = coordinator_of(folder, "ask sets")
    transport = HttpPieceTransport()
    try:
        control = RemoteControl(transport, [address], identity, SystemClock())
        found: list[NodeSet] = []
        more = True
        while more:
            after = found[-1].alias if found else 0
            page = await control.ask(ListNodeSets(after=after), NodeSets)
            found += page.nodes
            more = page.more and bool(page.nodes)
        return found
    finally:
        await transport.close()


# --- in words -------------------------------------------------------------------------------------


def lines_of(found: Sequence[NodeSet], now_ms: int) -> list[str]:
    """Return nodes' sets as a table, and a line per cause where they differ."""
    titles = ("NODE", "ID", "STATE", "COUNTED", "BYTES", "NODE HOLDS", "BYTES", "COMPARED", "")
    rows = [tuple(paint(title, dim=True) for title in titles)]
    notes: list[str] = []
    for one in found:
        verdict, notes_of = _verdict(one)
        held = one.report.held if one.report is not None else None
        rows.append(
            (
                str(one.alias),
                show_node(one.node_id),
                one.state,
                f"{one.counted.pieces:,}",
                f"{one.counted.piece_bytes:,}",
                "" if held is None else f"{held.pieces:,}",
                "" if held is None else f"{held.piece_bytes:,}",
                _compared(one, now_ms),
                verdict,
            )
        )
        notes += notes_of
    total = Tally(
        pieces=sum(one.counted.pieces for one in found),
        piece_bytes=sum(one.counted.piece_bytes for one in found),
    )
    lines = table(rows, right=frozenset({0, 3, 4, 5, 6, 7}))
    sum_line = f"{total.pieces:,} pieces, {show_bytes(total.piece_bytes)}, on {len(found)} nodes"
    return [*lines, "", paint(sum_line, dim=True), *notes]


def _compared(one: NodeSet, now_ms: int) -> str:
    if not one.compared_ms:
        return "never"
    return f"{show_seconds(max(0, now_ms - one.compared_ms) / 1000)} ago"


def _verdict(one: NodeSet) -> tuple[str, list[str]]:
    report = one.report
    if report is None:
        return paint("not compared yet", dim=True), []
    notes = []
    for cause in CAUSES:
        tally: Tally = getattr(report, cause)
        if tally.pieces:
            weight = f"{tally.pieces:,} pieces, {tally.piece_bytes:,} bytes"
            notes.append(f"node {one.alias} holds {weight} more: {_CAUSE_WORDS[cause]}")
    if report.missing:
        notes.append(f"node {one.alias} does not have {report.missing:,} pieces: being rebuilt")
    if report.settling:
        notes.append(f"node {one.alias}: {report.settling:,} pieces deleted a moment ago")
    if one.deleting:
        notes.append(f"node {one.alias}: {one.deleting:,} deletions on their way")
    if one.agreed:
        return paint("agreed to the byte", fg="green"), notes
    apart = abs(report.counted.piece_bytes - one.told.piece_bytes)
    return paint(f"{apart:,} bytes apart", fg="yellow"), notes
