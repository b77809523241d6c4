"""Epochs reach accounts on a real chain, whoever is killed; wrong ones are signed by nobody."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.chain import new_folder, require_anvil
from tests.fixtures.epochs import Life
from tests.integration.settlement.world import (
    FUNDER,
    Settling,
    document_of,
    documents,
    wait_for,
    with_times,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages.settlement import (
    GetStatements,
    PostSignature,
    SignatureTaken,
    StatementList,
)
from atoll.economy.chain.signer import ORDER, Signer
from atoll.economy.settlement.document import (
    NO_DOCUMENT,
    Content,
    LeafRow,
    Published,
    read,
    read_index,
)
from atoll.economy.settlement.model import FIRST
from atoll.economy.settlement.statement import (
    Court,
    RootStated,
    Statement,
    root_statement,
    statement_digest,
)

pytestmark = [pytest.mark.xdist_group("heavy"), pytest.mark.slow]
DEATHS_MIN = 15


@pytest.fixture
def folder() -> Iterator[Path]:
    require_anvil()
    found = new_folder()
    yield found
    shutil.rmtree(found, ignore_errors=True)


def leaves_of(published: Published) -> tuple[LeafRow, ...]:
    return read(published.index, published.chunks).content.leaves


def deploy(world: Settling) -> None:
    world.start_coordinator()
    world.wait(world.connected)


def paid(world: Settling, leaves: tuple[LeafRow, ...]) -> dict[bytes, int]:
    return {
        leaf.account: int(world.ask("TestStable", "balanceOf", leaf.account)) for leaf in leaves
    }


@pytest.mark.long
def test_an_epoch_reaches_its_accounts_though_the_coordinator_dies_at_every_step(
    folder: Path,
) -> None:
    with Settling(folder) as world:
        deploy(world)
        world.fund()
        world.kill("coordinator")
        one, two = documents(world.coordinator, 2, nodes=640)
        world.publish(one)
        world.start_verifiers()
        world.start_dying_coordinators()
        world.wait(lambda: world.states().get(1) == "claimed")
        deaths = world.deaths()
        world.kill("coordinator")
        leaves = leaves_of(one)
        assert len(leaves) > 256, "more than one batch"
        assert paid(world, leaves) == {leaf.account: leaf.released_micro for leaf in leaves}
        # And on from there: what was paid before is not paid again; who asks for leaves gets them.
        world.publish(two)
        world.start_coordinator()
        world.wait(lambda: world.states().get(2) == "proposed")
        assert world.demand(chunk=3)
        world.wait(lambda: world.states().get(2) == "claimed")
        assert world.rows("SELECT chunk, answered FROM settlement_demand") == [(3, 1)]
        leaves = leaves_of(two)
        assert paid(world, leaves) == {leaf.account: leaf.released_micro for leaf in leaves}
        told = {one["epoch"]: one["settlement"] for one in world.epochs()}
        assert [told[n]["state"] for n in (1, 2)] == ["claimed", "claimed"]
        assert told[2]["signatures"] >= told[2]["quorum"] == 2
        released = sum(leaf.released_micro for leaf in leaves)
        assert told[1]["claimed_micro"] + told[2]["claimed_micro"] == released
        assert world.ask("EpochDistributor", "paid_micro") == released
        seen = (folder / "seen").read_text()
        for name in ("published", "signed", "proposed", "final", "claimed"):
            assert f"epoch 1 {name}" in seen, "it died there"
        assert deaths >= DEATHS_MIN


@pytest.mark.long
def test_who_is_silent_when_leaves_are_asked_for_loses_the_bond_and_proposes_again(
    folder: Path,
) -> None:
    with Settling(folder) as world:
        deploy(world)
        world.fund()
        world.start_verifiers()
        (one,) = documents(world.coordinator, 1)
        world.publish(one)
        world.wait(lambda: world.states().get(1) == "proposed")
        world.kill("coordinator")
        before = int(world.ask("TestStable", "balanceOf", FUNDER.address))
        assert world.demand(chunk=0)
        (deadline_s,) = world.ask("EpochDistributor", "demands", 1, 0)[1:2]
        wait_for(lambda: time.time() > deadline_s + 1)
        assert world.send(FUNDER, "EpochDistributor", "reject_withheld", 0)
        assert int(world.ask("TestStable", "balanceOf", FUNDER.address)) > before
        world.start_coordinator()
        world.wait(lambda: world.states().get(1) == "claimed")
        (facts,) = world.epochs()
        assert facts["settlement"]["attempt"] == 2
        leaves = leaves_of(one)
        assert paid(world, leaves) == {leaf.account: leaf.released_micro for leaf in leaves}


def written_state(world: Settling) -> bytes:
    """What the chain writes down of itself from now on."""
    state = world.chain.state
    assert state is not None
    begin_s = time.time()
    world.wait(lambda: state.exists() and state.stat().st_mtime > begin_s + 1)
    return state.read_bytes()


@pytest.mark.long
def test_a_chain_that_forgets_is_settled_on_again(folder: Path) -> None:
    """What it forgot is sent again; what came too early by then is made anew."""
    with Settling(folder, time_divisor=14_400) as world:
        deploy(world)
        world.fund()
        kept = written_state(world)
        world.start_verifiers()
        (one,) = documents(world.coordinator, 1, nodes=2)
        world.publish(one)
        world.wait(lambda: world.states().get(1) == "claimed")
        world.chain.kill()
        assert world.chain.state is not None
        world.chain.state.write_bytes(kept)
        world.chain.start()
        leaves = leaves_of(one)
        good = {leaf.account: leaf.released_micro for leaf in leaves}
        assert len(leaves) == 1, "one account is claimed for by itself"
        assert paid(world, leaves) != good
        world.wait(lambda: world.states().get(1) != "claimed")
        world.wait(lambda: world.states().get(1) == "claimed")
        assert paid(world, leaves) == good


def one_more_for_the_first(content: Content) -> Content:
    first, *rest = content.leaves
    return replace(content, leaves=(LeafRow(first.account, first.released_micro + 10**6, 0), *rest))


def test_a_wrong_document_gets_no_signature_and_no_forged_one_counts(folder: Path) -> None:
    with Settling(folder) as world:
        deploy(world)
        world.fund()
        now_ms = int(time.time() * 1000)
        inputs = with_times(Life(7, 20, 4).next(), now_ms - 60_000)
        wrong, _ = document_of(
            world.coordinator, inputs, FIRST, NO_DOCUMENT, one_more_for_the_first
        )
        world.publish(wrong)
        world.start_verifiers()
        for number in (1, 2, 3):
            world.wait(lambda number=number: bool(refusals(world, number)))
            assert "does not come out" in refusals(world, number)[0]
        assert world.states() == {1: "published"}
        assert world.rows("SELECT count(*) FROM settlement_signature") == [(0,)]
        signatures_that_do_not_count(world, wrong)
        assert world.states() == {1: "published"}
        assert world.ask("EpochDistributor", "attempts") == 0


def refusals(world: Settling, number: int) -> list[str]:
    running = world.verifier_facts(number)["running"]
    return list(running["epochs_refused"]) if running else []


def signatures_that_do_not_count(world: Settling, published: Published) -> None:
    """One verifier turns dishonest, helped by strangers: it is one voice, not two."""
    index = read_index(published.index)
    book = world.book()
    court = Court(31337, book["SlashCourt"].address, book["EpochDistributor"].address)
    statement = root_statement(court, RootStated(1, 1, index.root, published.content_hash))
    digest = statement_digest(court, statement)
    in_contract = (statement.kind, statement.subject, statement.epoch, statement.stated)
    assert world.ask("SlashCourt", "digest_of", *in_contract) == digest
    stated = world.ask("EpochDistributor", "statement_of", index.root, published.content_hash, 1)
    assert stated == (statement.kind, statement.subject, statement.stated)

    crook, helper, _ = world.verifiers
    key = world.accounts()[0]
    stranger = Signer.derived(b"x" * 32, "verifier")
    good = key.sign_digest(digest)
    s = int.from_bytes(good[32:64], "big")
    twin = good[:32] + (ORDER - s).to_bytes(32, "big") + bytes([55 - good[64]])
    assert refused(world, crook, statement, stranger.sign_digest(digest)) is Kind.FORBIDDEN
    assert refused(world, crook, statement, key.sign_digest(b"o" * 32)) is Kind.FORBIDDEN
    assert refused(world, crook, statement, twin) is Kind.BAD_REQUEST
    assert refused(world, crook, statement, bytes(65)) is Kind.BAD_REQUEST
    assert refused(world, Identity(b"x" * 32), statement, good) is Kind.FORBIDDEN
    other = root_statement(court, RootStated(1, 2, index.root, published.content_hash))
    other_signature = key.sign_digest(statement_digest(court, other))
    assert refused(world, crook, other, other_signature) is Kind.NOT_FOUND
    for identity in (crook, crook, helper):
        taken = world.tell(identity, post(statement, good), SignatureTaken)
        assert (taken.account, taken.signatures, taken.quorum) == (key.address, 1, 2)
    assert world.rows("SELECT count(*) FROM settlement_signature") == [(1,)]
    with pytest.raises(AtollError) as told:
        world.tell(Identity(b"x" * 32), GetStatements(b""), StatementList)
    assert told.value.kind is Kind.FORBIDDEN


def post(statement: Statement, signature: bytes) -> PostSignature:
    return PostSignature(
        statement.kind, statement.subject, statement.epoch, statement.stated, signature
    )


def refused(
    world: Settling, identity: Identity, statement: Statement, signature: bytes
) -> Kind | None:
    try:
        world.tell(identity, post(statement, signature), SignatureTaken)
    except AtollError as error:
        return error.kind
    return None
