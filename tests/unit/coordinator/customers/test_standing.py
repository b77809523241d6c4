"""What happens when nothing is left: notice, read-only, grace, deletion; what is locked stays."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.coordinator.customers.world import (
    ANNA,
    DAY_MS,
    EUR,
    GATEWAY,
    TIMES,
    World,
    statement,
    transfer,
)

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    CommitObject,
    CreateBucket,
    CreateUpload,
    ObjectFacts,
    OrderSegment,
    SegmentGrant,
)
from atoll.core.money import parse_euro
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase

BODY = b"x" * 200_000


async def store(world: World, *keys: str) -> None:
    assert (await world.anna("PUT", "/photos")).status == 200
    for key in keys:
        answer = await world.anna("PUT", f"/photos/{key}", body=BODY)
        assert answer.status == 200, answer.body


async def exhaust(world: World) -> None:
    """Use up what is left: a nano-euro lasts a moment."""
    await world.deposit(ANNA, EUR // 10**9 - await world.balance(ANNA))
    await world.coordinator.metering.read()
    await world.wait(1_000)
    await world.wait(DAY_MS)


async def standing(world: World) -> str:
    return (await world.bill()).standing


async def test_nothing_is_stored_before_something_is_paid_in(world: World) -> None:
    await world.customers.judge()
    refused = await world.anna("PUT", "/photos")
    assert (refused.status, refused.code) == (403, "AccountProblem")
    await world.bank_says(statement(transfer(ANNA, 500)))
    await store(world, "a")
    bill = await world.bill()
    assert (bill.standing, bill.refused, bill.balance_eur) == ("active", "", "5.00")


async def test_an_empty_balance_means_notice_read_only_grace_deletion(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a", "b")
    await exhaust(world)
    assert await standing(world) == "notice"
    bill = await world.bill()
    assert bill.standing_until_ms == bill.standing_since_ms + TIMES.notice_ms
    assert (await world.anna("PUT", "/photos/c", body=BODY)).status == 200, "all works yet"
    await world.wait(TIMES.notice_ms)
    assert await standing(world) == "read_only"
    refused = await world.anna("PUT", "/photos/d", body=BODY)
    assert (refused.status, refused.code) == (403, "AccountProblem")
    assert b"atoll invoice pay" in refused.body, "it says what to do"
    assert (await world.anna("GET", "/photos/a")).body == BODY
    assert (await world.anna("DELETE", "/photos/c")).status == 204
    await world.wait(TIMES.read_only_ms)
    assert await standing(world) == "grace"
    assert (await world.anna("GET", "/photos/a")).body == BODY
    assert await world.removal.step() == 0, "nothing is removed before its day"
    await world.wait(TIMES.grace_ms)
    assert await standing(world) == "deletion"
    assert await world.removal.step() == 2
    assert (await world.anna("GET", "/photos/a")).status == 404
    kinds = [one.kind for one in (await world.bill()).notices]
    assert kinds[:4] == ["deletion", "grace", "read_only", "notice"]


async def test_a_transfer_makes_writable_again_at_any_step(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await exhaust(world)
    for number, step in enumerate((TIMES.notice_ms, TIMES.read_only_ms, TIMES.grace_ms)):
        await world.wait(step)
        assert (await world.anna("PUT", "/photos/x", body=BODY)).code == "AccountProblem"
        if number == 2:
            break
    taken = await world.bank_says(statement(transfer(ANNA, 2_000)))
    assert taken.credited_eur == "20.00"
    assert await standing(world) == "active"
    assert (await world.anna("PUT", "/photos/x", body=BODY)).status == 200
    assert await world.removal.step() == 0, "whoever paid keeps what he has"
    assert (await world.anna("GET", "/photos/a")).body == BODY


async def test_no_time_is_taken_away_by_a_coordinator_that_was_off(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await exhaust(world)
    await world.wait(400 * DAY_MS)
    assert await standing(world) == "read_only"
    bill = await world.bill()
    assert bill.standing_until_ms == world.clock.time_ms + TIMES.read_only_ms
    await world.customers.judge()
    assert await standing(world) == "read_only"


async def test_locked_data_is_never_removed_before_its_lock_ends(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "free", "locked", "held")
    now_ms = world.clock.time_ms
    await lock(world, "locked", until_ms=now_ms + 365 * DAY_MS)
    await lock(world, "held", hold=True)
    await exhaust(world)
    for step in (TIMES.notice_ms, TIMES.read_only_ms, TIMES.grace_ms):
        await world.wait(step)
    assert await world.removal.step() == 1
    assert (await world.anna("GET", "/photos/free")).status == 404
    for _ in range(10):
        await world.wait(30 * DAY_MS)
        if world.clock.time_ms >= now_ms + 365 * DAY_MS:
            break
        assert await world.removal.step() == 0
        assert (await world.anna("GET", "/photos/locked")).body == BODY
    world.clock.time_ms = now_ms + 365 * DAY_MS + 1
    assert await world.removal.step() == 1, "its time is over"
    assert (await world.anna("GET", "/photos/locked")).status == 404
    assert (await world.anna("GET", "/photos/held")).body == BODY, "a legal hold has no end"


async def lock(world: World, key: str, until_ms: int = 0, *, hold: bool = False) -> None:
    """Write a lock as its signed records would make it."""
    from atoll.coordinator.metadata.store import buckets, locks, objects
    from atoll.core.retention import Mode

    def write(connection: object) -> None:
        bucket = buckets.find_bucket(connection, "photos")  # type: ignore[arg-type]
        assert bucket is not None
        row = objects.find_object(connection, bucket.bucket, key.encode())  # type: ignore[arg-type]
        assert row is not None
        mode = Mode.COMPLIANCE if until_ms else Mode.NONE
        locks.put_lock(
            connection,  # type: ignore[arg-type]
            locks.LockRow(bucket.bucket, key.encode(), row.stream, mode, until_ms, hold, 1, True),
        )

    await world.database.write(write)


FACTOR = 1_000_000
"""So that keeping an object for a month costs more than what sums are rounded to."""


@pytest.fixture
async def dear(
    database: SqlDatabase, tmp_path: Path, compute: ThreadCompute
) -> AsyncIterator[World]:
    made = World(database, tmp_path / "dear", compute, time_factor=FACTOR)
    await made.begin()
    yield made
    await made.close()


async def month_of(world: World) -> int:
    """Store an object; return what a month of it costs, paid in and left to be used."""
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    await world.coordinator.metering.read()
    return parse_euro((await world.bill()).rate_eur) * FACTOR


async def test_nothing_is_locked_for_longer_than_is_prepaid(dear: World) -> None:
    world = dear
    from atoll.core.messages import Done
    from atoll.core.messages.retention import DefaultLock, SetDefaultLock

    rate = await month_of(world)
    bucket = (await world.gateway.services.buckets.find("photos", fresh=True)).bucket
    await world.deposit(ANNA, 4 * rate - EUR)
    await world.ask(
        SetDefaultLock(bucket=bucket, lock=DefaultLock(mode="compliance", days=150)), Done
    )
    refused = await world.anna("PUT", "/photos/long", body=BODY)
    assert (refused.status, refused.code) == (403, "AccountProblem")
    assert b"locked for so long costs" in refused.body
    await world.ask(
        SetDefaultLock(bucket=bucket, lock=DefaultLock(mode="compliance", days=90)), Done
    )
    assert (await world.anna("PUT", "/photos/locked", body=BODY)).status == 200
    bill = await world.bill()
    reserved = parse_euro(bill.reserved_eur)
    assert abs(reserved - 3 * rate) <= 2 * 10**6, "three months of it are set aside"
    await world.admission.set_aside_all()
    assert (await world.bill()).reserved_eur == bill.reserved_eur
    again = await world.anna("PUT", "/photos/more", body=BODY)
    assert again.code == "AccountProblem", "what is set aside is not spent twice"
    world.clock.time_ms += 45 * DAY_MS
    await world.admission.set_aside_all()
    half = parse_euro((await world.bill()).reserved_eur)
    assert abs(half - reserved // 2) <= 2 * 10**6
    world.clock.time_ms += 46 * DAY_MS
    await world.admission.set_aside_all()
    assert (await world.bill()).reserved_eur == "0.00"


async def test_a_longer_lock_costs_what_it_is_longer(dear: World) -> None:
    world = dear
    from atoll.core.messages.retention import LockObject, LockState

    rate = await month_of(world)
    bucket = (await world.gateway.services.buckets.find("photos", fresh=True)).bucket
    await world.deposit(ANNA, 3 * rate - EUR)

    async def asked(days: int, *, last: bool = True) -> Kind | None:
        state = LockState(mode="compliance", until_ms=world.clock.time_ms + days * DAY_MS)
        request = LockObject(bucket=bucket, key="a", state=state, grant=b"", locks=[], last=last)
        try:
            await world.admission.guards[LockObject](request)
        except AtollError as error:
            return error.kind
        return None

    assert await asked(120) is Kind.UNPAID
    assert await asked(120, last=False) is Kind.UNPAID, "nor its first records"
    assert await asked(60, last=False) is None
    assert await asked(60) is None
    await lock(world, "a", until_ms=world.clock.time_ms + 60 * DAY_MS)
    assert await asked(60) is None, "it is paid"
    assert await asked(85) is None
    assert await asked(120) is Kind.UNPAID


async def test_the_coordinator_refuses_by_itself_what_a_gateway_would_let_through(
    world: World,
) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a")
    bucket = await world.gateway.services.buckets.find("photos", fresh=True)
    await exhaust(world)
    await world.wait(TIMES.notice_ms)
    facts = ObjectFacts(size=0, etag="e", content_type="text/plain")
    order = OrderSegment(bucket=bucket.bucket, plain_bytes=10, gateway_key=GATEWAY.public_key)
    for request in (
        order,
        CommitObject(bucket=bucket.bucket, key="k", facts=facts, segments=[]),
        CreateUpload(bucket=bucket.bucket, key="k", facts=facts),
        CreateBucket(account=ANNA, name="more", region="r"),
    ):
        with pytest.raises(AtollError) as caught:
            await world.ask(request, object)
        assert caught.value.kind is Kind.UNPAID
    upkeep = OrderSegment(
        bucket=bucket.bucket, plain_bytes=10, gateway_key=GATEWAY.public_key, upkeep=True
    )
    await world.ask(upkeep, SegmentGrant)


async def test_others_are_not_touched(world: World) -> None:
    from tests.unit.coordinator.customers.world import BEN

    await world.deposit(ANNA, EUR)
    await world.deposit(BEN, EUR)
    await store(world, "a")
    assert (await world.ben("PUT", "/films")).status == 200
    await exhaust(world)
    await world.wait(TIMES.notice_ms)
    assert (await world.ben("PUT", "/films/f", body=BODY)).status == 200


async def test_what_is_not_locked_does_not_use_up_what_is_set_aside(dear: World) -> None:
    world = dear
    rate = await month_of(world)
    await store_more(world, 3)
    now_ms = world.clock.time_ms
    await lock(world, "a", until_ms=now_ms + 60 * DAY_MS)
    await world.deposit(ANNA, 2 * rate + rate // 20 - EUR)
    await world.admission.set_aside_all()
    assert parse_euro((await world.bill()).reserved_eur) >= 2 * rate - 10**6
    await world.coordinator.metering.read()
    for _ in range(6):
        await world.pass_epoch()
        await world.admission.set_aside_all()
    left_ms = now_ms + 60 * DAY_MS - world.clock.time_ms
    bill = await world.bill()
    balance = await world.balance(ANNA)
    assert parse_euro(bill.unfunded_eur) > 0, "there was too little for all"
    assert balance >= rate * left_ms // (30 * DAY_MS), "the lock is paid until its end"


async def store_more(world: World, count: int) -> None:
    for number in range(count):
        answer = await world.anna("PUT", f"/photos/more-{number}", body=BODY)
        assert answer.status == 200


async def test_a_payment_in_the_middle_of_a_deletion_stops_it(world: World) -> None:
    await world.deposit(ANNA, EUR)
    await store(world, "a", "b")
    await exhaust(world)
    for step in (TIMES.notice_ms, TIMES.read_only_ms, TIMES.grace_ms):
        await world.wait(step)
    assert await standing(world) == "deletion"
    await world.bank_says(statement(transfer(ANNA, 100)))
    # A coordinator that listed who is due before the payment goes on to his buckets.
    assert await world.removal._remove(ANNA) == (0, 0)
    assert (await world.anna("GET", "/photos/a")).body == BODY
