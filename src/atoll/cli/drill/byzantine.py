"""``atoll drill byzantine``: a fifth of the nodes and one verifier lie, each in its own way."""

import asyncio
import time
from typing import Any

import click

from atoll.cli.drill.liars import LIARS_VARIABLE, LIES, VERIFIER_LIE, liars_text
from atoll.cli.drill.stage import POLL_S, Stage, drill_options, options_of, play
from atoll.cli.node.health import ask_all
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.reputation import NodeStanding

NAMED_S_MAX = 240.0
GOOD = frozenset({"unvetted", "vetted", "trusted"})
VERIFIERS = 3


@click.command()
@click.option(
    "--share",
    type=click.FloatRange(0.01, 0.3),
    default=0.2,
    show_default=True,
    help="Share of the nodes that lie.",
)
@drill_options(nodes=25)
def byzantine(share: float, **values: Any) -> int:
    """Let a share of the nodes and one verifier of three lie from the start, each in its own way.

    Wrong bytes, forged proofs, refused reads, lost data kept quiet, boasted room; a verifier that
    vouches for liars and slanders the honest. No wrong byte may reach a customer, every liar must
    be named, no honest node may be. Runs on a cloud of its own only.
    """
    options = options_of(values)
    if options.data is not None:
        raise AtollError(
            Kind.BAD_REQUEST,
            "start drill",
            "liars are made when a cloud starts",
            hint="leave out --data: this drill starts a cloud of its own",
        )
    count = max(1, round(share * options.nodes))
    lies = list(LIES)
    liars = {f"node-{2 + 2 * i}": lies[i % len(lies)] for i in range(count)}

    async def drill(stage: Stage) -> None:
        await _byzantine(stage, liars)

    about = f"{count} of {options.nodes} nodes and one of {VERIFIERS} verifiers lie from the start."
    environment = {LIARS_VARIABLE: liars_text({**liars, f"verifier-{VERIFIERS}": VERIFIER_LIE})}
    return play("byzantine", about, options, drill, environment=environment)


async def _byzantine(stage: Stage, liars: dict[str, str]) -> None:
    for name, lie in liars.items():
        stage.note(f"{name} {LIES[lie]}")
    stage.note(f"verifier-{VERIFIERS} vouches for liars and slanders some of the honest")
    numbers = {int(name.partition("-")[2]): lie for name, lie in liars.items()}
    await asyncio.sleep(stage.options.seconds)
    began = time.monotonic()
    named: dict[int, str] = {}
    while time.monotonic() - began < NAMED_S_MAX and len(named) < len(numbers):
        for standing in (await ask_all(stage.folder)).nodes:
            number = _number(standing)
            if number in numbers and number not in named and reasons(standing):
                named[number] = reasons(standing)
                stage.note(f"node-{number} ({numbers[number]}) is named: {named[number]}")
        await asyncio.sleep(POLL_S)
    for number, lie in numbers.items():
        stage.check(
            number in named, f"node-{number} ({lie}): {named.get(number, 'nobody noticed')}"
        )
    await _honest(stage, set(numbers))
    await _verifier(stage)
    await stage.settle()
    stage.report.figures["liars"] = {f"node-{n}": f"{numbers[n]}: {w}" for n, w in named.items()}
    stage.report.limits.append(
        "Liars that work together by placement (more pieces of one segment than its parity) are "
        "what placement's caps prevent; the simulator's scenarios break those caps."
    )


async def _verifier(stage: Stage) -> None:
    """The verifier that vouches for everybody signed what others can prove to be false."""
    until = time.monotonic() + NAMED_S_MAX
    while True:
        found = await stage.client.ask("proofs")
        if found["excluded"] or time.monotonic() > until:
            break
        await asyncio.sleep(POLL_S)
    liar = sorted(found["verifiers"], key=lambda place: str(place["operator"]))[-1]["key"]
    stage.check(
        found["excluded"] == [liar],
        f"{len(found['excluded'])} verifier is excluded for a verdict that its own evidence refutes"
        if found["excluded"]
        else "nobody noticed the lying verifier",
    )


async def _honest(stage: Stage, liars: set[int]) -> None:
    accused = [
        f"node-{_number(one)}: {reasons(one)}"
        for one in (await ask_all(stage.folder)).nodes
        if _number(one) not in liars and reasons(one)
    ]
    stage.check(
        not accused, f"{len(accused)} honest nodes are accused {'; '.join(accused)}".strip()
    )


def reasons(node: NodeStanding) -> str:
    """Say what is held against a node; empty for nothing."""
    words = [] if node.standing in GOOD else [node.standing]
    words += [warning for warning in node.warnings if not warning.endswith(" warning")]
    if node.samples_failed:
        words.append(f"{node.samples_failed} samples failed")
    return ", ".join(words)


def _number(node: NodeStanding) -> int:
    """The number of a node of a local cloud: node i is run by operator-i."""
    return int(node.operator.rpartition("-")[2])
