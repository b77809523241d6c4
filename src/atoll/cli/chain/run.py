"""``atoll chain run``: be the embedded chain."""

import os
from pathlib import Path

import click

from atoll.cli.options import config_option, data_option
from atoll.cli.output import say
from atoll.core.errors import AtollError, Kind
from atoll.runtime.config import load_here
from atoll.runtime.folder import default_folder


@click.command()
@data_option("Folder of its state. Default: an XDG data folder.")
@click.option("--host", help="Loopback address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of its JSON-RPC.")
@config_option
def run(data: Path | None, config_file: Path | None, **given: object) -> None:
    """Run an embedded chain until it is asked to stop. It believes every caller: loopback only."""
    from atoll.cli.chain.embedded import find_engine
    from atoll.cli.wire import is_loopback, supervised
    from atoll.economy.chain.anvil import STATE_FILE, arguments, set_aside_broken
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.folder import open_folder
    from atoll.runtime.process import end_with_parent
    from atoll.runtime.supervisor import PARENT_VARIABLE

    path = data or default_folder("chain")
    config = load_here(path, config_file, {f"chain.{n}": v for n, v in given.items()}).config
    settings = config.chain
    if not is_loopback(settings.host):
        raise AtollError(
            Kind.CONFIG,
            "run chain",
            f"{settings.host} is not on this machine alone",
            hint="an embedded chain listens on loopback: set chain.host to 127.0.0.1",
        )
    engine = find_engine()
    if not engine.name:
        raise AtollError(Kind.CONFIG, "run chain", engine.problem)
    # No lock: the program that this process becomes would not hold it, but the port keeps a
    # second one out.
    folder = open_folder(path, "chain", SystemClock().now_ms(), lock=False)
    if engine.program is None:
        from atoll.cli.chain.python import run_python_chain

        say(engine.problem)
        run_python_chain(config)
        return
    state = folder.path / STATE_FILE
    broken = set_aside_broken(state)
    if broken is not None:
        say(f"its state was cut off and lies in {broken}; the chain begins anew")
    if supervised():
        # Holds for the program too: it dies with its supervisor.
        end_with_parent(int(os.environ[PARENT_VARIABLE]))
    words = arguments(engine.program, settings.host, settings.port, state)
    os.umask(0o077)
    os.execv(words[0], words)  # noqa: S606 - a program of a fixed name, no shell
