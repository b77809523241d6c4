"""``atoll verifier``: run one, see its key and what it judged."""

from pathlib import Path

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit
from atoll.cli.places import VERIFIER_SEED
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import load_here
from atoll.runtime.folder import default_folder

_data = data_option("Its data folder. Default: an XDG data folder.")


@click.group()
def verifier() -> None:
    """Run a verifier: it checks what nodes prove, and signs what it saw."""


@verifier.command()
@_data
@click.option("--coordinator", metavar="URL", help="https://HOST:PORT#FINGERPRINT")
@click.option("--fingerprint", metavar="HEX", help="SHA-256 of the coordinator's certificate.")
@click.option("--host", help="Address to listen on; beyond loopback always with TLS.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on.")
@click.option("--advertise", metavar="HOST[:PORT]", help="Where others reach it.")
@click.option("--operator", help="Who runs it.")
@config_option
def run(data: Path | None, config_file: Path | None, **given: object) -> None:
    """Run a verifier until it is asked to stop.

    Its verdicts count once the coordinator trusts its key: `atoll coordinator trust-verifier KEY`.
    """
    from atoll.cli import wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder

    path = data or default_folder("verifier")
    config = load_here(path, config_file, {f"verifier.{n}": v for n, v in given.items()}).config
    folder = open_folder(path, "verifier", SystemClock().now_ms())
    wire.run(config, wire.run_verifier(folder, config))


@verifier.command()
@_data
@config_option
@json_option
def show(data: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Show a verifier's key and address, and, while it runs, what it judged."""
    from atoll.cli import wire
    from atoll.cli.settling import verifier_signer
    from atoll.economy.chain.signer import checksum_address
    from atoll.runtime.folder import read_marker

    path = data or default_folder("verifier")
    marker = read_marker(path)
    if marker is None or marker.kind != "verifier":
        raise AtollError(
            Kind.WRONG_FOLDER,
            "show verifier",
            f"there is no verifier in {path}",
            hint="name its folder with --data, or start one with `atoll verifier run`",
        )
    settings = load_here(path, config_file).config.verifier
    host, port = wire.advertised(settings)
    identity = wire.identity_of(path, VERIFIER_SEED)
    signer = verifier_signer(identity)
    facts: dict[str, object] = {
        "key": identity.public_key.hex(),
        "account": checksum_address(signer.address) if signer is not None else "",
        "host": host,
        "port": port,
        "operator": settings.operator,
        "running": _ask(path, host, port),
    }
    if as_json:
        emit(facts)
        return
    running = facts.pop("running")
    for name, value in facts.items():
        click.echo(f"{name:10} {value}")
    if isinstance(running, dict):
        click.echo(f"{'judged':10} {running['proofs']} proofs, {running['failed']} with failures")
        click.echo(f"{'slot':10} {running['slot']}")
        click.echo(f"{'epochs':10} {running['epochs_signed']} signed")
        for one in running["epochs_refused"]:
            click.echo(f"{'refused':10} {one}")
        click.echo(f"{'liars':10} {', '.join(running['liars']) or 'none'}")
    else:
        click.echo(f"{'running':10} no")


def _ask(path: Path, host: str, port: int) -> object:
    """Return the facts of a running verifier, or None."""
    import asyncio

    import msgspec

    from atoll.cli import wire
    from atoll.core.ports import Address
    from atoll.runtime.transport import HttpPieceTransport

    tls = wire.tls_of(path, host)
    address = Address(host, port, tls.fingerprint if tls is not None else b"")

    async def ask() -> object:
        transport = HttpPieceTransport()
        try:
            reply = await transport.call(address, "GET", "/v1/verifier", {}, b"", 3.0)
        except AtollError:
            return None
        finally:
            await transport.close()
        return msgspec.json.decode(reply.body) if reply.status == 200 else None

    return asyncio.run(ask())
