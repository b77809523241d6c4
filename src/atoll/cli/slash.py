"""``atoll slash``: which nodes lost data, and whether what shows it holds."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, say, table
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import show_node
from atoll.core.money import show_euro

if TYPE_CHECKING:
    from atoll.core.proofs.loss import Loss

PATH = "/v1/slashes"
TIMEOUT_S = 20.0
PROBLEMS_SHOWN = 3
_EVIDENCE = re.compile("[0-9a-f]{64}")
_KEY = re.compile("[0-9a-fA-F]{64}")
Function = TypeVar("Function", bound=Callable[..., Any])


def _door_options(function: Function) -> Function:
    options = (
        click.option(
            "--from", "place", metavar="URL", help="https://HOST:PORT#FINGERPRINT of a coordinator."
        ),
        data_option("Folder of the cloud. Default: that of `atoll up`."),
        json_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group()
def slash() -> None:
    """See which nodes lost data, what it cost them, and check what shows it."""


@slash.command("list")
@_door_options
def list_(place: str | None, data: Path | None, as_json: bool) -> None:
    """List nodes that lost data, newest first."""
    import msgspec

    from atoll.coordinator.slashing.model import SlashFacts

    body = asyncio.run(_get(place, data, ""))
    try:
        found = msgspec.json.decode(body, type=list[SlashFacts])
    except msgspec.MsgspecError as cause:
        raise AtollError(Kind.CORRUPT, "list slashes", f"no list of them: {cause}") from cause
    if as_json:
        emit([msgspec.to_builtins(one) for one in found])
        return
    rows = [["node", "since", "failed samples", "state", "epoch", "taken from held", "evidence"]]
    rows += [
        [
            show_node(bytes.fromhex(one.node)),
            datetime.fromtimestamp(one.opened_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"{one.failed} of {one.samples}",
            one.state,
            str(one.epoch or ""),
            show_euro(int(one.taken_pico)) if one.epoch else "",
            one.evidence,
        ]
        for one in found
    ]
    if found:
        click.echo("\n".join(table(rows)))
    else:
        say("no node was shown to have lost data")


@slash.command()
@click.argument("what", metavar="EVIDENCE|FILE")
@click.option(
    "--verifier",
    "verifiers",
    metavar="KEY",
    multiple=True,
    help="A verifier's key that you know; others do not count then. May be repeated.",
)
@click.option(
    "--epoch", type=click.IntRange(1), metavar="N", help="Check its slash in epoch N, too."
)
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Keep the file.")
@_door_options
def check(
    what: str,
    verifiers: tuple[str, ...],
    epoch: int | None,
    save: Path | None,
    place: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Check a loss file: by its hash at a coordinator's door, or a file that was kept.

    Every signature is checked again. Without --verifier it is the coordinator's word who its
    verifiers are.
    """
    from atoll.core.proofs.loss import check_loss

    known = {_key(one) for one in verifiers} or None
    if _EVIDENCE.fullmatch(what):
        body = asyncio.run(_get(place, data, f"/{what}"))
    else:
        body = _read(Path(what))
    loss = check_loss(body, known)
    if _EVIDENCE.fullmatch(what) and loss.evidence.hex() != what:
        raise AtollError(Kind.CORRUPT, "check loss", "another file came than was asked for")
    if save is not None:
        save.write_bytes(body)
    parts = asyncio.run(_settled(place, data, epoch, loss)) if epoch is not None else None
    if as_json:
        emit(_facts(loss) | ({} if parts is None else {"slash": parts}))
        return
    rows = [
        ["node", show_node(loss.node_id)],
        ["evidence", loss.evidence.hex()],
        ["coordinator", loss.coordinator_key.hex()],
        ["slots", f"{loss.first_slot} to {loss.last_slot}, {loss.verdicts} verdicts"],
        ["failed", f"{loss.failed} of {loss.samples} samples"],
        ["score", f"{loss.score / 1e5:.2f} (13.81 shows a loss)"],
        *[["signed by", key.hex()] for key in loss.signers],
    ]
    rows += [
        [name.removesuffix("_pico"), show_euro(int(one))] for name, one in (parts or {}).items()
    ]
    click.echo("\n".join(table(rows)))
    click.echo(paint("the loss is shown", fg="green"))
    if parts is not None:
        click.echo(paint(f"epoch {epoch} takes what follows from it", fg="green"))


async def _settled(
    place: str | None, data: Path | None, number: int, loss: "Loss"
) -> dict[str, str]:
    """Check the slash of an epoch; return who got what, pico-euro as text. Raises ``CORRUPT``."""
    from atoll.cli.epoch_open import open_source
    from atoll.economy.settlement.document import read, read_index
    from atoll.economy.settlement.slashes import check_slashes, parts_of

    async with AsyncExitStack() as stack:
        source = await open_source(place, data, stack)
        index = await source.index(number)
        chunks = [await source.chunk(one.sha256) for one in read_index(index).chunks]
    content = read(index, chunks).content
    problems = check_slashes(content)
    found = [one for one in content.inputs.slashes if one.evidence == loss.evidence]
    if not found:
        problems.append("it has no slash with this evidence")
    elif found[0].node != loss.node_id:
        problems.append("its slash is of another node")
    if problems:
        raise AtollError(
            Kind.CORRUPT,
            "check slash",
            f"epoch {number}: {'; '.join(problems[:PROBLEMS_SHOWN])}",
            hint="`atoll epoch recompute` checks the rest of the epoch",
        )
    taken, repair, customers, reporter, insurance = parts_of(content, found[0])
    return {
        "taken_pico": str(taken),
        "repair_pico": str(repair),
        "customers_pico": str(customers),
        "reporter_pico": str(reporter),
        "insurance_pico": str(insurance),
    }


def _facts(loss: "Loss") -> dict[str, object]:
    return {
        "node": loss.node_id.hex(),
        "evidence": loss.evidence.hex(),
        "coordinator_key": loss.coordinator_key.hex(),
        "first_slot": loss.first_slot,
        "last_slot": loss.last_slot,
        "verdicts": loss.verdicts,
        "samples": loss.samples,
        "failed": loss.failed,
        "score": loss.score,
        "signers": [key.hex() for key in loss.signers],
    }


def _key(text: str) -> bytes:
    if not _KEY.fullmatch(text):
        raise AtollError(
            Kind.BAD_REQUEST,
            "read key",
            f"{text[:80]!r} is no key of a verifier",
            hint="64 hexadecimal digits: `atoll verifier run` shows its own",
        )
    return bytes.fromhex(text)


def _read(path: Path) -> bytes:
    from atoll.core.proofs.loss import FILE_BYTES_MAX

    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except OSError as cause:
        raise AtollError(
            Kind.NOT_FOUND,
            "check loss",
            f"{path} cannot be read: {cause}",
            hint="give 64 hexadecimal digits (`atoll slash list`), or a file",
        ) from cause


async def _get(place: str | None, data: Path | None, path: str) -> bytes:
    """Return what is at a path below the door's slashes. Raises ``NOT_FOUND``."""
    from atoll.cli.places import cloud_folder, read_running
    from atoll.cli.wire import address_of
    from atoll.runtime.transport import HttpPieceTransport

    running = None if place else read_running(cloud_folder(data))
    if not place and running is None:
        raise AtollError(
            Kind.UNREACHABLE,
            "find slashes",
            f"no cloud runs in {cloud_folder(data)}",
            hint="name a coordinator with --from https://HOST:PORT#FINGERPRINT",
        )
    address = address_of(place or (running.coordinator if running else ""), "")
    async with AsyncExitStack() as stack:
        transport = HttpPieceTransport()
        stack.push_async_callback(transport.close)
        reply = await transport.call(address, "GET", f"{PATH}{path}", {}, b"", TIMEOUT_S)
        if reply.status != 200:
            raise AtollError(
                Kind.NOT_FOUND,
                "show slash",
                f"nothing is at {PATH}{path} there",
                hint="`atoll slash list` shows what there is",
            )
        return bytes(reply.body)
