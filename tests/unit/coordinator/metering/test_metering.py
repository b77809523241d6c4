"""Bytes times time, what two readings share; epochs that close once and can be explained."""

import os
from types import SimpleNamespace

import msgspec
import pytest
from sqlalchemy.engine import Connection
from tests.fixtures.epochs import PARAMETERS
from tests.unit.coordinator.market.providers import Providers, provider
from tests.unit.coordinator.metadata.world import ACCOUNT, Metadata, StillClock, tiny

from atoll.cli.receipt import lines_of
from atoll.coordinator.audit import store as audit_store
from atoll.coordinator.audit.model import FAILED, MISSED, PASSED, Result
from atoll.coordinator.market.rules import first_state, price_of, tariff_of
from atoll.coordinator.metering import rules, service
from atoll.coordinator.metering.model import Count, Line, MeteringConfig, Place, SlotResult
from atoll.coordinator.metering.service import MeteringService
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Answer, Message
from atoll.core.scheme import Layout
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.model import FIRST, EpochInputs, NodeTerms
from atoll.gateway.customer import receipt
from atoll.gateway.customer.call import CustomerCall
from atoll.runtime.database import SqlDatabase

SLOT_MS = 10_000
SECOND_MS = 1_000
PRICE = 1_000_000


def piece_bytes(size: int) -> int:
    record = tiny(size)
    return Layout(size, record.k, record.n, record.unit_bytes).piece_bytes


class World:
    """A customer's bucket on three nodes, and the meters."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database
        self.clock = StillClock()
        self.metadata = Metadata(database, self.clock)
        self.providers = Providers(database, self.clock)
        self.meters = self.another()

    def another(self) -> MeteringService:
        return MeteringService(
            self.clock,
            self.database,
            self.providers.registry,
            MeteringConfig(1.0),
            price_of=price_of,
            slot_ms=SLOT_MS,
        )

    async def begin(self) -> bytes:
        for number in (1, 2, 3):
            await self.providers.post(number, PRICE * number)
        return await self.metadata.make_bucket()

    async def pass_s(self, seconds: int) -> int:
        self.clock.time_ms += seconds * SECOND_MS
        return await self.meters.read()

    async def judge(self, slot: int, alias: int, outcome: str, failed: int = 0) -> None:
        verdict = b"" if outcome == MISSED else os.urandom(20)
        samples = 0 if outcome == MISSED else 32
        result = Result(slot, alias, outcome, samples, failed, (), verdict)
        assert await self.database.write(lambda c: audit_store.add_result(c, result))


@pytest.fixture
def world(database: SqlDatabase) -> World:
    return World(database)


async def test_bytes_are_counted_by_the_millisecond(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    began_ms = world.clock.time_ms
    assert await world.pass_s(10) == 3 * piece_bytes(5_000)
    await world.pass_s(20)
    closed = await world.meters.close(1)
    assert (closed.from_ms, closed.until_ms) == (began_ms, began_ms + 30_000)
    found = await world.meters.metered(1)
    assert len(found.storage) == 3, "what rests is one line"
    for number, line in enumerate(found.storage, 1):
        assert line.node == provider(number).node_id
        assert line.payer == ACCOUNT
        assert line.byte_ms == piece_bytes(5_000) * 30_000
        assert line.price_pico == PRICE * number * 1_000


async def test_only_what_was_there_at_both_ends_is_charged(world: World) -> None:
    bucket = await world.begin()
    await world.meters.read()
    await world.metadata.put(bucket, "late", [tiny(2_000)])
    assert await world.pass_s(10) == 0
    await world.metadata.put(bucket, "later", [tiny(3_000)])
    assert await world.pass_s(10) == 3 * piece_bytes(2_000)
    await world.metadata.delete(bucket, "late", "later")
    assert await world.pass_s(10) == 0
    await world.meters.close(1)
    lines = (await world.meters.metered(1)).storage
    assert sum(line.byte_ms for line in lines) == 3 * piece_bytes(2_000) * 10_000


async def test_a_new_price_begins_a_new_line(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    await world.pass_s(10)
    await world.providers.post(1, 7 * PRICE)
    await world.pass_s(10)
    await world.meters.close(1)
    found = (await world.meters.metered(1)).storage
    assert len(found) == 4
    lines = [line for line in found if line.node == provider(1).node_id]
    assert [line.price_pico for line in lines] == [PRICE * 1_000, 7 * PRICE * 1_000]
    assert sum(line.byte_ms for line in lines) == piece_bytes(5_000) * 20_001


async def test_epochs_follow_each_other_without_a_gap(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    ends = []
    for epoch in (1, 2, 3):
        await world.pass_s(7)
        world.clock.time_ms += 500
        ends.append(await world.meters.close(epoch))
    assert [one.from_ms for one in ends[1:]] == [one.until_ms for one in ends[:-1]]
    for epoch, closed in enumerate(ends, 1):
        lines = (await world.meters.metered(epoch)).storage
        length_ms = closed.until_ms - closed.from_ms
        assert [line.byte_ms for line in lines] == [piece_bytes(5_000) * length_ms] * 3


async def test_closing_again_gives_what_was_closed(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    await world.pass_s(10)
    closed = await world.meters.close(1)
    before = await world.meters.metered(1)
    await world.pass_s(10)
    assert await world.another().close(1) == closed
    assert await world.meters.metered(1) == before
    assert await world.meters.last() == closed
    for wrong in (3, 0):
        with pytest.raises(AtollError) as caught:
            await world.meters.close(wrong)
        assert caught.value.kind is Kind.CONFLICT
    with pytest.raises(AtollError) as caught:
        await world.meters.metered(2)
    assert caught.value.kind is Kind.NOT_FOUND


async def test_an_epoch_needs_two_readings(world: World) -> None:
    await world.begin()
    with pytest.raises(AtollError, match="first time"):
        await world.meters.close(1)
    assert await world.meters.last() is None


async def test_of_several_coordinators_each_second_is_charged_once(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    other = world.another()
    for _ in range(5):
        await world.pass_s(1)
        await other.read()
    await other.close(1)
    lines = (await world.meters.metered(1)).storage
    assert sum(line.byte_ms for line in lines) == 3 * piece_bytes(5_000) * 5_000


async def test_a_reading_that_began_before_another_changes_nothing(world: World) -> None:
    """Of two coordinators that read at the same time the later one counts."""
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    world.clock.time_ms += 5_000
    early = await world.another()._count()
    await world.pass_s(5)
    assert await world.database.write(lambda c: service._take(c, early)) == 0
    await world.meters.close(1)
    lines = (await world.meters.metered(1)).storage
    assert sum(line.byte_ms for line in lines) == 3 * piece_bytes(5_000) * 10_000


async def test_an_epoch_closed_while_another_coordinator_reads_ends_with_that_reading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    began_ms = world.clock.time_ms
    other, count = world.another(), world.meters._count

    async def overtaken() -> object:
        reading = await count()
        world.clock.time_ms += 4_000
        await other.read()
        return reading

    world.clock.time_ms += 6_000
    monkeypatch.setattr(world.meters, "_count", overtaken)
    closed = await world.meters.close(1)
    assert closed.until_ms == began_ms + 10_000
    monkeypatch.undo()
    await world.pass_s(5)
    await world.meters.close(2)
    for epoch, length_ms in ((1, 10_000), (2, 5_000)):
        lines = (await world.meters.metered(epoch)).storage
        assert [line.byte_ms for line in lines] == [piece_bytes(5_000) * length_ms] * 3


async def test_a_cloud_at_rest_writes_nothing_but_the_time(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    await world.pass_s(5)

    def rows(connection: Connection) -> list[tuple[object, ...]]:
        found = connection.exec_driver_sql("SELECT * FROM meter_line ORDER BY alias").all()
        return [tuple(row) for row in found]

    before = await world.database.read(rows)
    for _ in range(3):
        assert await world.pass_s(5) == 3 * piece_bytes(5_000)
    assert await world.database.read(rows) == before
    assert len(before) == 3


async def test_many_segments_are_counted_page_by_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PAGE_SEGMENTS", 3)
    bucket = await world.begin()
    for number in range(10):
        await world.metadata.put(bucket, f"{number}", [tiny(1_000 + number)])
    await world.meters.read()
    expected = sum(3 * piece_bytes(1_000 + number) for number in range(10))
    assert await world.pass_s(5) == expected


async def test_a_clock_set_back_charges_no_second_twice(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    await world.pass_s(10)
    world.clock.time_ms -= 6_000
    assert await world.meters.read() == 0
    await world.pass_s(10)
    await world.meters.close(1)
    lines = (await world.meters.metered(1)).storage
    assert sum(line.byte_ms for line in lines) == 3 * piece_bytes(5_000) * 14_000


async def test_proofs_of_an_epoch_are_those_of_its_slots(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    first = world.clock.time_ms // SLOT_MS
    for slot in range(first, first + 8):
        await world.judge(slot, 1, PASSED)
        await world.judge(slot, 2, MISSED if slot % 2 else FAILED, failed=0 if slot % 2 else 8)
    await world.pass_s(80)
    await world.meters.close(1)
    found = {line.node: line for line in (await world.meters.metered(1)).proofs}
    good, bad = found[provider(1).node_id], found[provider(2).node_id]
    counted = good.slots_due
    assert 4 <= counted <= 6, "the last slots may still be judged"
    assert (good.slots_missed, good.samples, good.failed) == (0, 32 * counted, 0)
    assert good.fraction() == (counted * 32 * counted, counted * 32 * counted)
    assert bad.slots_due == counted
    assert 0 < bad.slots_missed < counted
    assert bad.failed == 8 * (counted - bad.slots_missed)
    await world.pass_s(40)
    await world.meters.close(2)
    rest = {line.node: line for line in (await world.meters.metered(2)).proofs}
    assert rest[provider(1).node_id].slots_due == 8 - counted, "each slot counts once"


async def test_a_line_of_an_epoch_is_explained_by_its_evidence(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    head = b"a head that both signed"
    await world.database.write(lambda c: audit_store.keep_head(c, 2, 7, head))
    await world.meters.read()
    await world.pass_s(10)
    await world.meters.close(1)
    lines = (await world.meters.metered(1)).storage
    assert len({line.evidence for line in lines}) == 3
    explained = await world.meters.explain(lines[1].evidence)
    assert explained.node_id == provider(2).node_id
    assert explained.line.byte_ms == lines[1].byte_ms
    assert explained.line.head
    assert explained.line.evidence(explained.node_id) == lines[1].evidence
    assert not (await world.meters.explain(lines[0].evidence)).line.head
    for unknown in (b"", b"x" * 32):
        with pytest.raises(AtollError) as caught:
            await world.meters.explain(unknown)
        assert caught.value.kind is Kind.NOT_FOUND


async def test_a_receipt_is_explained_to_whose_it_is_and_nobody_else(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()
    await world.pass_s(10)
    await world.meters.close(1)
    line = (await world.meters.metered(1)).storage[0]

    class Control:
        async def ask(self, request: Message, answer: type[Answer]) -> Answer:
            found = await world.meters.handlers[type(request)](request)
            assert isinstance(found, answer)
            return found

    async def ask(account: bytes, evidence: str) -> receipt.ReceiptShown:
        services, caller = SimpleNamespace(control=Control()), SimpleNamespace(account=account)
        body = msgspec.json.encode({"evidence": evidence})
        return await receipt.explain(CustomerCall(services, caller, body))  # type: ignore[arg-type]

    shown = await ask(ACCOUNT, line.evidence.hex())
    assert (shown.epoch, shown.bucket) == (1, bucket.hex())
    assert shown.piece_bytes * (shown.until_ms - shown.from_ms) == line.byte_ms
    assert "(10 s)" in "\n".join(lines_of(shown))
    for account, evidence, kind in (
        (b"a stranger's id!", line.evidence.hex(), Kind.NOT_FOUND),
        (ACCOUNT, "00" * 32, Kind.NOT_FOUND),
        (ACCOUNT, "", Kind.NOT_FOUND),
        (ACCOUNT, "no hex", Kind.BAD_REQUEST),
    ):
        with pytest.raises(AtollError) as caught:
            await ask(account, evidence)
        assert caught.value.kind is kind


async def test_repair_work_is_taken_down_once_and_settled_with_its_epoch(world: World) -> None:
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(5_000)])
    await world.meters.read()

    async def finish(task: bytes, rebuilt: list[int]) -> None:
        holders = {0: 2, 1: 3, 2: 3}
        await world.database.write(
            lambda c: world.meters.note_repair(c, task, 1, rebuilt, holders, 700, [b"r1", b"r2"])
        )

    await finish(b"t" * 16, [0, 1, 2, 9])
    await finish(b"t" * 16, [0, 1, 2, 9])
    await world.pass_s(10)
    await world.meters.close(1)
    await finish(b"u" * 16, [0])
    found = (await world.meters.metered(1)).repairs
    assert [(one.failed, one.byte_count) for one in found] == [
        (b"", 700),
        (provider(2).node_id, 700),
        (provider(3).node_id, 1_400),
    ]
    assert {one.worker for one in found} == {provider(1).node_id}
    assert len({one.evidence for one in found}) == 3
    await world.pass_s(10)
    await world.meters.close(2)
    (rest,) = (await world.meters.metered(2)).repairs
    assert rest.byte_count == 700


async def test_what_is_metered_is_what_an_epoch_is_computed_from(world: World) -> None:
    """A customer's bytes, three prices, one node that fails half: figures by hand."""
    bucket = await world.begin()
    await world.metadata.put(bucket, "a", [tiny(8_000)] * 1)
    await world.meters.read()
    first = world.clock.time_ms // SLOT_MS
    for slot in range(first, first + 60):
        await world.judge(slot, 1, PASSED)
        await world.judge(slot, 2, PASSED if slot % 2 else MISSED)
    await world.pass_s(600)
    closed = await world.meters.close(1)
    found = await world.meters.metered(1)
    inputs = EpochInputs(
        epoch=1,
        from_ms=closed.from_ms,
        until_ms=closed.until_ms,
        nodes=[NodeTerms(provider(n).node_id, bytes((n,)) * 20, "home") for n in (1, 2, 3)],
        customers=[],
        storage=list(found.storage),
        egress=[],
        repairs=[],
        proofs=list(found.proofs),
        slashes=[],
        credits=[],
    )
    result = compute(FIRST, inputs, tariff_of({"home": first_state("home")}), PARAMETERS)
    by_node = {one.node: one for one in result.nodes}
    whole = by_node[provider(1).node_id]
    assert whole.released_pico > 0, "tiny amounts come out non-zero"
    month_pico = piece_bytes(8_000) * 600_000 * PRICE * 1_000
    assert abs(whole.released_pico - month_pico // (10**9 * 2_592_000_000)) <= 2
    half = by_node[provider(2).node_id]
    assert abs(half.released_pico - whole.released_pico) <= 3, "twice the price, half of it proven"
    assert by_node[provider(3).node_id].released_pico == 0
    (customer,) = result.customers
    assert customer.refund_pico > 0


PLACE, OTHER = Place(1, b"b"), Place(2, b"b")


def test_a_bucket_that_changed_hands_is_charged_to_nobody() -> None:
    before, now = {PLACE: Count(b"me", 5)}, {PLACE: Count(b"you", 5)}
    assert rules.charged(before, now, {}, 0, 10) == []
    assert rules.charged(before, before, {}, 10, 10) == []
    assert rules.charged(before, {OTHER: Count(b"me", 5)}, {}, 0, 10) == []


def test_lines_go_on_only_while_nothing_changes() -> None:
    known = Line(PLACE, b"me", 5, 3, 0, 0)
    for change, goes_on in (
        (Line(PLACE, b"me", 5, 3, 10, 20), True),
        (Line(PLACE, b"me", 6, 3, 10, 20), False),
        (Line(PLACE, b"me", 5, 4, 10, 20), False),
        (Line(PLACE, b"you", 5, 3, 10, 20), False),
    ):
        ended, new = rules.merged([known], [change], 10)
        assert (len(ended), len(new)) == ((0, 0) if goes_on else (1, 1))
        assert all(line.until_ms == 10 for line in ended)
    assert rules.merged([known], [], 10)[0][0].until_ms == 10
    over = Line(PLACE, b"me", 5, 3, 0, 7)
    assert rules.merged([over], [], 10) == ([], [])


def test_evidence_of_proofs_binds_every_verdict() -> None:
    slots = [SlotResult(1, slot, PASSED, 32, 0, b"v") for slot in (5, 6)]
    (found,) = rules.proofs_of(slots)
    (turned,) = rules.proofs_of(slots[::-1])
    assert found == turned
    (other,) = rules.proofs_of([slots[0], SlotResult(1, 6, PASSED, 32, 0, b"w")])
    assert other.evidence != found.evidence
