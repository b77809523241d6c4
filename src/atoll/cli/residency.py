"""``atoll residency``: signed lists of where data lies, and their check without anybody's help."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
import msgspec

from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, say
from atoll.cli.places import COORDINATOR_SEED, GATEWAY_SEED, cloud_folder
from atoll.cli.s3 import Door, door_options, parse_place
from atoll.core.attestation import LINE_BYTES_MAX
from atoll.core.attestation_check import Trusted, Verified, verify
from atoll.core.certificates import Issuer
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import PUBLIC_KEY_BYTES

if TYPE_CHECKING:
    from atoll.client import AsyncClient


@click.group()
def residency() -> None:
    """Prove where data lies, as far as that can be proven."""


@residency.command()
@click.argument("bucket", metavar="s3://BUCKET")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it there.")
@click.option("--hash-keys", is_flag=True, help="Show SHA-256 of objects' keys, not the keys.")
@door_options
def attest(bucket: str, out: Path | None, hash_keys: bool, as_json: bool, **door: object) -> None:
    """Write a signed list: each segment, its pieces, where they lie, how well that is known.

    The coordinator signs page by page, so that buckets of any size can be attested; the gateway
    signs the end. `atoll residency verify` checks it, wherever the file is taken.
    """
    name = parse_place(bucket).bucket
    final = Door(**door).run(lambda client: _attest(client, name, out, hash_keys))  # type: ignore[arg-type]
    seal = msgspec.json.decode(final)["seal"]
    if as_json and out is not None:
        emit({"file": str(out), "verdict": seal["verdict"], "sums": seal["sums"]})
    else:
        sums = seal["sums"]
        say(
            f"{sums['objects']} objects, {sums['segments']} segments, {sums['pieces']} pieces, "
            f"{sums['outside']} outside: {seal['verdict']}"
        )
        if out is not None:
            say(f"check it: atoll residency verify {out}")


async def _attest(client: "AsyncClient", bucket: str, out: Path | None, hash_keys: bool) -> str:
    """Write the pages as they come; the file gets its name when it is whole."""
    part = None if out is None else out.with_name(f"{out.name}.part")
    seal, last = "", False
    with _writing(part) as file:
        while not last:
            question = {"bucket": bucket, "seal": seal, "hash_keys": hash_keys}
            page = await client.ask("residency-attest", question)
            file.write(page["lines"].encode())
            seal, last = page["seal"], page["last"]
    if part is not None and out is not None:
        part.replace(out)
    return seal


def _writing(path: Path | None) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(sys.stdout.buffer) if path is None else path.open("wb")


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise AtollError(
            Kind.BAD_REQUEST,
            "read key",
            f"{text!r} is no key",
            hint="a key has 64 hex digits; `atoll coordinator show` prints a coordinator's",
        )
    return key


@residency.command("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--trust", multiple=True, metavar="KEY", help="Key of a coordinator you trust.")
@click.option("--trust-gateway", multiple=True, metavar="KEY", help="Key of a gateway you trust.")
@click.option(
    "--issuer",
    multiple=True,
    metavar="KEY",
    help="Key of an issuer of certificates you trust; without any: those the coordinator trusts.",
)
@data_option("Folder whose coordinator and gateway are trusted, where no key is given.")
@json_option
def verify_file(
    file: Path,
    trust: tuple[str, ...],
    trust_gateway: tuple[str, ...],
    issuer: tuple[str, ...],
    data: Path | None,
    as_json: bool,
) -> None:
    """Check a list offline: signatures, sums, and every claim against its evidence.

    Ends with 0 where all of it holds and all data lies within the policy, with 1 where it holds
    and data lies outside, with 65 where it does not hold.
    """
    coordinators = frozenset(map(_key, trust)) or _local(data, COORDINATOR_SEED)
    gateways = frozenset(map(_key, trust_gateway))
    if not trust and not gateways:
        gateways = _local(data, GATEWAY_SEED)
    issuers = {key: Issuer(key, "an issuer you named") for key in map(_key, issuer)} or None
    found = verify(_lines(file), Trusted(coordinators, gateways, issuers))
    if as_json:
        emit(_facts(found))
    else:
        _tell(found, own_issuers=issuers is not None)
    if found.verdict == "outside":
        raise SystemExit(1)


def _local(data: Path | None, name: str) -> frozenset[bytes]:
    """Return the key of a party of the cloud in a folder. Raises ``BAD_REQUEST`` for none."""
    from atoll.cli import wire
    from atoll.runtime.folder import SECRETS

    folder = cloud_folder(data)
    if not (folder / SECRETS / name).exists():
        if name == GATEWAY_SEED:
            return frozenset()
        raise AtollError(
            Kind.BAD_REQUEST,
            "verify attestation",
            "no coordinator is named whose signature shall count",
            hint="give its key with --trust; `atoll coordinator show` prints it",
        )
    return frozenset((wire.identity_of(folder, name).public_key,))


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while line := opened.readline(LINE_BYTES_MAX + 2):
            yield line.removesuffix(b"\n")


def _facts(found: Verified) -> dict[str, object]:
    head = found.head
    return {
        "holds": True,
        "verdict": found.verdict,
        "bucket": head.bucket,
        "policy": head.policy_text,
        "policy_version": head.policy_version,
        "time_ms": found.time_ms,
        "pages": found.pages,
        "root": found.root,
        "witnessed": found.witnessed,
        "sums": msgspec.to_builtins(found.sums),
        "outside": list(found.outside),
        "objections": head.objections,
        "stated": head.stated,
        "coordinator": {
            "key": found.coordinator.public_key.hex(),
            "operator": found.coordinator.operator,
            "country": found.coordinator.country,
        },
    }


def _tell(found: Verified, *, own_issuers: bool) -> None:
    head, sums = found.head, found.sums
    time = datetime.fromtimestamp(found.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    good = found.verdict == "within"
    colour = "green" if good else "yellow" if found.verdict == "no policy" else "red"
    words = {
        "within": "all pieces lie within the policy",
        "outside": f"{sums.outside} pieces or a party lie outside the policy",
        "no policy": "the bucket has no policy: the list says where its data lies",
    }[found.verdict]
    click.echo(f"{head.bucket}: {paint(words, fg=colour)}, as of {time}")
    click.echo(f"policy       {head.policy_text} (version {head.policy_version})")
    click.echo(
        f"counted      {sums.objects} objects, {sums.segments} segments, {sums.pieces} pieces"
    )
    click.echo(
        f"evidence     certificate {sums.certificate}, address {sums.address}, declared only "
        f"{sums.declared}, disputed {sums.disputed}, unknown {sums.unknown}"
    )
    who = found.coordinator
    place = f" ({who.operator or 'operator not said'}, {who.country or 'country not said'})"
    click.echo(f"coordinator  {who.public_key.hex()[:16]}…{place}")
    click.echo(
        f"gateway      {'signed as well' if found.witnessed else 'no signature that counts'}"
    )
    if sums.certificate and not own_issuers:
        click.echo("issuers      those the coordinator trusts; --issuer KEY counts only yours")
    for line in found.outside:
        click.echo(paint(f"outside      {line}", fg="red"))
    for line in head.objections:
        click.echo(paint(f"against it   {line}", fg="red"))
    for line in head.stated:
        click.echo(f"only stated  {line}")
    click.echo("not proven   that the list is complete, and that nodes told the truth")
