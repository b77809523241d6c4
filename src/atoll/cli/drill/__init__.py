"""``atoll drill``: break a running cloud on purpose, under real S3 traffic, and report."""

import click

from atoll.cli.lazy import LazyGroup

_SECTIONS = {
    "Faults": {
        "churn": ("atoll.cli.drill.churn:churn", "Kill a share of the nodes for good."),
        "restart": (
            "atoll.cli.drill.restart:restart",
            "Kill everything: one by one, then at once.",
        ),
        "outage": ("atoll.cli.drill.outage:outage", "Switch off all nodes of a region."),
        "partition": ("atoll.cli.drill.partition:partition", "Freeze nodes: silent, not gone."),
        "sybil": ("atoll.cli.drill.sybil:sybil", "Let one attacker join as many nodes."),
        "coordinator-lost": (
            "atoll.cli.drill.coordinator_lost:coordinator_lost",
            "Lose all but the nodes; recover.",
        ),
        "ransomware": (
            "atoll.cli.drill.ransomware:ransomware",
            "Let a thief of all keys destroy what he can.",
        ),
        "byzantine": ("atoll.cli.drill.byzantine:byzantine", "Let a fifth of the nodes lie."),
    },
}
_HIDDEN = {"liar": ("atoll.cli.drill.liars:liar", "Run a node that lies.")}


@click.group(cls=LazyGroup, sections=_SECTIONS, hidden_entries=_HIDDEN)
def drill() -> None:
    """Break a cloud on purpose under real S3 traffic, verify every object, write a report.

    Without --data a drill starts a cloud of its own and removes it afterwards. With --data it
    breaks the cloud that runs in that folder: it uses a bucket of its own there, but the faults
    hit everybody.
    """
