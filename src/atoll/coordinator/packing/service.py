"""Hands out small segments to gateways that have time, and swaps places when a pack is stored."""

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import Usage
from atoll.coordinator.metadata.rules import bad_request, check_segments
from atoll.coordinator.metadata.serials import check_serials
from atoll.coordinator.metadata.service import no_bucket
from atoll.coordinator.metadata.store import buckets, changes, packs, segments
from atoll.coordinator.packing import store
from atoll.coordinator.packing.rules import Basket, PackingProfile, rest_is_safer
from atoll.coordinator.packing.store import DueBucket, Page, Walk
from atoll.coordinator.part import Part, Step
from atoll.core.errors import AtollError
from atoll.core.ids import SHORT_ID_BYTES
from atoll.core.messages.packing import (
    DECLINED_MAX,
    CommitPack,
    LeasePack,
    PackCommitted,
    PackItem,
    PackWork,
)
from atoll.core.packing import PACK_ITEMS_MAX
from atoll.core.ports import Clock, Database

PAGE_OBJECTS = 1000
PAGES_MAX = 100
"""Pages of objects that one question looks at; a longer search goes on with the next."""
DEAD_PACKS_MAX = 16
"""Packs that are written anew together."""
IDLE_PAUSE_MS = 5_000
"""Between questions of a worker that got nothing."""
FORGET_INTERVAL_S = 3_600.0


class PackingService(Part):
    """Answers ``LeasePack`` and ``CommitPack``."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        profile: PackingProfile,
        segment_key: bytes = b"",
        operators: Callable[[int], int] | None = None,
    ) -> None:
        """``operators`` counts the independent ones of a policy: without it no rest is packed."""
        self._operators = operators
        self._segment_key = segment_key
        self._clock = clock
        self._database = database
        self._profile = profile
        self.handlers = {LeasePack: self.lease, CommitPack: self.commit}
        self.steps = [Step("forget packing of gone buckets", self._forget, FORGET_INTERVAL_S)]

    async def _forget(self) -> None:
        await self._database.write(store.forget_walks)

    async def lease(self, request: LeasePack) -> PackWork:
        """Return small segments of one bucket that are worth a pack, leased to the worker."""
        if len(request.worker) != SHORT_ID_BYTES:
            raise bad_request(f"a worker's name has {SHORT_ID_BYTES} bytes")
        if len(request.declined) > DECLINED_MAX:
            raise bad_request(f"at most {DECLINED_MAX} buckets are declined at once")
        now_ms = self._clock.now_ms()
        declined = frozenset(request.declined)
        if declined:
            await self._database.write(lambda c: store.decline(c, request.worker, declined))
        due = await self._database.read(
            lambda c: store.due_bucket(c, now_ms, request.keys, declined)
        )
        if due is None:
            return PackWork(bucket=None, pause_ms=IDLE_PAUSE_MS)
        wide = self._rest_is_safer(due.info.policy)
        items, walk = await self._database.read(lambda c: self._search(c, due, now_ms, wide=wide))
        if items:
            until_ms = now_ms + self._profile.lease_ms
            walk = replace(walk, lease_owner=request.worker, lease_until_ms=until_ms)
        kept = await self._database.write(lambda c: store.keep_walk(c, walk, now_ms))
        if not kept or not items:
            return PackWork(bucket=None, pause_ms=self._profile.pause_ms)
        return PackWork(bucket=due.info, items=items, pause_ms=self._profile.pause_ms)

    def _search(
        self, connection: Connection, due: DueBucket, now_ms: int, *, wide: bool
    ) -> tuple[list[PackItem], Walk]:
        """Fill a basket: first what is left of packs half dead, then small objects by key.

        What does not fill one is left alone; where a pack is ``wide`` enough, rests are packed.
        """
        basket = Basket()
        items: list[PackItem] = []
        rest = Basket()
        rest_items: list[PackItem] = []
        rest_ms = now_ms - self._profile.rest_age_ms
        dead = self._half_dead(connection, due, basket, items)
        before_ms = now_ms - self._profile.age_ms
        after = due.after_key
        more = True
        for _ in range(PAGES_MAX):
            last, more = store.page_end(connection, due.info.bucket, after, PAGE_OBJECTS)
            if last is None:
                break
            page = Page(due.info.bucket, after, last)
            found = store.small_objects(connection, page, before_ms, PAGE_OBJECTS)
            for key, segment in found:
                if not basket.take(segment.record()):
                    return items, Walk(due.info.bucket, after, now_ms)
                items.append(store.item_of(key, segment))
                if segment.created_ms < rest_ms and rest.take(segment.record()):
                    rest_items.append(items[-1])
                after = key
            after = last
            if not more or basket.full:
                break
        done = not more
        walk = Walk(
            due.info.bucket,
            b"" if done else after,
            now_ms + self._profile.pass_ms if done else now_ms,
        )
        if dead or basket.stored_bytes >= self._profile.bytes_min:
            return items, walk
        if rest.stored_bytes >= self._profile.rest_bytes_min and wide:
            return rest_items, walk
        return [], walk

    def _rest_is_safer(self, policy: int) -> bool:
        if self._operators is None:
            return False
        try:
            return rest_is_safer(self._operators(policy))
        except AtollError:
            return False  # a policy that this process has not heard of yet

    def _half_dead(
        self, connection: Connection, due: DueBucket, basket: Basket, items: list[PackItem]
    ) -> bool:
        found = False
        for pack, _ in packs.half_dead(connection, due.info.bucket, DEAD_PACKS_MAX):
            for segment in packs.packed_in(connection, pack, PACK_ITEMS_MAX):
                if not basket.take(segment):
                    return found
                items.append(PackItem(key="", segment=segment))
                found = True
        return found

    async def commit(self, request: CommitPack) -> PackCommitted:
        """Swap the places of a pack's items. Raises ``BUCKET_NOT_FOUND``, ``BAD_REQUEST``."""
        _check(request)
        check_serials(self._segment_key, [(request.pack.segment, request.pack.serial)])
        now_ms = self._clock.now_ms()
        moved = await self._database.write(lambda c: _commit(c, request, now_ms))
        return PackCommitted(moved=moved)


def _check(request: CommitPack) -> None:
    pack = request.pack
    if pack.packed is not None:
        raise bad_request("a pack lies in no pack")
    check_segments([pack], pack.plain_bytes)
    if not 0 < len(request.items) <= PACK_ITEMS_MAX:
        raise bad_request(f"a pack has 1..{PACK_ITEMS_MAX} items")
    if len({item.segment for item in request.items}) != len(request.items):
        raise bad_request("an item is named twice")
    if any(not 0 <= item.offset < pack.plain_bytes for item in request.items):
        raise bad_request("an item lies outside its pack")


def _commit(connection: Connection, request: CommitPack, now_ms: int) -> int:
    pack, bucket = request.pack, request.bucket
    policy = buckets.lock_bucket(connection, bucket)
    if policy is None:
        raise no_bucket()
    known = segments.segment_by_id(connection, pack.segment)
    if known is not None and known.bucket != bucket:
        raise bad_request("the pack belongs to another bucket")
    if known is not None:
        # The first answer was lost on its way.
        return len(packs.packed_in(connection, pack.segment, PACK_ITEMS_MAX))
    added = segments.insert_segments(connection, bucket, pack.segment, 0, [pack], policy, now_ms)
    moved, moved_bytes, lost = store.move_items(connection, bucket, pack, request.items, now_ms)
    change = added.minus(lost)
    if moved:
        packs.insert_pack(connection, pack, bucket, (moved_bytes, moved), now_ms)
        changes.note_pack(connection, bucket, pack.segment, now_ms)
    else:
        whole = [(pack.segment, 0, segments.POSITION_END)]
        change = Usage().minus(lost)
        segments.collect_streams(connection, whole, now_ms)
    store.release(connection, bucket)
    segments.add_usage(connection, bucket, change, pack.segment)
    return moved
