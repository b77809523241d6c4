"""The SQL of customers: their rows, what runs, months, invoices, movements of the bank."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.engine import Connection

from atoll.coordinator.customers.model import (
    Clock,
    Customer,
    InvoiceRow,
    MovementRow,
    OpenLine,
    OpenRead,
    Standing,
    Stored,
    Told,
    UsageLine,
)
from atoll.coordinator.metadata.model import unpack_pieces
from atoll.coordinator.sql import Statement
from atoll.core.messages import SegmentRecord
from atoll.core.messages.customers import CustomerNotice
from atoll.core.money import PICO_PER_MICRO
from atoll.economy.settlement.wire import decode_rows, encode_rows

_CUSTOMER = (
    "account, budget_micro, budget_stops, told_month, told_percent, standing, since_ms, until_ms,"
    " refused, reserved_micro, address, sequence"
)
_ONE = Statement("SELECT {columns} FROM customer WHERE account = :account", _CUSTOMER)
_LOCK_BANK = Statement("SELECT id FROM customer_clock WHERE id = 1 FOR UPDATE")
_HELD = Statement("SELECT {columns} FROM customer WHERE account = :account FOR UPDATE", _CUSTOMER)
_BETWEEN = Statement(
    "SELECT {columns} FROM customer WHERE account > :after AND account <= :last", _CUSTOMER
)
_START = Statement(
    """INSERT INTO customer ({columns}) VALUES (:account, :budget_micro, :budget_stops,
        :told_month, :told_percent, :standing, :since_ms, :until_ms, :refused, :reserved_micro,
        :address, :sequence) ON CONFLICT (account) DO NOTHING""",
    _CUSTOMER,
)
_PUT = Statement(
    """INSERT INTO customer ({columns}) VALUES (:account, :budget_micro, :budget_stops,
        :told_month, :told_percent, :standing, :since_ms, :until_ms, :refused, :reserved_micro,
        :address, :sequence)
    ON CONFLICT (account) DO UPDATE SET budget_micro = excluded.budget_micro,
        budget_stops = excluded.budget_stops, told_month = excluded.told_month,
        told_percent = excluded.told_percent, standing = excluded.standing,
        since_ms = excluded.since_ms, until_ms = excluded.until_ms, refused = excluded.refused,
        reserved_micro = excluded.reserved_micro, address = excluded.address,
        sequence = excluded.sequence""",
    _CUSTOMER,
)
_BALANCES = Statement("""
    SELECT owner, balance_micro, balance_pico FROM ledger_balance
    WHERE kind = 'customer' AND owner > :after AND owner <= :last""")
_MONTHS_BETWEEN = Statement("""
    SELECT account, body FROM customer_month
    WHERE month = :month AND account > :after AND account <= :last""")
_REFUSED = Statement("SELECT account, refused FROM customer WHERE refused <> ''")
_REFUSED_BUCKETS = Statement("""
    SELECT b.bucket, c.account, c.refused FROM customer c
    JOIN bucket b ON b.account = c.account WHERE c.refused <> ''""")
_ACCOUNTS = Statement("""
    SELECT account, owner_name FROM account WHERE account > :after ORDER BY account LIMIT :limit""")
_OWNER = Statement("SELECT owner_name FROM account WHERE account = :account")
_BUCKETS = Statement("SELECT bucket, name FROM bucket WHERE account = :account")
_NOTICES = Statement("""
    SELECT number, time_ms, kind, about FROM customer_notice
    WHERE account = :account ORDER BY number DESC LIMIT :limit""")
_LAST_NOTICE = Statement("""
    SELECT coalesce(max(number), 0) FROM customer_notice WHERE account = :account""")
_PUT_NOTICE = Statement("""
    INSERT INTO customer_notice (account, number, time_ms, kind, about)
    VALUES (:account, :number, :time_ms, :kind, :about)""")

_LINE = "epoch, alias, bucket, account, piece_bytes, price_pico, from_ms, until_ms"
_OPEN = Statement(
    """SELECT {columns} FROM meter_line WHERE epoch = 0 OR epoch > :taken
    ORDER BY epoch, alias, bucket, from_ms""",
    _LINE,
)
_OPEN_OF = Statement(
    """SELECT {columns} FROM meter_line WHERE (epoch = 0 OR epoch > :taken)
    AND account = :account ORDER BY epoch, alias, bucket, from_ms""",
    _LINE,
)
_READ = "epoch, alias, account, byte_count"
_OPEN_READS = Statement(
    "SELECT {columns} FROM read_line WHERE epoch = 0 OR (epoch > 0 AND epoch > :taken)", _READ
)
_OPEN_READS_OF = Statement(
    """SELECT {columns} FROM read_line
    WHERE (epoch = 0 OR (epoch > 0 AND epoch > :taken)) AND account = :account""",
    _READ,
)
_STORED = Statement("SELECT alias, bucket, account, piece_bytes FROM meter_count")
_STORED_OF = Statement("""
    SELECT alias, bucket, account, piece_bytes FROM meter_count WHERE account = :account""")
_WHOSE = Statement("SELECT evidence, account, bucket FROM meter_line WHERE epoch = :epoch")
_LAST_POSTED = Statement("""
    SELECT coalesce(max(epoch), 0) FROM billing_epoch
    WHERE state NOT IN ('begun', 'closed')""")
_POSTED_UNTIL = Statement("""
    SELECT coalesce(max(until_ms), 0) FROM billing_epoch WHERE state <> 'closed'""")
_EPOCH = Statement("""
    SELECT until_ms, content FROM billing_epoch WHERE epoch = :epoch
    AND state NOT IN ('begun', 'closed', 'computed')""")

_CLOCK = Statement("SELECT epoch, until_ms, invoiced FROM customer_clock WHERE id = 1")
_CLOCK_START = Statement("""
    INSERT INTO customer_clock (id, epoch, until_ms, invoiced) VALUES (1, 0, 0, '')
    ON CONFLICT (id) DO NOTHING""")
_CLOCK_HELD = Statement("""
    SELECT epoch, until_ms, invoiced FROM customer_clock WHERE id = 1 FOR UPDATE""")
_SET_CLOCK = Statement("""
    UPDATE customer_clock SET epoch = :epoch, until_ms = :until_ms, invoiced = :invoiced
    WHERE id = 1""")
_MONTH = Statement("""
    SELECT body FROM customer_month WHERE account = :account AND month = :month""")
_OF_MONTH = Statement("""
    SELECT account, body FROM customer_month WHERE month = :month AND account > :after
    ORDER BY account LIMIT :limit""")
_NEXT_MONTH = Statement("""
    SELECT min(month) FROM customer_month WHERE month > :after""")
_PUT_MONTH = Statement("""
    INSERT INTO customer_month (account, month, epoch, body)
    VALUES (:account, :month, :epoch, :body)
    ON CONFLICT (account, month) DO UPDATE SET epoch = excluded.epoch, body = excluded.body""")

_INVOICE = "number, account, month, issued, gross_cents, open_cents, body"
_INVOICES = Statement(
    """SELECT {columns} FROM invoice WHERE account = :account
    ORDER BY issued DESC, number DESC LIMIT :limit""",
    _INVOICE,
)
_OPEN_INVOICES = Statement(
    """SELECT {columns} FROM invoice WHERE account = :account AND open_cents > 0
    ORDER BY issued, number""",
    _INVOICE,
)
_ONE_INVOICE = Statement("SELECT {columns} FROM invoice WHERE number = :number", _INVOICE)
_INVOICE_OF = Statement("SELECT 1 FROM invoice WHERE account = :account AND month = :month LIMIT 1")
_PUT_INVOICE = Statement(
    """INSERT INTO invoice ({columns}) VALUES (:number, :account, :month, :issued, :gross_cents,
    :open_cents, :body)""",
    _INVOICE,
)
_PAY_INVOICE = Statement("""
    UPDATE invoice SET open_cents = :open_cents WHERE number = :number""")
_SERIES = Statement("SELECT number, issued FROM invoice_series WHERE series = :series FOR UPDATE")
_PUT_SERIES = Statement("""
    INSERT INTO invoice_series (series, number, issued) VALUES (:series, :number, :issued)
    ON CONFLICT (series) DO UPDATE SET number = excluded.number, issued = excluded.issued""")

_MOVEMENT = "key, seen_ms, booked, amount_cents, verdict, account, note, certain, file, waiting"
_FIND_MOVEMENT = Statement("SELECT {columns} FROM bank_movement WHERE key = :key", _MOVEMENT)
_WAITING = Statement(
    "SELECT {columns} FROM bank_movement WHERE waiting = 1 ORDER BY booked, key LIMIT :limit",
    _MOVEMENT,
)
_PUT_MOVEMENT = Statement(
    """INSERT INTO bank_movement ({columns}) VALUES (:key, :seen_ms, :booked, :amount_cents,
        :verdict, :account, :note, :certain, :file, :waiting)
    ON CONFLICT (key) DO UPDATE SET verdict = excluded.verdict, account = excluded.account,
        note = excluded.note, waiting = excluded.waiting""",
    _MOVEMENT,
)

_LOCKED = Statement("""
    SELECT l.until_ms, s.segment, s.serial, s.plain_bytes, s.k, s.n, s.unit_bytes, s.pieces
    FROM object_lock l JOIN bucket b ON b.bucket = l.bucket JOIN segment s ON s.stream = l.stream
    WHERE b.account = :account AND l.until_ms > :now_ms""")
_LOCKED_PACKED = Statement("""
    SELECT l.until_ms, p.segment, s.serial, p.plain_bytes, s.k, s.n, s.unit_bytes, s.pieces
    FROM object_lock l JOIN bucket b ON b.bucket = l.bucket JOIN packed p ON p.stream = l.stream
    JOIN segment s ON s.segment = p.pack
    WHERE b.account = :account AND l.until_ms > :now_ms""")
_WITH_LOCKS = Statement("""
    SELECT DISTINCT b.account FROM object_lock l JOIN bucket b ON b.bucket = l.bucket
    WHERE l.until_ms > :now_ms UNION SELECT account FROM customer WHERE reserved_micro > 0""")
_RESERVED = Statement("""
    SELECT account, reserved_micro FROM customer WHERE reserved_micro > 0""")
_TO_REMOVE = Statement("SELECT account FROM customer WHERE standing = 'deletion' ORDER BY account")
_KEYS = Statement("""
    SELECT key FROM object WHERE bucket = :bucket AND key > :after ORDER BY key LIMIT :limit""")
_LOCK_END = Statement("""
    SELECT min(l.until_ms) FROM object_lock l JOIN bucket b ON b.bucket = l.bucket
    WHERE b.account = :account AND l.legal_hold = 0 AND l.until_ms > :now_ms""")


# --- customers -----------------------------------------------------------------------------------


def _customer(row: Any) -> Customer:
    return Customer(
        account=bytes(row[0]),
        budget_micro=int(row[1]),
        budget_stops=bool(row[2]),
        told_month=row[3],
        told_percent=int(row[4]),
        standing=Standing(row[5]),
        since_ms=int(row[6]),
        until_ms=int(row[7]),
        refused=row[8],
        reserved_micro=int(row[9]),
        address=bytes(row[10]),
        sequence=int(row[11]),
    )


def customer(connection: Connection, account: bytes) -> Customer:
    """Return what is known of a customer; of one who never was heard of, the usual."""
    row = _ONE.first(connection, account=account)
    return Customer(account) if row is None else _customer(row)


def hold_customer(connection: Connection, account: bytes) -> Customer:
    """Return what is known of a customer, locked until the transaction ends."""
    row = _HELD.first(connection, account=account)
    if row is None:
        # A row that is not there cannot be locked: two who begin it would overwrite each other.
        _START.run(connection, **_values(Customer(account)))
        row = _HELD.first(connection, account=account)
    return _customer(row)


def customers_between(connection: Connection, after: bytes, last: bytes) -> dict[bytes, Customer]:
    """Return customers of whom anything is known, by account, above ``after`` up to ``last``."""
    found = (_customer(row) for row in _BETWEEN.all(connection, after=after, last=last))
    return {one.account: one for one in found}


def balances_between(connection: Connection, after: bytes, last: bytes) -> dict[bytes, int]:
    """Return what customers have prepaid, pico-euro, by account, above ``after`` up to ``last``."""
    return {
        bytes(owner): int(micro) * PICO_PER_MICRO + int(pico)
        for owner, micro, pico in _BALANCES.all(connection, after=after, last=last)
    }


def put_customer(connection: Connection, one: Customer) -> None:
    """Write what is known of a customer."""
    _PUT.run(connection, **_values(one))


def _values(one: Customer) -> dict[str, object]:
    return {
        "account": one.account,
        "budget_micro": one.budget_micro,
        "budget_stops": int(one.budget_stops),
        "told_month": one.told_month,
        "told_percent": one.told_percent,
        "standing": one.standing.value,
        "since_ms": one.since_ms,
        "until_ms": one.until_ms,
        "refused": one.refused,
        "reserved_micro": one.reserved_micro,
        "address": one.address,
        "sequence": one.sequence,
    }


def refused(connection: Connection) -> dict[bytes, str]:
    """Return why, by accounts and buckets for which uploads are refused."""
    found = {bytes(account): str(why) for account, why in _REFUSED.all(connection)}
    found |= {bytes(bucket): str(why) for bucket, _, why in _REFUSED_BUCKETS.all(connection)}
    return found


def accounts(connection: Connection, after: bytes, limit: int) -> list[tuple[bytes, str]]:
    """Return accounts with their owners' names, in order."""
    rows = _ACCOUNTS.all(connection, after=after, limit=limit)
    return [(bytes(account), name) for account, name in rows]


def owner_of(connection: Connection, account: bytes) -> str | None:
    """Return the name of an account's owner; None for no account."""
    found = _OWNER.scalar(connection, account=account)
    return None if found is None else str(found)


def bucket_names(connection: Connection, account: bytes) -> dict[bytes, str]:
    """Return the names of an account's buckets by their ids."""
    rows = _BUCKETS.all(connection, account=account)
    return {bytes(bucket): bytes(name).decode() for bucket, name in rows}


def tell(connection: Connection, account: bytes, told: Iterable[Told], now_ms: int) -> None:
    """Write down what a customer is told."""
    listed = list(told)
    if not listed:
        return
    last = int(_LAST_NOTICE.scalar(connection, account=account))
    _PUT_NOTICE.many(
        connection,
        [
            {
                "account": account,
                "number": last + place,
                "time_ms": now_ms,
                "kind": one.kind,
                "about": one.about,
            }
            for place, one in enumerate(listed, 1)
        ],
    )


def notices(connection: Connection, account: bytes, limit: int) -> list[CustomerNotice]:
    """Return what a customer was told last, the newest first."""
    return [
        CustomerNotice(int(number), int(time_ms), kind, about)
        for number, time_ms, kind, about in _NOTICES.all(connection, account=account, limit=limit)
    ]


# --- what runs, and months -----------------------------------------------------------------------


def open_lines(
    connection: Connection, taken: int, account: bytes | None = None
) -> Iterator[OpenLine | OpenRead]:
    """Yield what was metered after epoch ``taken``, stored and read, of one account or of all."""
    if account is None:
        rows = _OPEN.all(connection, taken=taken)
        reads = _OPEN_READS.all(connection, taken=taken)
    else:
        rows = _OPEN_OF.all(connection, taken=taken, account=account)
        reads = _OPEN_READS_OF.all(connection, taken=taken, account=account)
    for epoch, alias, bucket, whose, piece_bytes, price, from_ms, until_ms in rows:
        yield OpenLine(
            int(epoch),
            int(alias),
            bytes(bucket),
            bytes(whose),
            int(piece_bytes),
            int(price),
            int(from_ms),
            int(until_ms),
        )
    for epoch, alias, whose, byte_count in reads:
        yield OpenRead(int(epoch), int(alias), bytes(whose), int(byte_count))


def stored(connection: Connection, account: bytes | None = None) -> Iterator[Stored]:
    """Yield what lay where when the meters were read last, of one account or of all."""
    if account is None:
        rows = _STORED.all(connection)
    else:
        rows = _STORED_OF.all(connection, account=account)
    for alias, bucket, whose, piece_bytes in rows:
        yield Stored(int(alias), bytes(bucket), bytes(whose), int(piece_bytes))


def whose_lines(connection: Connection, epoch: int) -> dict[bytes, tuple[bytes, bytes]]:
    """Return account and bucket behind each evidence of an epoch's storage."""
    return {
        bytes(evidence): (bytes(account), bytes(bucket))
        for evidence, account, bucket in _WHOSE.all(connection, epoch=epoch)
    }


def posted_epoch(connection: Connection) -> int:
    """Return the last epoch that stands in the ledger."""
    return int(_LAST_POSTED.scalar(connection))


def posted_until(connection: Connection) -> int:
    """Return up to when the ledger has charged: when epochs began, while there is none yet."""
    return int(_POSTED_UNTIL.scalar(connection))


def published(connection: Connection, epoch: int) -> tuple[int, bytes] | None:
    """Return when a published epoch ended, and its content hash; None while it is not."""
    row = _EPOCH.first(connection, epoch=epoch)
    return None if row is None else (int(row[0]), bytes(row[1]))


def clock(connection: Connection) -> Clock:
    """Return how far the books are."""
    row = _CLOCK.first(connection)
    return Clock(0, 0, "") if row is None else Clock(int(row[0]), int(row[1]), row[2])


def hold_clock(connection: Connection) -> Clock:
    """Return how far the books are, locked until the transaction ends."""
    _CLOCK_START.run(connection)
    epoch, until_ms, invoiced = _CLOCK_HELD.first(connection)
    return Clock(int(epoch), int(until_ms), invoiced)


def set_clock(connection: Connection, to: Clock) -> None:
    """Say how far the books are."""
    _SET_CLOCK.run(connection, epoch=to.epoch, until_ms=to.until_ms, invoiced=to.invoiced)


def month(connection: Connection, account: bytes, name: str) -> tuple[UsageLine, ...]:
    """Return what a customer was charged in a month."""
    body = _MONTH.scalar(connection, account=account, month=name)
    return () if body is None else tuple(decode_rows(bytes(body), UsageLine))


def months(
    connection: Connection, name: str, after: bytes, limit: int
) -> list[tuple[bytes, tuple[UsageLine, ...]]]:
    """Return what customers were charged in a month, by account."""
    rows = _OF_MONTH.all(connection, month=name, after=after, limit=limit)
    return [(bytes(who), tuple(decode_rows(bytes(body), UsageLine))) for who, body in rows]


def months_between(
    connection: Connection, name: str, after: bytes, last: bytes
) -> dict[bytes, tuple[UsageLine, ...]]:
    """Return what customers were charged in a month, by account, above ``after`` up to ``last``."""
    rows = _MONTHS_BETWEEN.all(connection, month=name, after=after, last=last)
    return {bytes(who): tuple(decode_rows(bytes(body), UsageLine)) for who, body in rows}


def next_month(connection: Connection, after: str) -> str:
    """Return the first month after one in which anything was charged; "" for none."""
    return str(_NEXT_MONTH.scalar(connection, after=after) or "")


def put_month(
    connection: Connection, account: bytes, name: str, epoch: int, lines: Iterable[UsageLine]
) -> None:
    """Write what a customer was charged in a month up to an epoch."""
    _PUT_MONTH.run(connection, account=account, month=name, epoch=epoch, body=encode_rows(lines))


# --- invoices ------------------------------------------------------------------------------------


def _invoice(row: Any) -> InvoiceRow:
    number, account, name, issued, gross, unpaid, body = row
    return InvoiceRow(number, bytes(account), name, issued, int(gross), int(unpaid), bytes(body))


def invoices(connection: Connection, account: bytes, limit: int) -> list[InvoiceRow]:
    """Return a customer's invoices, the newest first."""
    return [_invoice(row) for row in _INVOICES.all(connection, account=account, limit=limit)]


def open_invoices(connection: Connection, account: bytes) -> list[InvoiceRow]:
    """Return a customer's invoices of which something is to be paid, the oldest first."""
    return [_invoice(row) for row in _OPEN_INVOICES.all(connection, account=account)]


def invoice(connection: Connection, number: str) -> InvoiceRow | None:
    """Return one invoice."""
    row = _ONE_INVOICE.first(connection, number=number)
    return None if row is None else _invoice(row)


def has_invoice(connection: Connection, account: bytes, name: str) -> bool:
    """Say whether a customer's month has its invoice."""
    return _INVOICE_OF.first(connection, account=account, month=name) is not None


def hold_series(connection: Connection, series: str) -> tuple[str, str] | None:
    """Return number and day of a series' last invoice, locked until the transaction ends."""
    row = _SERIES.first(connection, series=series)
    return None if row is None else (str(row[0]), str(row[1]))


def put_invoice(connection: Connection, series: str, row: InvoiceRow) -> None:
    """Write an invoice with the number that was drawn in this transaction."""
    _PUT_SERIES.run(connection, series=series, number=row.number, issued=row.issued)
    _PUT_INVOICE.run(
        connection,
        number=row.number,
        account=row.account,
        month=row.month,
        issued=row.issued,
        gross_cents=row.gross_cents,
        open_cents=row.open_cents,
        body=row.body,
    )


def pay_invoice(connection: Connection, number: str, open_cents: int) -> None:
    """Say what is still to be paid of an invoice."""
    _PAY_INVOICE.run(connection, number=number, open_cents=open_cents)


# --- movements of the bank -----------------------------------------------------------------------


def _movement(row: Any) -> MovementRow:
    key, seen_ms, booked, cents, verdict, account, note, certain, file, waiting = row
    return MovementRow(
        bytes(key),
        int(seen_ms),
        booked,
        int(cents),
        verdict,
        bytes(account),
        note,
        bool(certain),
        bytes(file),
        bool(waiting),
    )


def lock_bank(connection: Connection) -> None:
    """Keep others from taking statements over until the transaction ends."""
    _CLOCK_START.run(connection)
    _LOCK_BANK.run(connection)


def movement(connection: Connection, key: bytes) -> MovementRow | None:
    """Return a movement that a statement told of."""
    row = _FIND_MOVEMENT.first(connection, key=key)
    return None if row is None else _movement(row)


def waiting(connection: Connection, limit: int) -> list[MovementRow]:
    """Return movements that wait for a person, the oldest first."""
    return [_movement(row) for row in _WAITING.all(connection, limit=limit)]


def put_movement(connection: Connection, row: MovementRow) -> None:
    """Write a movement, or what became of it later."""
    _PUT_MOVEMENT.run(
        connection,
        key=row.key,
        seen_ms=row.seen_ms,
        booked=row.booked,
        amount_cents=row.amount_cents,
        verdict=row.verdict,
        account=row.account,
        note=row.note,
        certain=int(row.certain),
        file=row.file,
        waiting=int(row.waiting),
    )


# --- removal -------------------------------------------------------------------------------------


def locked_segments(
    connection: Connection, account: bytes, now_ms: int
) -> Iterator[tuple[int, SegmentRecord]]:
    """Yield the segments of an account's locked objects and when each lock ends.

    What lies in a pack is a segment of its own bytes, coded as the pack is.
    """
    for statement in (_LOCKED, _LOCKED_PACKED):
        rows = statement.all(connection, account=account, now_ms=now_ms)
        for until_ms, segment, serial, plain_bytes, k, n, unit_bytes, pieces in rows:
            record = SegmentRecord(
                segment=bytes(segment),
                serial=int(serial),
                plain_bytes=int(plain_bytes),
                k=int(k),
                n=int(n),
                unit_bytes=int(unit_bytes),
                root=b"",
                wrapped_key=b"",
                pieces=list(unpack_pieces(pieces)),
            )
            yield int(until_ms), record


def with_locks(connection: Connection, now_ms: int) -> list[bytes]:
    """Return the accounts that have something locked, or had when it was last set aside for."""
    return sorted(bytes(row[0]) for row in _WITH_LOCKS.all(connection, now_ms=now_ms))


def reserved(connection: Connection) -> dict[bytes, int]:
    """Return what is set aside, in stablecoin units (1e-6 EUR), by account."""
    return {bytes(account): int(micro) for account, micro in _RESERVED.all(connection)}


def to_remove(connection: Connection) -> list[bytes]:
    """Return the accounts whose objects are removed."""
    return [bytes(row[0]) for row in _TO_REMOVE.all(connection)]


def keys_after(connection: Connection, bucket: bytes, after: bytes, limit: int) -> list[bytes]:
    """Return the next keys of a bucket."""
    rows = _KEYS.all(connection, bucket=bucket, after=after, limit=limit)
    return [bytes(row[0]) for row in rows]


def next_lock_end(connection: Connection, account: bytes, now_ms: int) -> int:
    """Return when the next lock of an account's objects ends; 0 where none does."""
    return int(_LOCK_END.scalar(connection, account=account, now_ms=now_ms) or 0)
