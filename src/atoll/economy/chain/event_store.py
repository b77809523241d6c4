"""SQL of what contracts said and of how far the chain was read."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.engine import Connection

from atoll.core.ports import ChainLog
from atoll.economy.chain.model import ChainEvent
from atoll.economy.chain.store import make_link
from atoll.economy.sql import Statement

TOPIC_BYTES: Final = 32
_EVENT: Final = (
    "serial, address, topics, data, transaction_hash, ordinal, block_number, block_hash, retracted"
)

_NEWEST = Statement(
    "SELECT number, hash FROM chain_block WHERE chain_id = :chain ORDER BY number DESC LIMIT 1"
)
_KEPT = Statement(
    "SELECT number, hash FROM chain_block WHERE chain_id = :chain ORDER BY number DESC LIMIT :limit"
)
_KEEP = Statement(
    "INSERT INTO chain_block (chain_id, number, hash) VALUES (:chain, :number, :hash)"
)
_OLDEST_KEPT = Statement(
    "SELECT number FROM chain_block WHERE chain_id = :chain ORDER BY number DESC"
    " LIMIT 1 OFFSET :limit"
)
_PRUNE = Statement("DELETE FROM chain_block WHERE chain_id = :chain AND number <= :number")
_FORGET = Statement("DELETE FROM chain_block WHERE chain_id = :chain AND number > :number")
_DROP_EVENTS = Statement(
    "DELETE FROM chain_event WHERE chain_id = :chain AND block_number > :number AND settled = 0"
)
_RETRACT = Statement(
    "UPDATE chain_event SET retracted = 1"
    " WHERE chain_id = :chain AND block_number > :number AND settled = 1 AND retracted = 0"
)
_LOCK = Statement("SELECT next_event FROM chain_link WHERE chain_id = :chain FOR UPDATE")
_ADVANCE = Statement("UPDATE chain_link SET next_event = :next WHERE chain_id = :chain")
_PUT = Statement(
    "INSERT INTO chain_event (chain_id, {columns}, settled)"
    " VALUES (:chain, :serial, :address, :topics, :data, :hash, :ordinal, :number,"
    " :block_hash, 0, 0) ON CONFLICT (chain_id, transaction_hash, address, ordinal) DO UPDATE SET"
    " serial = CASE WHEN chain_event.data = excluded.data AND chain_event.topics = excluded.topics"
    " THEN chain_event.serial ELSE excluded.serial END,"
    " settled = CASE WHEN chain_event.data = excluded.data AND chain_event.topics = excluded.topics"
    " THEN chain_event.settled ELSE 0 END,"
    " topics = excluded.topics, data = excluded.data,"
    " block_number = excluded.block_number, block_hash = excluded.block_hash, retracted = 0",
    _EVENT,
)
_SETTLE = Statement(
    "UPDATE chain_event SET settled = 1"
    " WHERE chain_id = :chain AND settled = 0 AND block_number <= :number"
)
_SETTLED = Statement(
    "SELECT {columns} FROM chain_event WHERE chain_id = :chain AND settled = 1"
    " AND serial > :after ORDER BY serial LIMIT :limit",
    _EVENT,
)
_RETRACTED = Statement(
    "SELECT {columns} FROM chain_event WHERE chain_id = :chain AND retracted = 1"
    " ORDER BY serial LIMIT :limit",
    _EVENT,
)

_NAMED = Statement(
    "SELECT {columns} FROM chain_event WHERE chain_id = :chain AND transaction_hash = :hash"
    " AND address = :address AND ordinal = :ordinal",
    _EVENT,
)


def newest_block(connection: Connection, chain: int) -> tuple[int, bytes] | None:
    """Return up to which block the chain was read; None before the first."""
    row = _NEWEST.first(connection, chain=chain)
    return (int(row[0]), bytes(row[1])) if row else None


def kept_blocks(connection: Connection, chain: int, limit: int) -> list[tuple[int, bytes]]:
    """Return the ends of what was read, newest first."""
    rows = _KEPT.all(connection, chain=chain, limit=limit)
    return [(int(row[0]), bytes(row[1])) for row in rows]


def keep_block(connection: Connection, chain: int, number: int, hash_: bytes, limit: int) -> None:
    """Keep up to which block the chain was read, and so many ends before it."""
    _KEEP.run(connection, chain=chain, number=number, hash=hash_)
    oldest = _OLDEST_KEPT.scalar(connection, chain=chain, limit=limit)
    if oldest is not None:
        _PRUNE.run(connection, chain=chain, number=oldest)


def forget_blocks(connection: Connection, chain: int, number: int) -> None:
    """Forget that blocks above a number were read."""
    _FORGET.run(connection, chain=chain, number=number)


def roll_back(connection: Connection, chain: int, number: int) -> int:
    """Take back what was read above a block; return how many events that concerns."""
    gone = _DROP_EVENTS.run(connection, chain=chain, number=number)
    gone += _RETRACT.run(connection, chain=chain, number=number)
    forget_blocks(connection, chain, number)
    return gone


def keep_events(connection: Connection, chain: int, found: Sequence[ChainLog]) -> int:
    """Keep what contracts said; what is known keeps its serial. Return how many.

    The same transaction may say something else where the chain lost what came before it: that is
    told as new.
    """
    make_link(connection, chain)
    serial = int(_LOCK.scalar(connection, chain=chain))
    rows: list[dict[str, Any]] = []
    said: Counter[tuple[bytes, bytes]] = Counter()
    for entry in found:
        speaker = (entry.transaction, entry.address)
        rows.append(
            {
                "chain": chain,
                "serial": serial + len(rows),
                "address": entry.address,
                "topics": b"".join(entry.topics),
                "data": entry.data,
                "hash": entry.transaction,
                "ordinal": said[speaker],
                "number": entry.block_number,
                "block_hash": entry.block_hash,
            }
        )
        said[speaker] += 1
    _PUT.many(connection, rows)
    _ADVANCE.run(connection, chain=chain, next=serial + len(rows))
    return len(rows)


def settle(connection: Connection, chain: int, number: int) -> int:
    """Let events up to a block be told; return how many."""
    return _SETTLE.run(connection, chain=chain, number=number)


def settled_after(connection: Connection, chain: int, after: int, limit: int) -> list[ChainEvent]:
    """Return told events after a serial, in order."""
    rows = _SETTLED.all(connection, chain=chain, after=after, limit=limit)
    return [_event(row) for row in rows]


def retracted(connection: Connection, chain: int, limit: int) -> list[ChainEvent]:
    """Return told events that the chain has lost."""
    return [_event(row) for row in _RETRACTED.all(connection, chain=chain, limit=limit)]


def named(
    connection: Connection, chain: int, names: Sequence[tuple[bytes, bytes, int]]
) -> list[ChainEvent]:
    """Return events by their names, as far as they are known."""
    rows = (
        _NAMED.first(connection, chain=chain, hash=hash_, address=address, ordinal=ordinal)
        for hash_, address, ordinal in names
    )
    return [_event(row) for row in rows if row is not None]


def _event(row: Any) -> ChainEvent:
    topics = bytes(row[2])
    return ChainEvent(
        serial=int(row[0]),
        address=bytes(row[1]),
        topics=tuple(topics[i : i + TOPIC_BYTES] for i in range(0, len(topics), TOPIC_BYTES)),
        data=bytes(row[3]),
        transaction=bytes(row[4]),
        ordinal=int(row[5]),
        block_number=int(row[6]),
        block_hash=bytes(row[7]),
        retracted=bool(row[8]),
    )
