"""Verdicts on lost data on a real chain: signed by verifiers that checked, carried out once."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.chain import new_folder, require_anvil
from tests.integration.settlement.world import Settling, wait_for
from tests.unit.core.proofs.losses import loss_by

from atoll.coordinator.slashing import store
from atoll.coordinator.slashing.model import Case
from atoll.core.identity import Identity
from atoll.core.proofs.loss import check_loss
from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.slashes import entry_key
from atoll.runtime.database import SqlDatabase

pytestmark = [pytest.mark.xdist_group("heavy"), pytest.mark.slow]
EPOCH = 3
LOSER, INNOCENT = Identity(b"l" * 32), Identity(b"i" * 32)
OWNER = b"o" * 20


@pytest.fixture
def folder() -> Iterator[Path]:
    require_anvil()
    found = new_folder()
    yield found
    shutil.rmtree(found, ignore_errors=True)


def accuse(world: Settling, alias: int, node: Identity, body: bytes) -> bytes:
    """A case as the coordinator has it once an epoch settled it; returns its evidence."""
    loss = check_loss(body)
    case = Case(
        loss.evidence, alias, node.node_id, OWNER, world.accounts()[0].address, 1,
        loss.first_slot, loss.last_slot, loss.samples, loss.failed,
    )  # fmt: skip

    async def put() -> None:
        database = SqlDatabase(f"sqlite:///{world.database}")
        assert await database.write(lambda c: store.put_case(c, case, body))
        await database.write(lambda c: store.settle(c, EPOCH, [(loss.evidence, 10**12)]))
        await database.close()

    asyncio.run(put())
    return loss.evidence


def fault_of(node: Identity, evidence: bytes) -> bytes:
    subject = keccak_256(entry_key(node.node_id, OWNER) + evidence)
    return keccak_256((2).to_bytes(32, "big") + subject)


def test_verdicts_that_hold_are_carried_out_and_others_signed_by_nobody(folder: Path) -> None:
    with Settling(folder) as world:
        world.start_coordinator()
        wait_for(world.connected, lambda: world.log("coordinator"))
        right = loss_by(world.coordinator, world.verifiers, LOSER, 70)
        made_up = [Identity(bytes([n]) * 32) for n in (201, 202, 203)]
        wrong = loss_by(world.coordinator, made_up, INNOCENT, 70)
        forged = accuse(world, 2, INNOCENT, wrong)
        evidence = accuse(world, 1, LOSER, right)
        world.start_verifiers()

        def carried_out() -> bool:
            sql = "SELECT length(transaction_hash) FROM slash_case WHERE alias = 1"
            return world.rows(sql) == [(32,)]

        wait_for(carried_out, lambda: world.log("verifier-1") + world.log("coordinator"))
        assert world.ask("SlashCourt", "punished", fault_of(LOSER, evidence))
        assert not world.ask("SlashCourt", "punished", fault_of(INNOCENT, forged))
        sql = "SELECT count(*) FROM settlement_signature WHERE kind = 2 GROUP BY subject"
        counts = [int(count) for (count,) in world.rows(sql)]
        assert len(counts) == 1, "nobody signed what rests on verifiers that nobody knows"
        assert counts[0] >= 2
        assert "not known here" in world.log("verifier-1")
        # After a kill it is not wanted again.
        world.kill("coordinator")
        world.start_coordinator()
        sql = "SELECT count(*) FROM chain_intent WHERE intent_key LIKE 'slash/%'"
        assert world.rows(sql) == [(1,)]
