"""``atoll demo``: the whole story."""

import random
import sys
import time
from pathlib import Path

import click
import psutil

from atoll.cli.demo import money
from atoll.cli.demo.settled import Settled
from atoll.cli.demo.storing import (
    BUCKET,
    LARGE_BYTES,
    compare_listing,
    default_folder,
    download_large,
    make_large_file,
    read_everything,
    restart_node,
    tell_figures,
    upload_large,
    upload_tree,
    watch_repair,
)
from atoll.cli.demo.story import NODES, Demo, Teller
from atoll.cli.drill.liars import DROPS_LIE, LIARS_VARIABLE, liars_text
from atoll.cli.local_cloud import LocalCloud

CHAIN_TIME_DIVISOR = 14_400
"""A day of the contracts is six seconds: so long may an epoch be challenged."""


def _command() -> str:
    """How this very command was called, so that the next one can be pasted."""
    called = Path(sys.argv[0])
    return "python -m atoll" if called.name == "__main__.py" else str(called)


def run(demo: Demo, folder: Path, pay: money.Money | None) -> bool:
    """Tell the whole story; return whether every comparison held."""
    teller = demo.teller
    teller.step("A real directory goes in, through boto3")
    demo.cloud.boto3_client().create_bucket(Bucket=BUCKET)
    upload_tree(demo, folder)
    teller.step(f"A {LARGE_BYTES >> 20} MiB file by multipart; two nodes die in the middle")
    large = make_large_file(demo.folder)
    upload_large(demo, large)
    large.unlink()
    before = demo.status().repair.pieces_repaired
    teller.step("The file is read back; two more nodes die in the middle")
    download_large(demo)
    teller.step("Everything is read while four of twelve nodes are dead")
    teller.note("chosen at random among those whose death leaves every object enough pieces")
    read_everything(demo, "with 4 of 12 nodes dead")
    compare_listing(demo)
    repaired = demo.status().repair.pieces_repaired - before
    demo.check(repaired == 0, f"that was before repair: {repaired} pieces had been rebuilt")
    teller.step("Repair brings every segment back to full strength")
    watch_repair(demo)
    if pay is not None:
        money.drop_data(pay)
    read_everything(demo, "after repair")
    teller.step("A dead node comes back")
    restart_node(demo)
    if pay is not None:
        teller.step("What was stored and proven is paid for; what was dropped is not")
        money.watch_pay(pay)
    teller.step("Figures")
    tell_figures(demo)
    return all(held for held, _ in demo.checks)


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A real directory to upload (the first 300 files, 48 MB). Default: Python's own library.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def demo(folder: Path | None, as_json: bool) -> None:
    """Store real data on a cloud of 12 nodes, kill 4, read everything, watch it heal, pay.

    At the end providers have on a chain of this machine what the published epoch says, and one who
    dropped data has less.
    """
    teller, began = Teller(as_json), time.monotonic()
    teller.step(f"A cloud of {NODES} nodes starts on this machine")
    dropper = f"node-{random.SystemRandom().randint(1, NODES)}"
    environment = {
        # Two nodes die early in the story: with these timers nothing is repaired before all is
        # read.
        "ATOLL_CLOUD_PROFILE": "demo",
        "ATOLL_COORDINATOR_TIME_FACTOR": str(money.TIME_FACTOR),
        "ATOLL_CHAIN_TIME_DIVISOR": str(CHAIN_TIME_DIVISOR),
        LIARS_VARIABLE: liars_text({dropper: DROPS_LIE}),
    }
    with LocalCloud(
        "--ephemeral", "--nodes", str(NODES), "--port", "0", environment=environment
    ) as cloud:
        story = Demo(cloud, teller, spared=frozenset({dropper}))
        machine = f"{psutil.cpu_count()} cores"
        teller.note(f"S3 endpoint {cloud.endpoint}, {machine}", endpoint=cloud.endpoint)
        chain = str(cloud.facts["chain"])
        pay = None
        if chain:
            settled = Settled(str(cloud.facts["coordinator"]), chain, story.folder)
            pay = money.Money(story, dropper, settled)
            money.begin(pay)
        else:
            teller.note("no chain here, so nothing is paid: `atoll chain install` gets its program")
        held = run(story, folder or default_folder(), pay)
    seconds = time.monotonic() - began
    good = sum(held for held, _ in story.checks)
    teller.result(
        {
            "held": held,
            "checks": [{"held": ok, "text": text} for ok, text in story.checks],
            "seconds": round(seconds, 1),
            **story.figures,
        }
    )
    if not as_json:
        click.echo(f"\n{good} of {len(story.checks)} checks held in {seconds:.0f} s.")
        if held:
            click.echo(
                f"Next: `{_command()} up` keeps such a cloud running; see the tour in README.md."
            )
    sys.exit(0 if held else 1)
