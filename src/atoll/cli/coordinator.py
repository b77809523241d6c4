"""``atoll coordinator``: run one, see its address, let gateways and customers in."""

import os
from pathlib import Path

import click
import msgspec

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, say
from atoll.cli.places import (
    COORDINATOR_SEED,
    RUNNING_COORDINATOR,
    TRUSTED_GATEWAYS,
    TRUSTED_VERIFIERS,
    RunningCoordinator,
    read_coordinator,
)
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import load_here
from atoll.runtime.folder import default_folder

KEY_HEX_DIGITS = 64
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_data = data_option("Its data folder. Default: an XDG data folder.")


@click.group()
def coordinator() -> None:
    """Run a coordinator: it knows the nodes, places pieces, and repairs."""


@coordinator.command()
@_data
@click.option("--host", help="Address to listen on; beyond loopback always with TLS.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port for nodes and gateways.")
@click.option("--page-port", type=click.IntRange(0, 65_535), help="Live page on loopback; 0: none.")
@click.option("--database", metavar="URL", help="PostgreSQL database instead of SQLite.")
@click.option("--profile", type=click.Choice(["local", "demo", "wan"]), help="Timers.")
@config_option
def run(
    data: Path | None,
    host: str | None,
    port: int | None,
    page_port: int | None,
    database: str | None,
    profile: str | None,
    config_file: Path | None,
) -> None:
    """Run a coordinator until it is asked to stop."""
    from atoll.cli import wire
    from atoll.cli.cloud import make_secrets, unseen_phrase
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder, write_file
    from atoll.runtime.rng import SystemRng

    path = data or default_folder("coordinator")
    flags = {
        "coordinator.host": host,
        "coordinator.port": port,
        "coordinator.page_port": page_port,
        "coordinator.database": database,
        "coordinator.profile": profile,
    }
    config = load_here(path, config_file, flags).config
    now_ms = SystemClock().now_ms()
    folder = open_folder(path, "coordinator", now_ms, also=("cloud",), lock=not wire.supervised())
    if not wire.supervised():
        make_secrets(folder.path, SystemRng())
        running = RunningCoordinator(
            host=config.coordinator.host,
            port=config.coordinator.port,
            page_port=config.coordinator.page_port,
            pid=os.getpid(),
        )
        (folder.path / RUNNING_COORDINATOR).parent.mkdir(mode=0o700, exist_ok=True)
        write_file(folder.path / RUNNING_COORDINATOR, msgspec.json.encode(running) + b"\n")
        _tell(folder.path, running.host, running.port)
        if unseen_phrase(folder.path):
            say(f"the recovery phrase: `atoll coordinator phrase --data {path}` shows it once")
    wire.run(config, wire.run_coordinator(folder, config))


def _tell(path: Path, host: str, port: int) -> None:
    from atoll.cli import wire

    tls = wire.tls_of(path, host)
    say(f"nodes join with: atoll join {_url(host, port, tls.fingerprint if tls else b'')}")
    if host in _ANY:
        say(f"where {host} stands for an address of this machine that they reach")


def _url(host: str, port: int, fingerprint: bytes) -> str:
    shown = f"[{host}]" if ":" in host else host
    if not fingerprint:
        return f"http://{shown}:{port}"
    return f"https://{shown}:{port}#{fingerprint.hex()}"


@coordinator.command()
@_data
@config_option
@json_option
def show(data: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Show a coordinator's address with its fingerprint, and its key.

    While it runs: the address it listens on. Else: the one that its settings name.
    """
    from atoll.cli import wire

    path = data or default_folder("coordinator")
    place = read_coordinator(path) or load_here(path, config_file).config.coordinator
    require_coordinator(path)
    tls = wire.tls_of(path, place.host)
    url = _url(place.host, place.port, tls.fingerprint if tls else b"")
    key = wire.identity_of(path, COORDINATOR_SEED).public_key.hex()
    if as_json:
        emit({"url": url, "key": key})
    else:
        click.echo(f"address  {url}\nkey      {key}")


@coordinator.command()
@_data
def phrase(data: Path | None) -> None:
    """Print the recovery phrase, once; then it is forgotten here."""
    from atoll.cli.cloud import forget_phrase, unseen_phrase

    path = data or default_folder("coordinator")
    words = unseen_phrase(path)
    if not words:
        raise AtollError(
            Kind.NOT_FOUND,
            "show phrase",
            "the recovery phrase has been shown already, or there is none",
            hint="it cannot be shown again: that is what protects it",
        )
    click.echo(words)
    forget_phrase(path)


@coordinator.command("trust-gateway")
@click.argument("key")
@_data
def trust_gateway(key: str, data: Path | None) -> None:
    """Let a customer's own gateway ask this coordinator, by the KEY that `atoll gateway show` says.

    The coordinator reads its list when it starts: restart it afterwards.
    """
    _trust(data, TRUSTED_GATEWAYS, "gateway", key)


@coordinator.command("trust-verifier")
@click.argument("key")
@click.option(
    "--account",
    metavar="0x…",
    help="Its account of the chain, for a court on an embedded chain that is not made yet.",
)
@_data
def trust_verifier(key: str, account: str | None, data: Path | None) -> None:
    """Let a verifier's verdicts count, by the KEY that `atoll verifier show` says.

    The coordinator reads its list when it starts: restart it afterwards. Who signs epochs is for
    the court on the chain to say: it is made with the accounts named here, or in plan.toml on a
    public chain; later ones are added by the timelock of its parameters.
    """
    known = _trust(data, TRUSTED_VERIFIERS, "verifier", key)
    if account is not None:
        from atoll.cli.settling import keep_account
        from atoll.economy.chain.signer import parse_address

        keep_account(data or default_folder("coordinator"), known, parse_address(account))


def _trust(data: Path | None, name: str, what: str, key: str) -> bytes:
    """Add a key to a list of the coordinator's folder; return it."""
    from atoll.cli import wire

    path = data or default_folder("coordinator")
    require_coordinator(path)
    try:
        known = bytes.fromhex(key)
    except ValueError:
        known = b""
    if len(known) * 2 != KEY_HEX_DIGITS:
        raise AtollError(
            Kind.BAD_REQUEST,
            f"trust {what}",
            f"{key!r} is no key",
            hint=f"a key has 64 hex digits; `atoll {what} show` prints it",
        )
    keys = wire.trusted_keys(path, name, what)
    if known not in keys:
        from atoll.runtime.folder import write_file

        lines = "".join(f"{k.hex()}\n" for k in (*keys, known))
        write_file(path / name, lines.encode())
    say(f"{what} {known.hex()[:16]}… is trusted from the coordinator's next start on")
    return known


@coordinator.command("create-key")
@click.argument("owner")
@_data
@config_option
@json_option
def create_key(owner: str, data: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Make an account for a customer called OWNER, and print its S3 access key once."""
    import asyncio

    from atoll.cli import wire
    from atoll.cli.cloud import new_access
    from atoll.runtime.rng import SystemRng
    from atoll.runtime.transport import HttpPieceTransport

    path = data or default_folder("coordinator")
    require_coordinator(path)
    config = load_here(path, config_file).config
    access, rng = new_access(SystemRng()), SystemRng()

    async def make() -> None:
        async with wire.coordinator_of(path, config, HttpPieceTransport(), loops=False) as found:
            await found.metadata.create_credential(
                rng.bytes(16), owner, access.access_key, access.secret_key
            )

    asyncio.run(make())
    if as_json:
        emit({"access_key": access.access_key, "secret_key": access.secret_key})
    else:
        click.echo(f"access key  {access.access_key}\nsecret key  {access.secret_key}")


def require_coordinator(path: Path) -> None:
    """Raise where there is no coordinator in a folder; makes nothing."""
    from atoll.runtime.folder import read_marker

    marker = read_marker(path)
    if marker is None or marker.kind not in ("coordinator", "cloud"):
        raise AtollError(
            Kind.WRONG_FOLDER,
            "open data folder",
            f"there is no coordinator in {path}",
            hint="name its folder with --data, or start one with `atoll coordinator run`",
        )
