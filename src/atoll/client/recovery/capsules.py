"""Objects that capsules tell of: what no manifest names, and what locks keep.

A manifest is a coordinator's and a gateway's word; whoever has taken over both can write one that
names other objects, or none. A lock in force is the holders' word: while it holds, nothing that
was acknowledged can have taken the object's place. So what is locked comes back, whatever
manifests say.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from atoll.client.keys import Keyring
from atoll.client.lock_keys import lock_keys
from atoll.client.recovery.found import FoundBucket, FoundSegment, stamp_of
from atoll.client.recovery.model import Problem, Source
from atoll.client.recovery.nodes import OwnerNodes
from atoll.client.recovery.store import KnownKey, RecoveryStore
from atoll.core.capsule import CapsuleKind, Description
from atoll.core.errors import AtollError
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import ObjectFacts, SegmentRecord
from atoll.core.messages.recovery import ObjectEntry
from atoll.core.retention import check_record, retained

log = logging.getLogger(__name__)

UPLOAD_MS_MAX = 15 * 60_000
"""A segment ordered so long before the newest manifest, and in none, was never committed, or was
deleted since."""
CONTENT_TYPE_DEFAULT = "binary/octet-stream"
POSITIONS_MAX = 1 << 20
NODES_AT_ONCE = 16
OUTLAWED = "a version was left out: it cannot have taken the place of one that is locked"

Run = list[FoundSegment]
"""The segments of a stream, in order."""
FindAll = Callable[[FoundBucket, Iterable[bytes]], Awaitable[list[FoundSegment]]]


class CapsuleReader:
    """Takes into a store what manifests do not tell."""

    def __init__(
        self,
        store: RecoveryStore,
        nodes: OwnerNodes,
        keyring: Keyring,
        find_all: FindAll,
        name_of: Callable[[bytes], str],
        now_ms: int,
    ) -> None:
        """``find_all`` opens segments of a bucket; ``name_of`` names buckets for people."""
        self._store = store
        self._nodes = nodes
        self._keyring = keyring
        self._find_all = find_all
        self._name_of = name_of
        self._now_ms = now_ms
        self.notes: list[Problem] = []
        """What was left out on purpose."""

    async def read(self, found: FoundBucket) -> None:
        """Find a bucket's objects that no manifest names, and those that locks keep."""
        await self._find_locks(found)
        streams = await self._streams(found)
        uploads: dict[bytes, dict[int, Run]] = {}
        offers: list[tuple[Run, Description | None, dict[int, Run] | None]] = []
        for placed in streams.values():
            run = _whole(placed)
            if run is None:
                continue
            capsule = run[0].capsule
            if not capsule.upload:
                offers.append((run, capsule.description, None))
                continue
            parts = uploads.setdefault(capsule.upload, {})
            before = parts.get(capsule.part)
            if before is None or self._rank(before) < self._rank(run):
                parts[capsule.part] = run
        for parts in uploads.values():
            numbers = sorted(parts)
            if numbers[0] != 1 or numbers[-1] != len(numbers):
                why = "parts of an upload that was not completed as far as is known: left out"
                self._note(found, parts[numbers[0]][0].capsule.name, why)
                continue
            offers.append(([one for n in numbers for one in parts[n]], None, parts))
        for run, description, part_runs in sorted(offers, key=lambda offer: _created_ms(offer[0])):
            self._offer(found, run, description, part_runs)

    # --- locks ------------------------------------------------------------------------------------

    async def _find_locks(self, found: FoundBucket) -> None:
        """Ask every holder for its retention records; note the segments that are locked now."""
        key = lock_keys(self._keyring, found.account, found.bucket).lock.public_key
        turns = asyncio.Semaphore(NODES_AT_ONCE)

        async def one(alias: int) -> None:
            async with turns:
                try:
                    for tag in found.object_tags:
                        await self._ask_records(alias, tag, key)
                except AtollError as fault:
                    log.info("node %d does not show its retention records: %s", alias, fault)

        aliases = range(1, len(self._nodes.outcomes) + 1)
        await asyncio.gather(
            *(one(alias) for alias in aliases if not self._nodes.outcomes[alias - 1].fault)
        )
        self._store.choose_locked(found.bucket)

    async def _ask_records(self, alias: int, tag: bytes, key: bytes) -> None:
        after = b""
        while page := self._store.held_of_tag(tag, alias, after):
            after = page[-1][0]
            pieces = [bytes(piece_id_of(SegmentId(segment), index)) for segment, index in page]
            records = await self._nodes.records(alias, pieces)
            self._store.put_locked(
                segment
                for (segment, _), signed in zip(page, records, strict=True)
                if signed and self._in_force(signed, segment, key)
            )

    def _in_force(self, signed: bytes, segment: bytes, key: bytes) -> bool:
        """Say whether this is the owner's own record for a segment, and forbids its removal."""
        try:
            record = check_record(signed, segment)
        except AtollError:
            return False
        return record.lock_key == key and retained(record, self._now_ms)

    def _locked(self, run: Iterable[FoundSegment | SegmentRecord]) -> bool:
        return any(self._store.is_locked(one.segment) for one in run)

    # --- candidates -------------------------------------------------------------------------------

    async def _streams(self, found: FoundBucket) -> dict[bytes, dict[int, FoundSegment]]:
        streams: dict[bytes, dict[int, FoundSegment]] = {}
        for tag in found.object_tags:
            for page_of in (self._store.unnamed_of_tag, self._store.locked_of_tag):
                after = b""
                while page := page_of(tag, after):
                    after = page[-1]
                    for one in await self._find_all(found, page):
                        if one.capsule.kind == CapsuleKind.OBJECT and self._may_count(found, one):
                            stream = one.capsule.stream or one.segment
                            self._place(streams.setdefault(stream, {}), one)
        return streams

    def _place(self, placed: dict[int, FoundSegment], one: FoundSegment) -> None:
        """Put a segment in its place in a stream.

        A copy in a wider scheme has the place of the segment that it was made from, and perhaps was
        never finished: the locked one counts, else the one of which more pieces may be missing.
        """
        other = placed.setdefault(one.capsule.position, one)
        if self._place_rank(other) < self._place_rank(one):
            placed[one.capsule.position] = one

    def _place_rank(self, one: FoundSegment) -> tuple[bool, int]:
        spare = len(self._store.holders(one.segment)) - one.header.k
        return self._store.is_locked(one.segment), spare

    def _may_count(self, found: FoundBucket, one: FoundSegment) -> bool:
        """Say whether a segment in no manifest may belong to an acknowledged object."""
        if self._store.is_locked(one.segment):
            return True
        created_ms = one.capsule.created_ms
        if found.newest_ms and created_ms < found.newest_ms - UPLOAD_MS_MAX:
            return False
        return not (found.newest_ms > created_ms and self._store.all_trash(one.segment))

    def _rank(self, run: Run) -> tuple[bool, int]:
        """Of two uploads of one part the locked one counts, else the later one."""
        return self._locked(run), run[0].capsule.created_ms

    # --- the choice -------------------------------------------------------------------------------

    def _offer(
        self,
        found: FoundBucket,
        run: Run,
        description: Description | None,
        parts: dict[int, Run] | None,
    ) -> None:
        """Take an object that only capsules tell of, unless more is known of its key."""
        key, locked = run[0].capsule.name, self._locked(run)
        if not locked and any(len(self._store.holders(s.segment)) < s.header.k for s in run):
            self._note(found, key, "an upload that was not finished as far as is known: left out")
            return
        known = self._store.known(found.bucket, key)
        if known is not None and not self._wins(known, run, locked=locked):
            if locked:
                self._note(found, key, OUTLAWED)
            return
        if known is not None and known.segments and locked:
            self._note(found, key, OUTLAWED)
        entry = self._entry(key, run, description or Description(CONTENT_TYPE_DEFAULT), parts)
        self._store.put_entry(found.bucket, entry, 0, Source.CAPSULES, stamp_of(entry))

    def _wins(self, known: KnownKey, run: Run, *, locked: bool) -> bool:
        """Say whether capsules know better than what was found of a key before."""
        kept = self._locked(known.segments)
        if kept or locked:
            # Of several the oldest was acknowledged: it kept the others out.
            return locked and (not kept or _created_ms(run) < known.time_ms)
        if known.time_ms >= _created_ms(run):
            return False
        # An upload that was refused (a condition, a lock) is deleted at once; what it meant to
        # replace is not. Where a coordinator deleted everything, both lie in the trash.
        refused = not any(self._store.is_live(one.segment) for one in run)
        return not (refused and any(map(self._lives, known.segments)))

    def _lives(self, record: SegmentRecord) -> bool:
        move = self._store.move_of(record.segment)
        packs = [record.packed, None if move is None else move.record.packed]
        return any(
            self._store.is_live(segment)
            for segment in (record.segment, *(pack.segment for pack in packs if pack is not None))
        )

    def _entry(
        self, key: str, run: Run, described: Description, parts: dict[int, Run] | None
    ) -> ObjectEntry:
        sizes = []
        if parts is not None:
            sizes = [sum(s.header.plain_bytes for s in parts[n]) for n in sorted(parts)]
        return ObjectEntry(
            key=key,
            modified_ms=_created_ms(run),
            facts=ObjectFacts(
                size=sum(one.header.plain_bytes for one in run),
                etag="",
                content_type=described.content_type,
                headers=described.headers,
                user_metadata=described.user_metadata,
                part_sizes=sizes,
            ),
            segments=[one.record(self._store.roots(one.segment)[0]) for one in run],
        )

    def _note(self, found: FoundBucket, key: str, why: str) -> None:
        self.notes.append(Problem(f"{self._name_of(found.bucket)}/{key}", why))


def _created_ms(run: Sequence[FoundSegment]) -> int:
    return max(one.capsule.created_ms for one in run)


def _whole(placed: dict[int, FoundSegment]) -> Run | None:
    """Return the segments of a stream in order, if they are all there."""
    if 0 not in placed or max(placed) >= POSITIONS_MAX:
        return None
    run = [placed[position] for position in sorted(placed)]
    if sum(one.header.plain_bytes for one in run) != run[0].capsule.stream_bytes:
        return None
    return run
