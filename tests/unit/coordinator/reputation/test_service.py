"""Standings as they come about: whoever fails is told why, whoever is honest keeps his name."""

from dataclasses import replace

import pytest
from tests.unit.coordinator.reputation.world import LIMITS, World

from atoll.coordinator.reputation import store
from atoll.coordinator.reputation.model import FailedSample, Standing
from atoll.coordinator.reputation.service import UNANSWERED
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Done
from atoll.core.messages.reputation import (
    AskHealth,
    NodeHealth,
    ReportTransfers,
    StandingList,
    TransferSum,
)
from atoll.runtime.database import SqlDatabase

PIECE = b"p" * 16
STRANGER = b"s" * 32


def failures(count: int, slot: int = 1, reason: str = "wrong") -> list[FailedSample]:
    return [
        FailedSample(
            n.to_bytes(16, "big"), slot, reason=reason, evidence=f"verdict:{slot:02x}{n:02x}"
        )
        for n in range(count)
    ]


@pytest.fixture
def world(database: SqlDatabase) -> World:
    return World(database)


async def health(world: World, alias: int) -> NodeHealth:
    await world.service.flush()
    return await world.service.health(alias)


async def test_the_first_nodes_are_vetted_at_once_and_later_ones_are_not(
    database: SqlDatabase,
) -> None:
    world = World(database, replace(LIMITS, founding_ms=5_000))
    (first,) = await world.join()
    assert world.standing(first) is Standing.VETTED
    await world.pass_ms(6_000)
    (late,) = await world.join()
    assert world.standing(late) is Standing.UNVETTED
    await world.pass_ms(world.limits.vetting_ms + world.limits.window_ms)
    assert world.standing(late) is Standing.VETTED


async def test_vetting_takes_samples_and_time(database: SqlDatabase) -> None:
    limits = replace(LIMITS, founding_ms=0, vetting_samples=100, vetting_ms=20_000)
    world = World(database, limits)
    (quick, idle) = await world.join(2)
    world.service.observe_possession(quick, 100, [], slot=1)
    await world.settle()
    assert world.standing(quick) is Standing.UNVETTED  # not old enough
    await world.pass_ms(30_000)
    assert world.standing(quick) is Standing.VETTED
    assert world.standing(idle) is Standing.UNVETTED
    found = await health(world, idle)
    assert found.axes[-1].margin.startswith("100 samples")


async def test_a_node_that_lost_pieces_is_disqualified_with_evidence(world: World) -> None:
    loser, *_ = await world.join(5)
    world.service.observe_possession(loser, 10, failures(7))
    await world.settle()
    assert world.standing(loser) is Standing.DISQUALIFIED
    found = await health(world, loser)
    line = found.history[0]
    assert (line.after, line.axis, line.threshold) == ("disqualified", "possession", "+13.81")
    assert "verdict:0106" in line.evidence
    assert [check.piece for check in found.failed].count((6).to_bytes(16, "big")) == 1
    assert all(check.slot == 1 and not check.forgiven for check in found.failed)
    assert world.service.judgement(loser).forfeit
    world.service.observe_possession(loser, 3000, failures(1, slot=2), slot=2)
    await world.settle()
    later = await health(world, loser)
    assert later.axes[0].figure == found.axes[0].figure
    assert later.failed[0].slot == 2


async def test_early_warning_and_suspicion_come_first(world: World) -> None:
    node, *_ = await world.join(5)
    world.service.observe_possession(node, 0, failures(1), slot=1)
    await world.settle()
    assert world.standing(node) is Standing.VETTED
    assert (await health(world, node)).history[0].kind == "warning"
    world.service.observe_possession(node, 0, failures(3, slot=2), slot=2)
    await world.settle()
    assert world.standing(node) is Standing.SUSPECT
    world.service.observe_possession(node, 3000, [], slot=3)
    await world.settle()
    assert world.standing(node) is Standing.VETTED


async def test_disqualified_stays_disqualified(world: World) -> None:
    thief = Identity(b"t" * 32)
    (alias,) = await world.join(identity=thief)
    await world.join(4)
    world.service.observe_possession(alias, 0, failures(9))
    await world.settle()
    (again,) = await world.join(identity=thief)
    assert again == alias
    assert world.standing(alias) is Standing.DISQUALIFIED
    await world.service.stop()
    reborn = world.another(judges=True)
    await reborn.start()
    reborn.observe_possession(alias, 100_000, [], slot=9)
    await reborn.tick()
    world.clock.time_ms += LIMITS.settle_ms + 1
    await reborn.tick()
    assert reborn.standing(alias) is Standing.DISQUALIFIED
    assert reborn.standing(2) is Standing.VETTED


async def test_a_stale_process_does_not_whitewash_a_disqualified_node(world: World) -> None:
    (alias, *_) = await world.join(4)
    other = world.another(judges=True)
    await world.service.flush()
    await other.start()
    world.service.observe_possession(alias, 0, failures(9))
    await world.settle()
    other.observe_retrieval(alias, True)
    await other.flush()
    record = await world.database.read(lambda c: store.read_record(c, alias))
    assert record is not None
    assert record.standing is Standing.DISQUALIFIED


async def test_what_a_node_reports_first_costs_nothing(world: World) -> None:
    (honest, *_) = await world.join(5)
    lost = [sample.piece for sample in failures(9)]
    world.service.amnesty(honest, lost, "reported by the node itself")
    await world.pass_ms(1_000)
    world.service.observe_possession(honest, 0, failures(9))
    await world.settle()
    assert world.standing(honest) is Standing.VETTED
    found = await health(world, honest)
    assert {check.forgiven for check in found.failed} == {"the node had reported this loss itself"}
    assert found.history[0].kind == "amnesty"
    await world.service.stop()
    reborn = world.another(judges=True)
    await reborn.start()
    reborn.observe_possession(honest, 0, failures(9, slot=2), slot=2)
    await reborn.stop()
    assert reborn.standing(honest) is Standing.VETTED


async def test_a_report_that_comes_after_the_question_does_not_help(world: World) -> None:
    (liar, *_) = await world.join(5)
    due_ms = world.clock.time_ms
    await world.pass_ms(1_000)
    samples = [replace(sample, at_ms=due_ms) for sample in failures(9)]
    world.service.amnesty(liar, [sample.piece for sample in samples], "too late")
    world.service.observe_possession(liar, 0, samples)
    await world.settle()
    assert world.standing(liar) is Standing.DISQUALIFIED


async def test_answers_missing_from_many_count_against_nobody(world: World) -> None:
    nodes = await world.join(10)
    for alias in nodes[:4]:
        world.service.observe_possession(alias, 0, failures(9, reason=UNANSWERED))
    for alias in nodes[4:]:
        world.service.observe_possession(alias, 32, [], slot=1)
    await world.settle()
    assert {world.standing(alias) for alias in nodes} == {Standing.VETTED}
    listing = await world.service.listing()
    assert (listing.forgiven[0].operators_failed, listing.forgiven[0].operators) == (4, 10)
    found = await health(world, nodes[0])
    assert found.failed[0].forgiven.startswith("mass failure: 4 of 10")


async def test_a_young_cloud_is_forgiven_as_well(database: SqlDatabase) -> None:
    world = World(database, replace(LIMITS, founding_ms=0, vetting_ms=10**9))
    nodes = await world.join(10)
    for slot in range(3):
        for alias in nodes:
            few = failures(4, slot, UNANSWERED) if alias in nodes[:4] else []
            world.service.observe_possession(alias, 0 if few else 32, few, slot=slot)
        await world.settle()
    assert {world.standing(alias) for alias in nodes} == {Standing.UNVETTED}
    assert len((await world.service.listing()).forgiven) == 3


async def test_wrong_answers_of_some_are_not_forgiven(world: World) -> None:
    nodes = await world.join(10)
    for alias in nodes[:4]:
        world.service.observe_possession(alias, 0, failures(9))
    for alias in nodes[4:]:
        world.service.observe_possession(alias, 32, [], slot=1)
    await world.settle()
    assert [world.standing(alias) for alias in nodes].count(Standing.DISQUALIFIED) == 4


async def test_an_excused_slot_counts_against_nobody(world: World) -> None:
    nodes = await world.join(5)
    world.service.observe_possession(nodes[0], 0, failures(9))
    world.service.excuse_slot(1, "no verifier was up")
    await world.settle()
    assert world.standing(nodes[0]) is Standing.VETTED
    assert (await health(world, nodes[0])).failed[0].forgiven == "no verifier was up"


async def test_fresh_keys_make_no_mass(database: SqlDatabase) -> None:
    world = World(database, replace(LIMITS, founding_ms=1_000, vetting_ms=10**9))
    old = await world.join(5)
    await world.pass_ms(2_000)
    sybils = await world.join(20)
    for alias in (old[0], *sybils):
        world.service.observe_possession(alias, 0, failures(9, reason=UNANSWERED))
    for alias in old[1:]:
        world.service.observe_possession(alias, 32, [], slot=1)
    await world.settle()
    assert world.standing(old[0]) is Standing.SUSPENDED


async def test_proofs_that_do_not_come_suspend_and_never_disqualify(world: World) -> None:
    (mute, *others) = await world.join(6)
    for slot in range(30):
        world.service.observe_possession(mute, 0, failures(1, slot, UNANSWERED), slot=slot)
        for alias in others:
            world.service.observe_possession(alias, 32, [], slot=slot)
        await world.settle()
    assert world.standing(mute) is Standing.SUSPENDED
    found = await health(world, mute)
    assert (found.history[0].axis, found.failed[0].axis) == ("answers", "answers")
    assert "send its proofs" in found.history[0].remedy
    for slot in range(100, 160):
        world.service.observe_possession(mute, 32, [], slot=slot)
    await world.settle()
    assert world.standing(mute) is Standing.VETTED
    assert {world.standing(alias) for alias in others} == {Standing.VETTED}


async def test_an_absent_node_is_suspended_and_remedies_it(world: World) -> None:
    nodes = await world.join(8)
    away = nodes[0]
    await world.windows(10)
    world.silent.add(away)
    await world.windows(8)
    assert world.standing(away) is Standing.SUSPENDED
    found = await health(world, away)
    axis = next(one for one in found.axes if one.axis == "availability")
    assert axis.deadline_ms == found.deadline_ms > world.clock.time_ms
    assert "since the suspension" in axis.remedy
    assert axis.level == "breach"
    line = found.history[0]
    assert (line.kind, line.before, line.after) == ("standing", "suspect", "suspended")
    assert line.figure.endswith("windows")
    assert "since the suspension" in line.remedy
    world.silent.clear()
    await world.windows(9)
    assert world.standing(away) is Standing.VETTED
    assert not world.service.judgement(away).forfeit
    await world.windows(20)
    assert world.standing(away) is Standing.VETTED  # what is remedied is not held against it again
    assert {world.standing(alias) for alias in nodes[1:]} == {Standing.VETTED}


async def test_after_the_grace_its_pieces_count_as_lost_until_it_remedies(world: World) -> None:
    nodes = await world.join(8)
    await world.windows(10)
    world.silent.add(nodes[0])
    await world.windows(8)
    assert not world.service.judgement(nodes[0]).forfeit
    await world.pass_ms(LIMITS.grace_ms + LIMITS.window_ms)
    assert world.standing(nodes[0]) is Standing.SUSPENDED
    assert world.service.judgement(nodes[0]).forfeit
    world.silent.clear()
    await world.windows(80)
    assert world.standing(nodes[0]) is Standing.VETTED
    assert not world.service.judgement(nodes[0]).forfeit


async def test_many_absent_at_once_are_forgiven(world: World) -> None:
    nodes = await world.join(10)
    await world.windows(10)
    world.silent |= set(nodes[:4])
    await world.windows(12)
    world.silent.clear()
    await world.windows(2)
    assert {world.standing(alias) for alias in nodes} == {Standing.VETTED}
    listing = await world.service.listing()
    assert listing.forgiven
    assert all(node.online_share == 1.0 for node in listing.nodes)


async def test_our_own_absence_counts_against_nobody(world: World) -> None:
    nodes = await world.join(5)
    await world.windows(12)
    world.clock.time_ms += 50 * LIMITS.window_ms
    await world.windows(2)
    assert {world.standing(alias) for alias in nodes} == {Standing.VETTED}
    assert all(n.online_share == 1.0 for n in (await world.service.listing()).nodes)


async def test_a_node_that_refuses_reads_is_suspended_and_recovers(world: World) -> None:
    nodes = await world.join(6)
    sums = [TransferSum(alias=alias, reads=40) for alias in nodes[1:]]
    for _ in range(5):
        await report(world, TransferSum(alias=nodes[0], reads=1, refused=6), *sums)
    assert world.standing(nodes[0]) is Standing.SUSPENDED
    assert {world.standing(alias) for alias in nodes[1:]} == {Standing.VETTED}
    for _ in range(5):
        await report(world, TransferSum(alias=nodes[0], reads=40), *sums)
    assert world.standing(nodes[0]) is Standing.VETTED


async def report(world: World, *sums: TransferSum, reporter: bytes = b"") -> None:
    message = ReportTransfers(nodes=list(sums), reporter=reporter)
    await world.service.handlers[ReportTransfers](message)
    await world.pass_ms(LIMITS.tick_ms)


async def test_one_stranger_alone_harms_nobody_but_two_do(world: World) -> None:
    nodes = await world.join(6)
    bad = TransferSum(alias=nodes[0], refused=10, silent=10)
    good = [TransferSum(alias=alias, reads=40) for alias in nodes[1:]]
    for _ in range(5):
        await report(world, bad, *good, reporter=STRANGER)
    assert world.standing(nodes[0]) is Standing.VETTED
    await report(world, bad, *good, reporter=b"t" * 32)
    await report(world, bad, *good, reporter=STRANGER)
    assert world.standing(nodes[0]) is Standing.SUSPENDED


async def test_silence_on_one_line_counts_against_nobody(world: World) -> None:
    nodes = await world.join(6)
    good = [TransferSum(alias=alias, reads=40) for alias in nodes[1:]]
    for _ in range(20):
        await report(world, TransferSum(alias=nodes[0], silent=20), *good)
    assert world.standing(nodes[0]) is Standing.VETTED


async def test_a_gateway_that_meets_many_failures_is_itself_at_fault(world: World) -> None:
    nodes = await world.join(6)
    for _ in range(5):
        await report(world, *[TransferSum(alias=alias, refused=10) for alias in nodes[:4]])
    assert {world.standing(alias) for alias in nodes} == {Standing.VETTED}


async def test_our_own_line_that_fails_counts_against_nobody(world: World) -> None:
    nodes = await world.join(8)
    for _ in range(10):
        for alias in nodes:
            world.service.observe_retrieval(alias, False, reason="refused: unreachable")
        await world.pass_ms(LIMITS.tick_ms)
    assert {world.standing(alias) for alias in nodes} == {Standing.VETTED}
    assert (await world.service.listing()).forgiven[0].axis == "retrieval"
    assert (await health(world, nodes[0])).failed[0].forgiven.startswith("mass failure")


async def test_whole_reads_refused_suspend_also_a_quarter_of_all(world: World) -> None:
    nodes = await world.join(8)
    for _ in range(7):
        for alias in nodes:
            good = alias not in nodes[:2]
            world.service.observe_retrieval(
                alias, good, piece=PIECE, reason="" if good else "refused: overloaded"
            )
        await world.pass_ms(LIMITS.tick_ms)
    assert [world.standing(alias) for alias in nodes].count(Standing.SUSPENDED) == 2
    assert (await health(world, nodes[0])).failed[0].piece == PIECE


async def test_claimed_room_that_is_not_there_makes_suspect(world: World) -> None:
    nodes = await world.join(6)
    for _ in range(3):
        await report(world, TransferSum(alias=nodes[0], full=5, puts=1))
    assert world.standing(nodes[0]) is Standing.SUSPECT
    await world.pass_ms(LIMITS.capacity_forget_ms + LIMITS.window_ms)
    assert world.standing(nodes[0]) is Standing.VETTED


async def test_reports_of_other_processes_reach_the_judge_and_standings_come_back(
    world: World,
) -> None:
    nodes = await world.join(6)
    worker = world.another(judges=False)
    message = ReportTransfers(
        nodes=[TransferSum(alias=nodes[0], refused=10, p50_ms=8, p95_ms=9, reads=9)]
    )
    assert isinstance(await worker.handlers[ReportTransfers](message), Done)
    await world.pass_ms(1_500)
    assert world.standing(nodes[0]) is Standing.SUSPENDED
    before = worker.version
    world.clock.time_ms += 2_000
    await worker.fresh()
    assert worker.standing(nodes[0]) is Standing.SUSPENDED
    assert worker.judgement(nodes[0]).latency_ms == 8
    assert worker.version > before
    assert (await worker.health(nodes[0])).standing == "suspended"
    page = await worker.listing(0, 2)
    assert isinstance(page, StandingList)
    assert (len(page.nodes), page.more) == (2, True)


@pytest.mark.parametrize(
    "message",
    [
        ReportTransfers(nodes=[TransferSum(alias=1, reads=-1)]),
        ReportTransfers(nodes=[TransferSum(alias=1, p50_ms=float("nan"))]),
        ReportTransfers(nodes=[TransferSum(alias=1, bytes_per_s=float("inf"))]),
        ReportTransfers(nodes=[TransferSum(alias=1), TransferSum(alias=1)]),
        ReportTransfers(region="\n"),
        ReportTransfers(nodes=[TransferSum(alias=n) for n in range(10_001)]),
    ],
)
async def test_reports_that_cannot_be_are_refused(world: World, message: ReportTransfers) -> None:
    with pytest.raises(AtollError) as caught:
        await world.service.handlers[ReportTransfers](message)
    assert caught.value.kind is Kind.BAD_REQUEST


async def test_exiting_is_shown_as_long_as_it_lasts(world: World) -> None:
    who = Identity(b"e" * 32)
    (alias,) = await world.join(identity=who)
    await world.join(identity=who, exiting=True)
    await world.pass_ms(1_000)
    assert world.standing(alias) is Standing.EXITING
    await world.join(identity=who, exiting=False)
    await world.pass_ms(1_000)
    assert world.standing(alias) is Standing.VETTED


async def test_trust_takes_time_without_suspicion(database: SqlDatabase) -> None:
    world = World(database, replace(LIMITS, trusted_ms=60_000))
    (steady, shaky, *_) = await world.join(5)
    await world.pass_ms(40_000)
    world.service.observe_possession(shaky, 0, failures(4), slot=1)
    await world.settle()
    world.service.observe_possession(shaky, 5000, [], slot=2)
    await world.pass_ms(30_000)
    assert world.standing(steady) is Standing.TRUSTED
    assert world.standing(shaky) is Standing.VETTED


async def test_a_node_asks_with_its_own_key(world: World) -> None:
    (alias, *_) = await world.join(2)
    handler = world.service.node_handlers[AskHealth]
    found = await handler(AskHealth(), world.identities[alias].public_key, 0)
    assert isinstance(found, NodeHealth)
    assert found.alias == alias
    with pytest.raises(AtollError) as caught:
        await handler(AskHealth(), Identity(b"x" * 32).public_key, 0)
    assert caught.value.kind is Kind.NOT_FOUND


async def test_histories_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SAMPLES_KEPT_MAX", 20)
    monkeypatch.setattr(store, "EVENTS_KEPT_MAX", 5)
    (alias, *_) = await world.join(5)
    for slot in range(30):
        due = [replace(s, at_ms=world.clock.time_ms) for s in failures(1, slot, reason="x")]
        world.service.observe_possession(alias, 2000, due, slot=slot)
        world.service.amnesty(alias, [bytes([slot] * 16)], "x")
        await world.settle()
    await world.service.flush()

    rows = await world.database.read(
        lambda c: (
            c.exec_driver_sql("SELECT count(*) FROM reputation_sample").scalar(),
            c.exec_driver_sql("SELECT count(*) FROM reputation_event WHERE alias = 1").scalar(),
        )
    )
    assert rows == (20, 5)


async def test_the_open_window_survives_a_restart_as_not_counted(world: World) -> None:
    nodes = await world.join(4)
    await world.windows(14)
    before = (await world.service.listing()).nodes[0].windows
    await world.service.stop()
    reborn = world.another(judges=True)
    await reborn.start()
    world.service = reborn
    await world.windows(2)
    listing = await reborn.listing()
    assert listing.nodes[0].windows >= before
    assert {reborn.standing(alias) for alias in nodes} == {Standing.VETTED}
