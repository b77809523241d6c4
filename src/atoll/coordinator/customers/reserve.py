"""What is set aside so that locked data is paid for until its locks end.

Where paid is first, nothing is locked for longer than its customer has prepaid: what the lock
costs at the prices of now leaves what is available, and nothing else uses it up. So when nothing
is left for the rest, what is locked stays and is paid. Legal holds have no end, and no reserve.
"""

from collections.abc import Iterable

from sqlalchemy.engine import Connection

from atoll.coordinator.customers import store
from atoll.coordinator.customers.rules import Prices
from atoll.coordinator.metadata.store import buckets, locks, objects, segments
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CommitObject, CompleteUpload, OrderSegment, SegmentRecord
from atoll.core.messages.retention import LockObject
from atoll.core.money import MONTH_MS, PICO_PER_MICRO, show_euro
from atoll.core.retention import DAY_MS, Mode
from atoll.core.scheme import Layout
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind


def rate_of(records: Iterable[SegmentRecord], prices: Prices) -> int:
    """Return what segments cost in a month where they lie, pico-euro."""
    total = 0
    for record in records:
        layout = Layout(record.plain_bytes, record.k, record.n, record.unit_bytes)
        for piece in record.pieces:
            total += prices.month_of(piece.alias, layout.piece_bytes)
    return total


def cost_of(rate_pico: int, span_ms: int, prices: Prices) -> int:
    """Return what keeping something costs for some time, rounded up."""
    return -(-rate_pico * max(0, span_ms) * prices.time_factor // MONTH_MS)


def locks_new(connection: Connection, bucket: bytes) -> bool:
    """Say whether new objects of a bucket are locked."""
    return locks.default_lock(connection, bucket)[0] is not Mode.NONE


def of_lock(
    connection: Connection, request: LockObject, prices: Prices, now_ms: int
) -> tuple[bytes, int]:
    """Return whose lock it is and what it costs beyond what is locked already."""
    bucket = buckets.bucket_by_id(connection, request.bucket)
    key = request.key.encode("utf-8", "surrogatepass")
    row = objects.find_object(connection, request.bucket, key)
    if bucket is None or row is None or request.state.until_ms <= now_ms:
        return b"", 0
    before = locks.find_lock(connection, request.bucket, key)
    paid_ms = before.until_ms if before is not None and before.stream == row.stream else 0
    rate = rate_of(segments.records_of_stream(connection, row.stream, row.segments), prices)
    return bucket.account, cost_of(rate, request.state.until_ms - max(now_ms, paid_ms), prices)


def of_default(
    connection: Connection,
    request: CommitObject | CompleteUpload | OrderSegment,
    prices: Prices,
) -> tuple[bytes, int]:
    """Return whose new object it is and what its bucket's default lock costs."""
    mode, days = locks.default_lock(connection, request.bucket)
    bucket = buckets.bucket_by_id(connection, request.bucket)
    if bucket is None or mode is Mode.NONE or not days:
        return b"", 0
    if isinstance(request, OrderSegment):
        # Where it will lie is not known yet: refused here is what is too dear wherever it lies.
        rate = min(
            (prices.month_of(alias, request.plain_bytes) for alias in prices.nodes), default=0
        )
    elif isinstance(request, CommitObject):
        rate = rate_of(request.segments, prices)
    else:
        stored = segments.segments_of_stream(connection, request.upload)
        rate = rate_of((one.record() for one in stored), prices)
    return bucket.account, cost_of(rate, days * DAY_MS, prices)


def reserved_micro(connection: Connection, account: bytes, prices: Prices, now_ms: int) -> int:
    """Return what is set aside for everything that an account has locked now.

    What the locks cost from now on, rounded up; but where prices rose beyond what is prepaid, no
    more than leaves what the locked data has cost since the last settled epoch to be charged.
    """
    total = rate = 0
    for until_ms, record in store.locked_segments(connection, account, now_ms):
        one = rate_of([record], prices)
        total += cost_of(one, until_ms - now_ms, prices)
        rate += one
    balance = ledger_store.balance(connection, Account.of(AccountKind.CUSTOMER, account))
    unsettled = cost_of(rate, now_ms - store.posted_until(connection), prices)
    return -(-max(0, min(total, balance.amount_pico - unsettled)) // PICO_PER_MICRO)


def refusal(cost_pico: int, available_pico: int) -> AtollError:
    """Return the error for a lock that is not prepaid."""
    return AtollError(
        Kind.UNPAID,
        "lock object",
        f"keeping it locked for so long costs {show_euro(_cents_up(cost_pico))}, prepaid is "
        f"{show_euro(max(0, available_pico))}",
        hint="pay in first (`atoll invoice pay`), or lock it for a shorter time",
    )


def _cents_up(amount_pico: int) -> int:
    return -(-amount_pico // PICO_PER_MICRO) * PICO_PER_MICRO
