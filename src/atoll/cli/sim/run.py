"""``atoll sim run``: ``atoll.sim.vopr`` as a command."""

import os
import sys
from pathlib import Path

import click

from atoll.core.errors import AtollError, Kind


@click.command()
@click.option("--seed", type=int, help="Run this one seed.")
@click.option("--seeds", type=click.IntRange(1), help="Run so many seeds. Default: 20.")
@click.option("--first", type=int, help="The first of them. Default: 0.")
@click.option("--scenario", help="Only this scenario. Default: all in turn.")
@click.option(
    "--scenarios",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of scenario files. Default: those of the source tree.",
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes. Default: 1.")
@click.option("--stop", is_flag=True, help="End at the first violation.")
@click.option("--trace", is_flag=True, help="Print every event of --seed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per seed.")
def run(stop: bool, trace: bool, as_json: bool, **options: object) -> None:
    """Run the true coordinator, nodes, gateway and client on a virtual clock with faults.

    The exit code is 0 only if every invariant held; a seed that finds a violation prints the
    command that replays it.
    """
    from atoll.sim.vopr import SCENARIOS

    if options["scenarios"] is None and not SCENARIOS.is_dir():
        raise AtollError(
            Kind.CONFIG,
            "run simulation",
            "this installation has no scenario files",
            hint="name a folder with --scenarios; the source tree has them in tests/simulation",
        )
    arguments: list[str] = []
    for name, value in options.items():
        if value is not None:
            arguments += [f"--{name}", str(value)]
    flags = {"--stop": stop, "--trace": trace, "--json": as_json}
    arguments += [flag for flag, given in flags.items() if given]
    # A process of its own: sets of bytes must come in the same order each time.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    sys.stdout.flush()
    os.execve(  # noqa: S606 - our own module
        sys.executable, [sys.executable, "-m", "atoll.sim.vopr", *arguments], environment
    )
