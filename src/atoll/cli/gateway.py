"""``atoll gateway``: run an S3 gateway, beside its coordinator or as a customer's own."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, say
from atoll.cli.places import GATEWAY_SEED
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import Config, load_here
from atoll.runtime.folder import default_folder, read_marker

_data = data_option("Its data folder, or that of the coordinator whose database it shares.")


@click.group()
def gateway() -> None:
    """Run an S3 gateway: it encrypts, encodes, and sends pieces to the nodes."""


@gateway.command()
@_data
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the S3 endpoint.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that share the port.")
@click.option("--coordinator", metavar="URL", help="Coordinator of a customer's own gateway.")
@click.option("--fingerprint", metavar="HEX", help="SHA-256 of the coordinator's certificate.")
@click.option("--database", metavar="URL", help="Database to share, where it is not SQLite.")
@config_option
def run(
    data: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    coordinator: str | None,
    fingerprint: str | None,
    database: str | None,
    config_file: Path | None,
) -> None:
    """Run an S3 gateway until it is asked to stop.

    With --coordinator it is a customer's own: its folder holds its own recovery root, and the
    coordinator must trust its key (`atoll gateway show`). Without, it shares the folder (or a copy
    of its secrets) and the database of a coordinator.
    """
    from atoll.cli import wire
    from atoll.runtime.server import check_port_free

    flags = {
        "gateway.host": host,
        "gateway.port": port,
        "gateway.workers": workers,
        "gateway.coordinator": coordinator,
        "gateway.fingerprint": fingerprint,
        "coordinator.database": database,
    }
    path = _folder(data, coordinator)
    config = load_here(path, config_file, flags).config
    if wire.supervised():
        _run_one(path, config)
        return
    _prepare(path, config)
    check_port_free(config.gateway.host, config.gateway.port)
    if config.gateway.workers == 1:
        _run_one(path, config)
    else:
        asyncio.run(_run_many(path, config))


def _folder(data: Path | None, coordinator: str | None) -> Path:
    own = coordinator or os.environ.get("ATOLL_GATEWAY_COORDINATOR")
    return (data or default_folder("gateway" if own else "coordinator")).expanduser().absolute()


def _prepare(path: Path, config: Config) -> None:
    """Make the folder of a customer's own gateway; check that of a sharing one."""
    from atoll.cli.cloud import make_secrets, unseen_phrase
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder
    from atoll.runtime.rng import SystemRng

    if config.gateway.coordinator:
        open_folder(path, "gateway", SystemClock().now_ms()).close()
        make_secrets(path, SystemRng())
        if unseen_phrase(path):
            say(f"the recovery phrase: `atoll gateway phrase --data {path}` shows it once")
        return
    marker = read_marker(path)
    if marker is None or marker.kind not in ("coordinator", "cloud"):
        raise AtollError(
            Kind.WRONG_FOLDER,
            "start gateway",
            f"there is no coordinator in {path} whose database could be shared",
            hint="name its folder with --data, or a coordinator with --coordinator",
        )


def _run_one(path: Path, config: Config) -> None:
    from atoll.cli import wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder

    kind = "gateway" if config.gateway.coordinator else "coordinator"
    # The lock of a shared folder is the coordinator's; workers of one gateway share theirs.
    folder = open_folder(path, kind, SystemClock().now_ms(), also=("cloud",), lock=False)
    wire.run(config, wire.run_gateway(folder, config))


async def _run_many(path: Path, config: Config) -> None:
    """Supervise the workers, each a process with its own socket on the shared port."""
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.supervisor import ChildSpec, Supervisor

    supervisor = Supervisor(SystemClock(), lambda event: say(event.text), os.getpid())
    settings = config.gateway
    environment = {
        "ATOLL_GATEWAY_HOST": settings.host,
        "ATOLL_GATEWAY_PORT": str(settings.port),
        "ATOLL_GATEWAY_COORDINATOR": settings.coordinator,
        "ATOLL_GATEWAY_FINGERPRINT": settings.fingerprint,
        "ATOLL_COORDINATOR_DATABASE": config.coordinator.database,
    }
    words = (sys.executable, "-m", "atoll", "gateway", "run", "--data", str(path))
    logs = path / "logs"
    logs.mkdir(exist_ok=True)
    supervisor.start(
        [
            ChildSpec(f"gateway-{i}", words, logs / f"gateway-{i}.log", 0, environment)
            for i in range(1, settings.workers + 1)
        ]
    )
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()
    await supervisor.stop()


@gateway.command()
@_data
@json_option
def show(data: Path | None, as_json: bool) -> None:
    """Show a gateway's key, which a coordinator trusts with `atoll coordinator trust-gateway`."""
    from atoll.cli import wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder

    path = data or default_folder("gateway")
    now_ms = SystemClock().now_ms()
    open_folder(path, "gateway", now_ms, also=("cloud", "coordinator"), lock=False).close()
    key = wire.identity_of(path, GATEWAY_SEED).public_key.hex()
    emit({"key": key}) if as_json else click.echo(key)


@gateway.command()
@_data
def phrase(data: Path | None) -> None:
    """Print the recovery phrase, once; then it is forgotten here."""
    from atoll.cli.coordinator import phrase as show_phrase

    assert show_phrase.callback is not None
    show_phrase.callback(data or default_folder("gateway"))
