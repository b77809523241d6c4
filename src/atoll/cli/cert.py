"""``atoll cert``: certificates about parties; who may issue them, what was taken back."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from atoll.cli.carried import FILE_BYTES_MAX, FOLDER, SUFFIX
from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, say, table
from atoll.cli.places import COORDINATOR_SEED, GATEWAY_SEED, NODE_SEED
from atoll.cli.s3 import Door, door_options
from atoll.core.certificates import (
    KINDS,
    PARTY,
    REASON_CHARACTERS_MAX,
    Certificate,
    Issuer,
    Revocation,
    RevocationList,
    check_statement,
    from_text,
    issue,
    read_certificate,
    read_revocations,
    sign_revocations,
    to_text,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import NODE_ID_BYTES, PUBLIC_KEY_BYTES, SHORT_ID_BYTES, node_id_of
from atoll.core.messages.policy import TrustInfo
from atoll.runtime.config import load_here
from atoll.runtime.folder import SECRETS, default_folder, open_folder, write_file

if TYPE_CHECKING:
    from atoll.core.identity import Identity

ISSUER_SEED = "issuer.seed"
ISSUED = "issued"
REVOCATIONS = "revocations.atoll"
DAY_MS = 24 * 3600 * 1000
_SEEDS = (NODE_SEED, COORDINATOR_SEED, GATEWAY_SEED, ISSUER_SEED)
_issuer_data = data_option("The issuer's folder, made at first use. Default: an XDG data folder.")


@click.group()
def cert() -> None:
    """Issue, revoke and trust certificates about nodes and operators."""


def _issuer(data: Path | None) -> "tuple[Path, Identity]":
    from atoll.cli import wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.rng import SystemRng

    path = (data or default_folder("issuer")).expanduser().absolute()
    folder = open_folder(path, "issuer", SystemClock().now_ms())
    folder.secret(ISSUER_SEED, lambda: SystemRng().bytes(32))
    folder.close()
    return path, wire.identity_of(path, ISSUER_SEED)


def _hex(text: str, length: int, what: str) -> bytes:
    try:
        found = bytes.fromhex(text.removeprefix("n-"))
    except ValueError:
        found = b""
    if len(found) != length:
        raise AtollError(
            Kind.BAD_REQUEST, "read certificate", f"{text!r} is no {what}",
            hint=f"it has {2 * length} hex digits; `atoll cert show` prints them",
        )  # fmt: skip
    return found


def _party(text: str) -> bytes:
    """Return the id of a party: given in hex, or that of the key in a data folder."""
    from atoll.cli import wire

    folder = Path(text).expanduser()
    for name in _SEEDS:
        if (folder / SECRETS / name).exists():
            return wire.identity_of(folder, name).node_id
    return _hex(text, NODE_ID_BYTES, "id of a party, nor a data folder")


@cert.command("issue")
@click.argument("party", metavar="ID_OR_FOLDER")
@click.option("--say", "statements", multiple=True, metavar="STATEMENT", help="What is certified.")
@click.option("--days", type=click.IntRange(1, 3660), default=365, help="How long it holds.")
@click.option("--kind", type=click.Choice(KINDS), default=PARTY, help="About whom.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it there.")
@_issuer_data
@json_option
def issue_one(
    party: str,
    statements: tuple[str, ...],
    days: int,
    kind: str,
    out: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Certify a party: a node, gateway or coordinator, by its id or its data folder.

    STATEMENT is country:DE, parent:DE, region:eu-central, tier:dc, or a label of your own as
    ISO27001. A certificate of kind operator is about an operator's key; it counts for the nodes
    that this key has certified in turn.
    """
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.rng import SystemRng

    for statement in statements:
        check_statement(statement)
    path, identity = _issuer(data)
    now_ms = SystemClock().now_ms()
    made = Certificate(
        certificate=SystemRng().bytes(SHORT_ID_BYTES),
        issuer=identity.public_key,
        kind=kind,
        subject=_party(party),
        statements=list(statements),
        not_before_ms=now_ms - DAY_MS,
        not_after_ms=now_ms + days * DAY_MS,
    )
    text = to_text(issue(identity, made))
    (path / ISSUED).mkdir(mode=0o700, exist_ok=True)
    write_file(path / ISSUED / f"{made.certificate.hex()}{SUFFIX}", text.encode())
    if out is not None:
        out.write_text(text)
    if as_json:
        emit(_facts(made) | {"text": text})
        return
    if out is None:
        click.echo(text, nl=False)
    say(f"certificate {made.certificate.hex()}; the node takes it in: atoll cert install FILE")


def _facts(one: Certificate) -> dict[str, object]:
    return {
        "certificate": one.certificate.hex(),
        "issuer": one.issuer.hex(),
        "kind": one.kind,
        "subject": one.subject.hex(),
        "statements": one.statements,
        "not_before_ms": one.not_before_ms,
        "not_after_ms": one.not_after_ms,
    }


@cert.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@data_option("Data folder of the node that carries it. Default: an XDG data folder.")
def install(file: Path, data: Path | None) -> None:
    """Let a node carry a certificate; it shows it from its next start on."""
    path = (data or default_folder("node")).expanduser().absolute()
    raws = from_text(file.read_text("ascii", "replace")[:FILE_BYTES_MAX])
    (path / FOLDER).mkdir(mode=0o700, exist_ok=True)
    for raw in raws:
        one = read_certificate(raw)
        place = path / FOLDER / f"{one.certificate.hex()}{SUFFIX}"
        write_file(place, to_text(raw).encode())
        say(f"{place}: {', '.join(one.statements)}; restart the node")


@cert.command()
@click.argument("certificate", metavar="ID")
@click.option("--reason", default="", help="Why, in a few words.")
@_issuer_data
@json_option
def revoke(certificate: str, reason: str, data: Path | None, as_json: bool) -> None:
    """Take a certificate back: it is added to the issuer's signed list."""
    from atoll.runtime.clock import SystemClock

    path, identity = _issuer(data)
    gone = _hex(certificate, SHORT_ID_BYTES, "id of a certificate")
    now_ms = SystemClock().now_ms()
    before = RevocationList(issuer=identity.public_key, sequence=0, issued_ms=0, revoked=[])
    if (path / REVOCATIONS).exists():
        before = read_revocations(from_text((path / REVOCATIONS).read_text())[0])
    kept = [
        one for one in before.revoked if one.certificate != gone and _in_force(path, one, now_ms)
    ]
    revoked = [
        *kept,
        Revocation(certificate=gone, since_ms=now_ms, reason=reason[:REASON_CHARACTERS_MAX]),
    ]
    made = RevocationList(
        issuer=identity.public_key,
        sequence=before.sequence + 1,
        issued_ms=now_ms,
        revoked=revoked,
    )
    write_file(path / REVOCATIONS, to_text(sign_revocations(identity, made)).encode())
    if as_json:
        emit({"file": str(path / REVOCATIONS), "sequence": made.sequence, "revoked": len(revoked)})
    else:
        say(f"revoked; hand the list in: atoll cert publish {path / REVOCATIONS}")


def _in_force(path: Path, one: Revocation, now_ms: int) -> bool:
    """Say whether a revoked certificate would still be valid: only then it must stay listed."""
    file = path / ISSUED / f"{one.certificate.hex()}{SUFFIX}"
    if not file.exists():
        return True
    return read_certificate(from_text(file.read_text())[0]).not_after_ms > now_ms


@cert.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@door_options
def publish(file: Path, as_json: bool, **door: object) -> None:
    """Hand an issuer's revocation list in at a coordinator, through its gateway."""
    import base64

    (raw,) = from_text(file.read_text())
    read_revocations(raw)
    question = {"revocations": base64.b64encode(raw).decode()}
    answer = Door(**door).run(lambda client: client.ask("revocations-publish", question))  # type: ignore[arg-type]
    if as_json:
        emit({"sequence": answer["sequence"], "revoked": answer["revoked"]})
    else:
        say(f"list {answer['sequence']} counts, with {answer['revoked']} certificates taken back")


@cert.command()
@click.argument("key")
@click.option("--name", required=True, help="What this issuer is called.")
@click.option(
    "--for",
    "statements",
    multiple=True,
    metavar="STATEMENT",
    help="What its word counts for, as country:* or ISO27001. Default: anything.",
)
@data_option("The coordinator's data folder. Default: an XDG data folder.")
@config_option
def trust(
    key: str,
    name: str,
    statements: tuple[str, ...],
    data: Path | None,
    config_file: Path | None,
) -> None:
    """Let a coordinator believe an issuer, by his KEY; it does so within a second."""
    issuer = Issuer(_hex(key, PUBLIC_KEY_BYTES, "key"), name, statements)
    _at_coordinator(data, config_file, issuer, None)
    say(f"{name} is believed about {', '.join(statements) or 'anything'}")


@cert.command()
@click.argument("key")
@data_option("The coordinator's data folder. Default: an XDG data folder.")
@config_option
def distrust(key: str, data: Path | None, config_file: Path | None) -> None:
    """Let a coordinator believe an issuer no longer."""
    _at_coordinator(data, config_file, None, _hex(key, PUBLIC_KEY_BYTES, "key"))
    say("not believed any more; pieces that lie where they did because of him will move")


def _at_coordinator(
    data: Path | None, config_file: Path | None, issuer: Issuer | None, gone: bytes | None
) -> None:
    from atoll.cli import wire
    from atoll.cli.coordinator import require_coordinator
    from atoll.runtime.transport import HttpPieceTransport

    path = data or default_folder("coordinator")
    require_coordinator(path)
    config = load_here(path, config_file).config

    async def work() -> None:
        async with wire.coordinator_of(path, config, HttpPieceTransport(), loops=False) as found:
            if issuer is not None:
                await found.policies.trust(issuer)
            if gone is not None and not await found.policies.distrust(gone):
                raise AtollError(
                    Kind.NOT_FOUND, "distrust issuer", "nobody by this key was trusted"
                )

    asyncio.run(work())


@cert.command()
@click.argument("what", metavar="[FILE_OR_FOLDER]", required=False)
@door_options
def show(what: str | None, as_json: bool, **door: object) -> None:
    """Show a certificate, the id of a folder's party, or whom the coordinator believes."""
    if what is None:
        _show_trust(as_json, door)
    elif Path(what).expanduser().is_dir():
        _show_folder(Path(what).expanduser(), as_json)
    else:
        _show_file(Path(what).expanduser(), as_json)


def _show_trust(as_json: bool, door: dict[str, object]) -> None:
    answer = Door(**door).run(lambda client: client.ask("trust"))  # type: ignore[arg-type]
    found = msgspec.convert(answer, TrustInfo, strict=False)
    if as_json:
        for one in found.issuers:
            emit(msgspec.to_builtins(one, builtin_types=(bytes,)) | {"key": one.key.hex()})
        return
    if not found.issuers:
        say("nobody is believed: locations count as declared")
    rows = [
        (one.name, one.key.hex(), ", ".join(one.statements) or "anything", f"{one.revoked} revoked")
        for one in found.issuers
    ]
    for line in table(rows):
        click.echo(line)
    say(f"{found.addresses} prefixes in the table of addresses")


def _show_folder(folder: Path, as_json: bool) -> None:
    from atoll.cli import wire

    for name in _SEEDS:
        if (folder / SECRETS / name).exists():
            key = wire.identity_of(folder, name).public_key
            party = name.removesuffix(".seed")
            if as_json:
                emit({"party": party, "id": node_id_of(key).hex(), "key": key.hex()})
            else:
                click.echo(f"{party:<12} id   {node_id_of(key).hex()}\n{'':<12} key  {key.hex()}")


def _show_file(file: Path, as_json: bool) -> None:
    for raw in from_text(file.read_text("ascii", "replace")[:FILE_BYTES_MAX]):
        one = read_certificate(raw)
        if as_json:
            emit(_facts(one))
            continue
        rows = [
            ("certificate", one.certificate.hex()),
            ("about", f"{one.kind} {one.subject.hex()}"),
            ("says", ", ".join(one.statements)),
            ("issuer", one.issuer.hex()),
            ("holds", f"{_day(one.not_before_ms)} to {_day(one.not_after_ms)}"),
        ]
        click.echo("\n".join(table(rows)))


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")
