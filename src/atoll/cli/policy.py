"""``atoll policy``: where the data of a bucket may lie."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from atoll.cli.output import emit, paint, say, table
from atoll.cli.s3 import Door, door_options, parse_place
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.policy import PolicyFit, PolicyList, PolicyVersion
from atoll.core.units import show_bytes

if TYPE_CHECKING:
    from atoll.client import AsyncClient

FILE_BYTES_MAX = 64 << 10


@click.group()
def policy() -> None:
    """Say where the data of a bucket may lie, and what that costs."""


def _text(text: str | None, file: Path | None) -> str:
    if file is not None:
        return file.read_text("utf-8", "replace")[:FILE_BYTES_MAX]
    return text or ""


def _bucket(text: str) -> str:
    return parse_place(text).bucket if "://" in text else text.rstrip("/")


_file = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read the policy from a file.",
)


@policy.command("set")
@click.argument("bucket", metavar="s3://BUCKET")
@click.argument("text", required=False)
@_file
@click.option("--clear", is_flag=True, help="Let the data lie anywhere.")
@click.option(
    "--expect", "expected", type=click.IntRange(0), help="Only if it is at this version now."
)
@click.option("--force", is_flag=True, help="Even if it cannot be kept now.")
@door_options
def set_policy(
    bucket: str,
    text: str | None,
    file: Path | None,
    clear: bool,
    expected: int | None,
    force: bool,
    as_json: bool,
    **door: object,
) -> None:
    """Set the policy of a bucket, as 'country in DE, AT and parent not in US'.

    From then on nothing new is placed elsewhere, and repair moves what lies elsewhere.
    """
    asked = _text(text, file)
    if bool(asked) == clear:
        raise AtollError(
            Kind.BAD_REQUEST,
            "set policy",
            "say a policy, or --clear" if not clear else "--clear stands alone",
            hint="as: atoll policy set s3://b 'country in EU and tier >= pro'",
        )
    question = {
        "bucket": _bucket(bucket),
        "text": asked,
        "expected_version": -1 if expected is None else expected,
        "force": force,
    }
    answer = Door(**door).run(lambda client: client.ask("policy-set", question))  # type: ignore[arg-type]
    found = msgspec.convert(answer, PolicyVersion, strict=False)
    if as_json:
        emit(_facts(found))
        return
    click.echo(found.text)
    say(f"version {found.version} of {_bucket(bucket)}; what lies elsewhere is moved by repair")


def _facts(version: PolicyVersion) -> dict[str, object]:
    return {
        "policy": version.policy,
        "version": version.version,
        "text": version.text,
        "created_ms": version.created_ms,
    }


@policy.command()
@click.argument("bucket", metavar="s3://BUCKET")
@click.option("--history", is_flag=True, help="All versions, the newest first.")
@door_options
def show(bucket: str, history: bool, as_json: bool, **door: object) -> None:
    """Show the policy of a bucket."""
    question = {"bucket": _bucket(bucket)}
    answer = Door(**door).run(lambda client: client.ask("policy-show", question))  # type: ignore[arg-type]
    versions = msgspec.convert(answer, PolicyList, strict=False).versions
    if as_json:
        for one in versions if history else versions[:1]:
            emit(_facts(one))
        return
    if not versions:
        click.echo("anywhere")
    for one in versions if history else versions[:1]:
        click.echo(f"{one.version}  {one.text}" if history else one.text)


@policy.command()
@click.argument("bucket", metavar="[s3://BUCKET]", required=False)
@click.argument("text", required=False)
@_file
@door_options
def check(
    bucket: str | None, text: str | None, file: Path | None, as_json: bool, **door: object
) -> None:
    """Try a policy on the nodes of now: how many it admits, and which part costs how many.

    With a bucket alone its own policy is tried. Nothing is changed.
    """
    if bucket is not None and text is None and "://" not in bucket:
        bucket, text = None, bucket
    question = {"bucket": "" if bucket is None else _bucket(bucket), "text": _text(text, file)}

    async def ask(client: "AsyncClient") -> PolicyFit:
        answer = await client.ask("policy-check", question)
        return msgspec.convert(answer, PolicyFit, strict=False)

    fit = Door(**door).run(ask)  # type: ignore[arg-type]
    if as_json:
        emit(msgspec.to_builtins(fit))
    else:
        _tell(fit)
    if fit.objections or not all(one.fits for one in fit.schemes):
        raise SystemExit(1)


def _tell(fit: PolicyFit) -> None:
    click.echo(fit.text)
    click.echo(
        f"\n{fit.nodes_admitted} of {fit.nodes_alive} nodes alive are admitted; they make "
        f"{fit.independent} independent operators"
    )
    for one in fit.refusals:
        click.echo(f"  {one.nodes:>5}  kept out by `{one.part}`")
    rows = [("segment of", "scheme", "needs", "full at", "")]
    rows += [
        (
            show_bytes(one.plain_bytes),
            one.scheme,
            str(one.needed),
            str(one.full),
            paint("fits", fg="green")
            if one.fits
            else paint(f"{one.needed - one.found} missing", fg="red"),
        )
        for one in fit.schemes
    ]
    click.echo("\n" + "\n".join(table(rows, right=frozenset((0, 2, 3)))))
    if fit.networks_crowded:
        click.echo(
            "\nsoft cap exceeded: more than a tenth of a segment in "
            + ", ".join(fit.networks_crowded)
        )
    for words in fit.objections:
        click.echo(paint(f"\nagainst it: {words}", fg="red"))
    for words in fit.stated:
        click.echo(f"\nonly stated: {words}")
