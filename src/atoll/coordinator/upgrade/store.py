"""The SQL of upgrades: what is offered, the survey, whose turn it is, the swap of places."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.metadata.store.segments import COLUMNS, stored_segment
from atoll.coordinator.sql import Statement
from atoll.coordinator.upgrade.rules import CLASSES, Since, Spent
from atoll.core.messages import BucketInfo
from atoll.core.messages.upgrades import LeaseUpgrade
from atoll.core.packing import SMALL_PLAIN_BYTES_MAX
from atoll.core.retention import parse_record, retained
from atoll.core.scheme import TINY_PLAIN_BYTES_MAX

_OFFERS = Statement("SELECT policy, k, since_ms, seen_ms FROM upgrade_offer ORDER BY policy, k")
_PUT_OFFER = Statement("""
    INSERT INTO upgrade_offer (policy, k, since_ms, seen_ms)
    VALUES (:policy, :k, :since_ms, :seen_ms)
    ON CONFLICT (policy, k) DO UPDATE SET since_ms = excluded.since_ms,
        seen_ms = excluded.seen_ms""")
_DROP_OFFER = Statement("DELETE FROM upgrade_offer WHERE policy = :policy AND k = :k")
_POLICIES = Statement("""
    SELECT DISTINCT b.policy FROM upgrade_count c JOIN bucket b ON b.bucket = c.bucket
    ORDER BY b.policy LIMIT :limit""")

_STATE = Statement("""
    SELECT survey_serial, survey_began_ms, survey_ended_ms, hour, hour_segments, hour_bytes
    FROM upgrade_state WHERE id = 1""")
_BEGIN_STATE = Statement("""
    INSERT INTO upgrade_state (id, survey_serial, survey_began_ms, survey_ended_ms, hour,
        hour_segments, hour_bytes)
    VALUES (1, 0, 0, 0, 0, 0, 0) ON CONFLICT (id) DO NOTHING""")
_BEGIN_SURVEY = Statement("""
    UPDATE upgrade_state SET survey_serial = 0, survey_began_ms = :now_ms
    WHERE id = 1 AND survey_ended_ms >= survey_began_ms AND survey_began_ms <= :before_ms""")
_ADVANCE = Statement("""
    UPDATE upgrade_state SET survey_serial = :serial
    WHERE id = 1 AND survey_serial = :old AND survey_began_ms = :began_ms
        AND survey_ended_ms < survey_began_ms""")
_END_SURVEY = Statement("""
    UPDATE upgrade_state SET survey_ended_ms = :now_ms WHERE id = 1""")
_SPEND = Statement("""
    UPDATE upgrade_state SET hour = :hour, hour_segments = :segments, hour_bytes = :plain_bytes
    WHERE id = 1""")
_LOCK_STATE = Statement("""
    SELECT hour, hour_segments, hour_bytes FROM upgrade_state WHERE id = 1 FOR UPDATE""")

_SURVEY = Statement("""
    SELECT s.serial, s.bucket, s.stream, s.k, s.plain_bytes, l.record
    FROM segment s LEFT JOIN segment_lock l ON l.segment = s.segment
    WHERE s.serial > :after ORDER BY s.serial LIMIT :limit""")
_MANIFEST_STREAMS = Statement("SELECT stream FROM manifest WHERE bucket = :bucket")
_CLEAR_FOUND = Statement("""
    UPDATE upgrade_count SET found_segments = 0, found_bytes = 0, found_locked = 0""")
_ADD_FOUND = Statement("""
    INSERT INTO upgrade_count (bucket, k, segments, plain_bytes, locked, found_segments,
        found_bytes, found_locked)
    VALUES (:bucket, :k, 0, 0, 0, :segments, :plain_bytes, :locked)
    ON CONFLICT (bucket, k) DO UPDATE SET
        found_segments = upgrade_count.found_segments + excluded.found_segments,
        found_bytes = upgrade_count.found_bytes + excluded.found_bytes,
        found_locked = upgrade_count.found_locked + excluded.found_locked""")
_TAKE_FOUND = Statement("""
    UPDATE upgrade_count SET segments = found_segments, plain_bytes = found_bytes,
        locked = found_locked""")
_DROP_EMPTY = Statement("""
    DELETE FROM upgrade_count WHERE segments = 0
        OR bucket NOT IN (SELECT bucket FROM bucket)""")
_DROP_WALKS = Statement("DELETE FROM upgrade_walk WHERE bucket NOT IN (SELECT bucket FROM bucket)")
_COUNT_DOWN = Statement("""
    UPDATE upgrade_count SET segments = segments - 1, plain_bytes = plain_bytes - :plain_bytes
    WHERE bucket = :bucket AND k = :k AND segments > 0""")
_COUNTS = Statement("""
    SELECT b.policy, c.k, sum(c.segments), sum(c.plain_bytes), sum(c.locked)
    FROM upgrade_count c JOIN bucket b ON b.bucket = c.bucket GROUP BY b.policy, c.k""")

_BUCKET = (
    "b.bucket, b.account, b.name, b.region, b.mode, b.created_ms, b.policy, c.k,"
    " coalesce(w.after_key, :nothing), coalesce(w.after_position, -1)"
)
_DUE = Statement(
    """SELECT {columns} FROM upgrade_count c JOIN bucket b ON b.bucket = c.bucket
    LEFT JOIN upgrade_walk w ON w.bucket = c.bucket AND w.k = c.k
    WHERE b.policy = :policy AND c.k < :offered AND c.segments > c.locked
        AND (w.bucket IS NULL OR (w.due_ms <= :now_ms
            AND (w.lease_until_ms <= :now_ms OR w.lease_owner = :worker)))
        AND NOT EXISTS (SELECT 1 FROM manifest_state s WHERE s.bucket = b.bucket
            AND s.keys <> :nothing AND s.keys <> :keys)
    ORDER BY c.k, b.bucket LIMIT :limit""",
    columns=_BUCKET,
)
_KEEP_WALK = Statement("""
    INSERT INTO upgrade_walk (bucket, k, after_key, after_position, due_ms, lease_owner,
        lease_until_ms)
    VALUES (:bucket, :k, :after_key, :after_position, :due_ms, :lease_owner, :lease_until_ms)
    ON CONFLICT (bucket, k) DO UPDATE SET after_key = excluded.after_key,
        after_position = excluded.after_position, due_ms = excluded.due_ms,
        lease_owner = excluded.lease_owner, lease_until_ms = excluded.lease_until_ms
    WHERE upgrade_walk.lease_until_ms <= :now_ms OR upgrade_walk.lease_owner = :worker""")
_HOLDS = Statement("""
    SELECT 1 FROM upgrade_walk WHERE lease_owner = :worker AND lease_until_ms > :now_ms LIMIT 1""")
_RELEASE = Statement("""
    UPDATE upgrade_walk SET lease_until_ms = 0 WHERE lease_owner = :worker""")

_KEYS = Statement("""
    SELECT key FROM object WHERE bucket = :bucket AND key >= :start ORDER BY key LIMIT :limit""")
_OF_OBJECTS = Statement(
    """SELECT object.key, {columns} FROM object
    JOIN segment ON segment.stream = object.stream
    WHERE object.bucket = :bucket AND object.key >= :start AND object.key <= :last
        AND (object.key > :start OR segment.position > :after_position)
        AND segment.k = :k AND segment.plain_bytes > :tiny AND segment.created_ms < :before_ms
        AND (segment.created_ms < :small_before_ms OR segment.plain_bytes > :small
            OR object.segments > 1 OR object.parts > 0)
        AND NOT EXISTS (SELECT 1 FROM object_lock l
            WHERE l.bucket = object.bucket AND l.key = object.key
            AND (l.legal_hold <> 0 OR l.until_ms > :now_ms))
    ORDER BY object.key, segment.position LIMIT :limit""",
    columns=COLUMNS,
)
_PACKS = Statement(
    """SELECT {columns} FROM pack p JOIN segment ON segment.segment = p.segment
    WHERE p.bucket = :bucket AND segment.k = :k AND segment.created_ms < :before_ms
    ORDER BY segment.serial LIMIT :limit""",
    columns=COLUMNS,
)


@dataclass(frozen=True, slots=True)
class State:
    """The survey's place (its last serial, begin and end), and what was handed out lately."""

    survey_serial: int
    survey_began_ms: int
    survey_ended_ms: int
    spent: Spent

    @property
    def surveying(self) -> bool:
        """Whether a survey is under way."""
        return self.survey_ended_ms < self.survey_began_ms


@dataclass(frozen=True, slots=True)
class Found:
    """Segments of one bucket and ``k``, counted; plaintext bytes of those not locked."""

    segments: int = 0
    plain_bytes: int = 0
    locked: int = 0


@dataclass(frozen=True, slots=True)
class SurveyPage:
    """A stretch of the segment table, counted by bucket and ``k``."""

    last_serial: int
    rows: int
    found: Mapping[tuple[bytes, int], Found]


@dataclass(frozen=True, slots=True)
class DueBucket:
    """A bucket to search for segments of one ``k``, and after which place."""

    info: BucketInfo
    k: int
    after_key: bytes
    after_position: int


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the search of a bucket is, when it goes on, and who holds it until when."""

    bucket: bytes
    k: int
    after_key: bytes
    after_position: int
    due_ms: int
    lease_owner: bytes = b""
    lease_until_ms: int = 0


# --- what is offered -----------------------------------------------------------------------------


def policies_in_use(connection: Connection, limit: int) -> list[int]:
    """Return the policies of buckets that have segments which could be wider."""
    return [int(row[0]) for row in _POLICIES.all(connection, limit=limit)]


def offers(connection: Connection) -> dict[int, dict[int, Since]]:
    """Return, by policy and ``k``, since when a class has been possible."""
    found: dict[int, dict[int, Since]] = {}
    for policy, k, since_ms, seen_ms in _OFFERS.all(connection):
        found.setdefault(policy, {})[k] = Since(since_ms, seen_ms)
    return found


def put_offers(connection: Connection, known: Mapping[tuple[int, int], Since | None]) -> None:
    """Write what a look found, by (policy, ``k``)."""
    _PUT_OFFER.many(
        connection,
        [
            {"policy": policy, "k": k, "since_ms": one.since_ms, "seen_ms": one.seen_ms}
            for (policy, k), one in known.items()
            if one is not None
        ],
    )
    gone = [{"policy": policy, "k": k} for (policy, k), one in known.items() if one is None]
    _DROP_OFFER.many(connection, gone)


# --- the survey ----------------------------------------------------------------------------------


def read_state(connection: Connection) -> State:
    """Return the state; zeros before the first survey."""
    row = _STATE.first(connection)
    if row is None:
        return State(0, 0, 0, Spent())
    serial, began_ms, ended_ms, hour, segments, plain_bytes = row
    return State(serial, began_ms, ended_ms, Spent(hour, segments, plain_bytes))


def begin_survey(connection: Connection, now_ms: int, before_ms: int) -> bool:
    """Begin a survey if none is under way and the last one began before a time."""
    _BEGIN_STATE.run(connection)
    if not _BEGIN_SURVEY.run(connection, now_ms=now_ms, before_ms=before_ms):
        return False
    _CLEAR_FOUND.run(connection)
    return True


def survey_page(connection: Connection, after: int, limit: int, now_ms: int) -> SurveyPage:
    """Count the next ``limit`` segments: those of objects and packs that are not tiny."""
    rows = _SURVEY.all(connection, after=after, limit=limit)
    manifests: dict[bytes, frozenset[bytes]] = {}
    found: dict[tuple[bytes, int], Found] = {}
    for _, bucket, stream, k, plain_bytes, record in rows:
        if bucket not in manifests:
            streams = _MANIFEST_STREAMS.all(connection, bucket=bucket)
            manifests[bucket] = frozenset(bytes(row[0]) for row in streams)
        if plain_bytes <= TINY_PLAIN_BYTES_MAX or stream in manifests[bucket]:
            continue
        one = found.get((bucket, k), Found())
        locked = record is not None and retained(parse_record(record), now_ms)
        found[bucket, k] = Found(
            one.segments + 1,
            one.plain_bytes + (0 if locked else plain_bytes),
            one.locked + locked,
        )
    return SurveyPage(int(rows[-1][0]) if rows else after, len(rows), found)


def keep_page(
    connection: Connection, state: State, page: SurveyPage, now_ms: int, *, last: bool
) -> bool:
    """Add a page to the survey; False, with nothing done, if another process was quicker."""
    advanced = _ADVANCE.run(
        connection,
        serial=page.last_serial,
        old=state.survey_serial,
        began_ms=state.survey_began_ms,
    )
    if not advanced:
        return False
    _ADD_FOUND.many(
        connection,
        [
            {
                "bucket": bucket,
                "k": k,
                "segments": one.segments,
                "plain_bytes": one.plain_bytes,
                "locked": one.locked,
            }
            for (bucket, k), one in sorted(page.found.items())
        ],
    )
    if last:
        _TAKE_FOUND.run(connection)
        _DROP_EMPTY.run(connection)
        _DROP_WALKS.run(connection)
        _END_SURVEY.run(connection, now_ms=now_ms)
    return True


def counts(connection: Connection) -> list[tuple[int, int, Found]]:
    """Return (policy, ``k``, sums) of all segments counted."""
    return [
        (int(policy), int(k), Found(int(segments), int(plain_bytes), int(locked)))
        for policy, k, segments, plain_bytes, locked in _COUNTS.all(connection)
    ]


def count_down(connection: Connection, bucket: bytes, k: int, plain_bytes: int) -> None:
    """Note that a bucket has a segment less of this ``k``."""
    _COUNT_DOWN.run(connection, bucket=bucket, k=k, plain_bytes=plain_bytes)


# --- work ----------------------------------------------------------------------------------------


def due_bucket(
    connection: Connection,
    offered: Iterable[tuple[int, int]],
    request: LeaseUpgrade,
    now_ms: int,
) -> DueBucket | None:
    """Return the bucket with the narrowest segments that nobody else works on.

    ``offered`` are (policy, ``k`` of the class that it offers). Buckets that the worker declined,
    or whose keys it has not, are left out.
    """
    declined = frozenset(request.declined)
    best = None
    for policy, k in offered:
        rows = _DUE.all(
            connection,
            policy=policy,
            offered=k,
            worker=request.worker,
            keys=request.keys,
            now_ms=now_ms,
            nothing=b"",
            limit=1 + len(CLASSES) * len(declined),
        )
        row = next((one for one in rows if one[0] not in declined), None)
        if row is not None and (best is None or row[7] < best[7]):
            best = row
    if best is None:
        return None
    bucket, account, name, region, mode, created_ms, policy, k, key, position = best
    info = BucketInfo(
        bucket=bucket,
        account=account,
        name=bytes(name).decode(),
        region=region,
        mode=mode,
        created_ms=created_ms,
        policy=policy,
    )
    return DueBucket(info, k, bytes(key), position)


def keep_walk(connection: Connection, walk: Walk, worker: bytes, now_ms: int) -> bool:
    """Note how far a search is. Returns False if another worker took the bucket meanwhile."""
    return bool(
        _KEEP_WALK.run(
            connection,
            bucket=walk.bucket,
            k=walk.k,
            after_key=walk.after_key,
            after_position=walk.after_position,
            due_ms=walk.due_ms,
            lease_owner=walk.lease_owner,
            lease_until_ms=walk.lease_until_ms,
            worker=worker,
            now_ms=now_ms,
        )
    )


def holds(connection: Connection, worker: bytes, now_ms: int) -> bool:
    """Say whether a worker has a lease."""
    return _HOLDS.first(connection, worker=worker, now_ms=now_ms) is not None


def release(connection: Connection, worker: bytes) -> None:
    """Give back what a worker holds: it asks for more, so it is through."""
    _RELEASE.run(connection, worker=worker)


def spend(connection: Connection, spent: Spent) -> None:
    """Note what was handed out in an hour."""
    _SPEND.run(connection, hour=spent.hour, segments=spent.segments, plain_bytes=spent.plain_bytes)


def lock_spent(connection: Connection) -> Spent:
    """Return what was handed out lately, and keep others from adding to it."""
    row = _LOCK_STATE.first(connection)
    return Spent() if row is None else Spent(*row)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where to look for segments of one ``k`` in a bucket: which keys, how old."""

    bucket: bytes
    k: int
    start: bytes
    """The first key."""
    after_position: int
    """Of the first key's segments only those above this position."""
    last: bytes
    """The last key."""
    before_ms: int
    small_before_ms: int
    """The same for what the packer may still take."""


def page_end(
    connection: Connection, bucket: bytes, start: bytes, limit: int
) -> tuple[bytes | None, bool]:
    """Return the last key of the next ``limit`` objects, and whether there may be more after it."""
    keys = _KEYS.all(connection, bucket=bucket, start=start, limit=limit)
    return (bytes(keys[-1][0]) if keys else None), len(keys) == limit


def narrow_segments(
    connection: Connection, where: Stretch, now_ms: int, limit: int
) -> list[tuple[bytes, StoredSegment]]:
    """Return (key, segment) of one ``k``, not locked and old enough, by key and position."""
    rows = _OF_OBJECTS.all(
        connection,
        bucket=where.bucket,
        start=where.start,
        after_position=where.after_position,
        last=where.last,
        k=where.k,
        tiny=TINY_PLAIN_BYTES_MAX,
        small=SMALL_PLAIN_BYTES_MAX,
        before_ms=where.before_ms,
        small_before_ms=where.small_before_ms,
        now_ms=now_ms,
        limit=limit,
    )
    return [(bytes(row[0]), stored_segment(row[1:])) for row in rows]


def packs_of(
    connection: Connection, bucket: bytes, k: int, before_ms: int, limit: int
) -> list[StoredSegment]:
    """Return packs of one ``k``, the oldest first."""
    rows = _PACKS.all(connection, bucket=bucket, k=k, before_ms=before_ms, limit=limit)
    return [stored_segment(row) for row in rows]
