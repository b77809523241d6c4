"""Finds segments of narrow schemes, hands them to gateways, swaps places when a copy is stored.

The coordinator looks: how many independent operators each policy in use has, since when, and in a
survey through the segment table how many segments are narrower than that. Any process that answers
gateways hands out work by those rows. No state is kept in memory.
"""

import logging
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import Usage
from atoll.coordinator.metadata.rules import bad_request, check_segments, key_bytes
from atoll.coordinator.metadata.serials import check_serials
from atoll.coordinator.metadata.service import no_bucket
from atoll.coordinator.metadata.store import buckets, changes, locks, objects, packs, segments
from atoll.coordinator.part import Part, Step
from atoll.coordinator.placement.service import PlacementService
from atoll.coordinator.upgrade import store
from atoll.coordinator.upgrade.rules import (
    CLASSES,
    Allowance,
    Since,
    UpgradeProfile,
    allowance,
    gains,
    looked,
    offered,
    ripe_before_ms,
    with_spent,
)
from atoll.coordinator.upgrade.store import DueBucket, Stretch, Walk
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SHORT_ID_BYTES
from atoll.core.messages.packing import DECLINED_MAX
from atoll.core.messages.upgrades import (
    CommitUpgrade,
    GetUpgrades,
    LeaseUpgrade,
    UpgradeCommitted,
    UpgradeItem,
    UpgradeStatus,
    UpgradeWork,
)
from atoll.core.ports import Clock, Database
from atoll.core.retention import parse_record, retained
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX

log = logging.getLogger("atoll.coordinator.upgrade")

PAGE_SEGMENTS = 2_000
"""Segments that one step of the survey counts: some milliseconds."""
SURVEY_PAUSE_S = 0.05
PAGE_OBJECTS = 1_000
PAGES_MAX = 50
"""Pages of objects that one question looks at; a longer search goes on with the next."""
ITEMS_MAX = 64
"""Segments handed out at once."""
ITEMS_BYTES_MAX = 256 << 20
"""Plaintext handed out at once, unless a single segment has more."""
POLICIES_MAX = 1_000
"""Policies whose operators are looked at; buckets of others wait."""
IDLE_PAUSE_MS = 5_000
"""Between questions of a worker that got nothing."""
COUNTER_SEGMENTS = "upgraded_segments"
COUNTER_BYTES = "upgraded_bytes"


@dataclass(frozen=True, slots=True)
class _Basket:
    """What a search found, and where it goes on."""

    items: list[UpgradeItem]
    walk: Walk

    @property
    def plain_bytes(self) -> int:
        return sum(item.segment.plain_bytes for item in self.items)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a question for work finds; ``holds`` says that the worker has a lease to give back."""

    due: DueBucket | None
    k: int
    basket: _Basket | None
    holds: bool


class UpgradeService(Part):
    """Answers ``LeaseUpgrade``, ``CommitUpgrade`` and ``GetUpgrades``."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        placement: PlacementService,
        profile: UpgradeProfile,
        segment_key: bytes = b"",
    ) -> None:
        self._clock = clock
        self._database = database
        self._placement = placement
        self._profile = profile
        self._segment_key = segment_key
        self.handlers = {
            LeaseUpgrade: self.lease,
            CommitUpgrade: self.commit,
            GetUpgrades: self.status,
        }
        self.steps = [
            Step("count segments below their class", self.survey, profile.look_ms / 1000),
            Step("look for operators of a wider class", self.look, profile.look_ms / 1000),
        ]

    # --- looking --------------------------------------------------------------------------------

    async def look(self) -> None:
        """See which classes the placement of each policy in use has operators for now."""

        def read(connection: Connection) -> tuple[list[int], dict[int, dict[int, Since]]]:
            return store.policies_in_use(connection, POLICIES_MAX), store.offers(connection)

        policies, before = await self._database.read(read)
        now_ms = self._clock.now_ms()
        known: dict[tuple[int, int], Since | None] = {}
        for policy in policies:
            for scheme in CLASSES[1:]:
                try:
                    pool = self._placement.pool_of_scheme(SEGMENT_PLAIN_BYTES_MAX, scheme, policy)
                except AtollError as unknown:
                    log.info("operators of a policy are not counted: %s", unknown)
                    break
                one = before.get(policy, {}).get(scheme.k)
                known[policy, scheme.k] = looked(
                    one, scheme, pool.independent, now_ms, self._profile
                )
        for policy in before.keys() - set(policies):
            known |= {(policy, k): None for k in before[policy]}
        await self._database.write(partial(store.put_offers, known=known))

    async def survey(self) -> None:
        """Count all segments, a page at a time; a restart goes on where the last one was."""
        now_ms = self._clock.now_ms()
        before_ms = now_ms - self._profile.survey_ms
        state = await self._database.read(store.read_state)
        if not state.surveying:
            if state.survey_began_ms > before_ms:
                return
            await self._database.write(
                partial(store.begin_survey, now_ms=now_ms, before_ms=before_ms)
            )
            state = await self._database.read(store.read_state)
        while state.surveying:
            page = await self._database.read(
                partial(
                    store.survey_page,
                    after=state.survey_serial,
                    limit=PAGE_SEGMENTS,
                    now_ms=now_ms,
                )
            )
            last = page.rows < PAGE_SEGMENTS
            kept = await self._database.write(
                partial(
                    store.keep_page,
                    state=state,
                    page=page,
                    now_ms=self._clock.now_ms(),
                    last=last,
                )
            )
            if last or not kept:
                return
            await self._clock.sleep(SURVEY_PAUSE_S)
            state = await self._database.read(store.read_state)

    async def status(self, _: GetUpgrades | None = None) -> UpgradeStatus:
        """Say how many segments are below the class that their placement offers, and progress."""
        now_ms = self._clock.now_ms()

        def read(connection: Connection) -> UpgradeStatus:
            classes = _offered(connection, now_ms, self._profile)
            below = plain_bytes = locked = 0
            for policy, k, found in store.counts(connection):
                if k < classes.get(policy, 0):
                    below += found.segments - found.locked
                    plain_bytes += found.plain_bytes
                    locked += found.locked
            done = segments.read_counters(connection)
            return UpgradeStatus(
                below_segments=below,
                below_bytes=plain_bytes,
                locked_segments=locked,
                upgraded_segments=done.get(COUNTER_SEGMENTS, 0),
                upgraded_bytes=done.get(COUNTER_BYTES, 0),
                offered=sorted(set(classes.values())),
                surveyed_ms=store.read_state(connection).survey_ended_ms,
            )

        return await self._database.read(read)

    # --- handing out ----------------------------------------------------------------------------

    async def lease(self, request: LeaseUpgrade) -> UpgradeWork:
        """Return segments of one bucket to copy, leased to the worker; the narrowest first.

        A worker that asks is through with what it had.
        """
        if len(request.worker) != SHORT_ID_BYTES:
            raise bad_request(f"a worker's name has {SHORT_ID_BYTES} bytes")
        if len(request.declined) > DECLINED_MAX:
            raise bad_request(f"at most {DECLINED_MAX} buckets are declined at once")
        now_ms = self._clock.now_ms()
        worker = request.worker

        def search(connection: Connection) -> _Found:
            classes = _offered(connection, now_ms, self._profile)
            left = allowance(store.read_state(connection).spent, now_ms, self._profile)
            due = None
            if classes and left.any:
                by_policy = sorted(classes.items())
                due = store.due_bucket(connection, by_policy, request, now_ms)
            if due is None:
                return _Found(None, 0, None, store.holds(connection, worker, now_ms))
            basket = self._search(connection, due, left, now_ms)
            return _Found(due, classes[due.info.policy], basket, True)

        found = await self._database.read(search)
        due, basket = found.due, found.basket
        if due is None or basket is None:
            if found.holds:
                await self._database.write(partial(store.release, worker=worker))
            return UpgradeWork(bucket=None, pause_ms=IDLE_PAUSE_MS)
        leased = await self._database.write(
            partial(self._lease, basket=basket, worker=worker, now_ms=now_ms)
        )
        if not leased or not basket.items:
            return UpgradeWork(bucket=None, pause_ms=self._profile.pause_ms)
        return UpgradeWork(
            bucket=due.info, k=found.k, items=basket.items, pause_ms=self._profile.pause_ms
        )

    def _search(
        self, connection: Connection, due: DueBucket, left: Allowance, now_ms: int
    ) -> _Basket:
        """Take packs first, then objects' segments by key, until the basket is full."""
        items: list[UpgradeItem] = []
        ripe_ms = ripe_before_ms(now_ms, self._profile, small=False)
        room = _Room(min(ITEMS_MAX, left.segments), min(ITEMS_BYTES_MAX, left.plain_bytes))
        key, position = due.after_key, due.after_position
        if not key and position < 0:
            for pack in store.packs_of(connection, due.info.bucket, due.k, ripe_ms, ITEMS_MAX):
                if not room.take(pack.plain_bytes):
                    return _Basket(items, _walk(due, b"", -1, now_ms))
                items.append(UpgradeItem(key="", segment=pack.record()))
        small_ms = ripe_before_ms(now_ms, self._profile, small=True)
        more = True
        for _ in range(PAGES_MAX):
            last, more = store.page_end(connection, due.info.bucket, key, PAGE_OBJECTS)
            if last is None:
                break
            where = Stretch(due.info.bucket, due.k, key, position, last, ripe_ms, small_ms)
            for name, segment in store.narrow_segments(connection, where, now_ms, ITEMS_MAX + 1):
                if not room.take(segment.plain_bytes):
                    return _Basket(items, _walk(due, key, position, now_ms))
                text = name.decode("utf-8", "surrogateescape")
                items.append(UpgradeItem(key=text, segment=segment.record()))
                key, position = name, segment.position
            key, position = last, segments.POSITION_END
            if not more:
                break
        if more:
            return _Basket(items, _walk(due, key, position, now_ms))
        return _Basket(items, _walk(due, b"", -1, now_ms + self._profile.survey_ms))

    def _lease(self, connection: Connection, basket: _Basket, worker: bytes, now_ms: int) -> bool:
        """Lease a basket; False where the budget went to another worker meanwhile, or the bucket.

        The state's row first: whoever hands out at the same moment waits.
        """
        spent = store.lock_spent(connection)
        store.release(connection, worker)
        walk = basket.walk
        if basket.items:
            if allowance(spent, now_ms, self._profile).segments < len(basket.items):
                return False
            until_ms = now_ms + self._profile.lease_ms
            walk = replace(walk, lease_owner=worker, lease_until_ms=until_ms)
        if not store.keep_walk(connection, walk, worker, now_ms):
            return False
        if basket.items:
            more = with_spent(spent, now_ms, len(basket.items), basket.plain_bytes)
            store.spend(connection, more)
        return True

    # --- the swap -------------------------------------------------------------------------------

    async def commit(self, request: CommitUpgrade) -> UpgradeCommitted:
        """Put a copy in its segment's place. Raises ``BUCKET_NOT_FOUND``, ``BAD_REQUEST``."""
        record = request.segment
        if record.packed is not None:
            raise bad_request("a copy lies in no pack")
        check_segments([record], record.plain_bytes)
        check_serials(self._segment_key, [(record.segment, record.serial)])
        now_ms = self._clock.now_ms()
        swapped = await self._database.write(
            partial(_commit, request=request, now_ms=now_ms, grace_ms=self._profile.grace_ms)
        )
        return UpgradeCommitted(swapped=swapped)


class _Room:
    """What still fits into a basket: at least one segment."""

    def __init__(self, count: int, plain_bytes: int) -> None:
        self._count, self._bytes = count, plain_bytes
        self._empty = True

    def take(self, plain_bytes: int) -> bool:
        """Take a segment if it fits."""
        if self._count <= 0 or (plain_bytes > self._bytes and not self._empty):
            return False
        self._count -= 1
        self._bytes -= plain_bytes
        self._empty = False
        return True


def _walk(due: DueBucket, key: bytes, position: int, due_ms: int) -> Walk:
    return Walk(due.info.bucket, due.k, key, position, due_ms)


def _offered(connection: Connection, now_ms: int, profile: UpgradeProfile) -> dict[int, int]:
    """Return the class (``k``) that each policy offers, those without one left out."""
    found = {
        policy: offered(known, now_ms, profile)
        for policy, known in store.offers(connection).items()
    }
    return {policy: k for policy, k in found.items() if k}


def _commit(connection: Connection, request: CommitUpgrade, now_ms: int, grace_ms: int) -> bool:
    record, bucket = request.segment, request.bucket
    policy = buckets.lock_bucket(connection, bucket)
    if policy is None:
        raise no_bucket()
    known = segments.segment_by_id(connection, record.segment)
    if known is not None:
        if known.bucket != bucket:
            raise bad_request("the copy belongs to another bucket")
        # The first answer was lost on its way.
        return True
    change = _swap(connection, request, policy, now_ms, grace_ms)
    if change is None:
        segments.discard_segments(connection, bucket, [record], now_ms)
        return False
    old_k, usage = change
    store.count_down(connection, bucket, old_k, record.plain_bytes)
    segments.add_counters(connection, {COUNTER_SEGMENTS: 1, COUNTER_BYTES: record.plain_bytes})
    segments.add_usage(connection, bucket, usage, record.segment)
    return True


def _swap(
    connection: Connection, request: CommitUpgrade, policy: int, now_ms: int, grace_ms: int
) -> tuple[int, Usage] | None:
    """Swap if nothing speaks against it; return the old ``k`` and what the bucket holds more.

    Raises ``BAD_REQUEST`` for a copy of another length.
    """
    bucket, record = request.bucket, request.segment
    key = key_bytes(request.key) if request.key else b""
    row = objects.lock_object(connection, bucket, key) if key else None
    old = segments.segment_by_id(connection, request.old)
    if old is None or old.bucket != bucket or (key and (row is None or row.stream != old.stream)):
        return None
    if old.plain_bytes != record.plain_bytes:
        raise bad_request("the copy has another length")
    if not gains(old.k, len(old.pieces), record.k, len(record.pieces)):
        return None
    if key and _is_locked(connection, bucket, key, old.segment, now_ms):
        return None
    if not key and not packs.rename_pack(connection, old.segment, record.segment):
        return None
    stream = old.stream if key else record.segment
    usage = segments.swap_segment(connection, old, record, stream, policy, now_ms, grace_ms)
    if usage is None:
        if not key:
            raise AtollError(Kind.CONFLICT, "swap segments", "a pack without a segment")
        return None
    if key:
        changes.note_keys(connection, bucket, [key], now_ms, changes.NOBODY)
    else:
        changes.note_pack(connection, bucket, record.segment, now_ms)
    return old.k, usage


def _is_locked(
    connection: Connection, bucket: bytes, key: bytes, segment: bytes, now_ms: int
) -> bool:
    """Say whether the holders of a segment obey, or are about to obey, its owner's lock."""
    if locks.is_locked(connection, bucket, key, now_ms):
        return True
    kept = locks.segment_lock(connection, segment)
    return kept is not None and retained(parse_record(kept.record), now_ms)
