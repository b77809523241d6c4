"""Nodes that are elsewhere than they were, and owners who change their minds about where.

What is asserted (by the checkers): once the faults have ended, no piece lies with a node that the
bucket's policy does not admit by what the node says then; and nothing was lost on the way.
"""

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from atoll.core.errors import AtollError
from atoll.core.messages.policy import PolicyVersion, SetPolicy
from atoll.core.policy.model import Subject
from atoll.core.policy.text import parse
from atoll.sim.machines import ACCOUNT, NodeMachine
from atoll.sim.scenario import FaultPlan
from atoll.sim.workload import Violation

if TYPE_CHECKING:
    from atoll.sim.world import World

HOME, ABROAD = "PT", "US"
AT_HOME_MIN = 9
"""So many nodes stay where the policy wants them: a segment at full strength needs eight."""
TEXTS = ("country in PT", "country not in US", "country in EU and parent not in US")
"""What owners may want: all of them admit the nodes at home, none of them those abroad."""


async def emigrate(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """A node restarts in another country, or comes home."""
    nodes = [node for node in world.nodes if node.up and not node.gone and not node.moves_pieces]
    home = [node for node in nodes if node.config.country == HOME]
    abroad = [node for node in nodes if node.config.country == ABROAD]
    go = home if len(home) > AT_HOME_MIN and (not abroad or chance.random() < 0.7) else abroad
    if not go:
        return
    node = chance.choice(go)
    country = ABROAD if node.config.country == HOME else HOME
    world.trace.note("emigrate", f"{node.name} to {country}")
    node.ever_moved = True
    node.config = replace(node.config, country=country)
    node.crash()
    await node.start()


async def change_mind(world: "World", plan: FaultPlan, chance: random.Random) -> None:
    """The owner gives the bucket another policy."""
    text = chance.choice(TEXTS)
    try:
        await set_policy(world, text)
    except AtollError as error:
        world.trace.note("policy refused", error.kind.value)
        return
    world.trace.note("policy", text)


async def set_policy(world: "World", text: str) -> None:
    """Give the world's bucket a policy. Raises ``AtollError``, ``UNREACHABLE`` included."""
    question = SetPolicy(bucket=world.bucket.bucket, account=ACCOUNT, text=text, force=True)
    await world.ask_gateway(world.gateway.ask(question, PolicyVersion))


async def must_set_policy(world: "World", text: str) -> None:
    """Give the bucket its first policy. Raises ``Violation`` where that is refused."""
    try:
        await set_policy(world, text)
    except AtollError as error:
        raise Violation(f"the policy of the scenario was refused: {error}") from error


def abroad(text: str, node: NodeMachine) -> str:
    """Say why a policy does not let a piece lie with a node; empty where it does."""
    config = node.config
    subject = Subject(
        country=config.country,
        parent_country=config.parent_country,
        region=config.region,
        tier=config.tier,
        operator=config.operator,
        node_id=node.identity.node_id,
    )
    if parse(text).admits("data", subject):
        return ""
    return f"it lies in {config.country}, and the policy is `{text}`"
