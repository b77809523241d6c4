"""The SQL of slashing. Functions run in the caller's transaction."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.engine import Connection

from atoll.coordinator.slashing.model import Case
from atoll.coordinator.sql import Statement

_CASE: Final = (
    "evidence, alias, node_id, owner, reporter, opened_ms, first_slot, last_slot, samples, failed,"
    " epoch, taken_pico, transaction_hash"
)
_PUT = Statement(
    "INSERT INTO slash_case ({columns}, body) VALUES (:evidence, :alias, :node_id, :owner,"
    " :reporter, :opened_ms, :first_slot, :last_slot, :samples, :failed, 0, '0', :nothing, :body)"
    " ON CONFLICT (alias) DO NOTHING",
    columns=_CASE,
)
_ALL = Statement(
    "SELECT {columns} FROM slash_case ORDER BY opened_ms DESC, alias LIMIT :limit", columns=_CASE
)
_OPEN = Statement(
    "SELECT {columns} FROM slash_case WHERE epoch = 0 ORDER BY alias LIMIT :limit", columns=_CASE
)
_UNSTRUCK = Statement(
    "SELECT {columns} FROM slash_case WHERE epoch > 0 AND length(transaction_hash) = 0"
    " ORDER BY opened_ms, alias LIMIT :limit",
    columns=_CASE,
)
_ALIASES = Statement("SELECT alias FROM slash_case")
_BODY = Statement("SELECT body FROM slash_case WHERE evidence = :evidence")
_SETTLE = Statement("""
    UPDATE slash_case SET epoch = :epoch, taken_pico = :taken
    WHERE evidence = :evidence AND epoch = 0""")
_CARRY = Statement("UPDATE slash_case SET transaction_hash = :hash WHERE evidence = :evidence")
_PUT_ENTRY = Statement("""
    INSERT INTO chain_entry (entry, alias, owner, description_hash, description, signed_ms)
    VALUES (:entry, :alias, :owner, :hash, :description, :now_ms)
    ON CONFLICT (entry) DO UPDATE SET description_hash = excluded.description_hash,
        description = excluded.description, signed_ms = excluded.signed_ms""")
_DESCRIPTION = Statement("SELECT description FROM chain_entry WHERE description_hash = :hash")


def put_case(connection: Connection, case: Case, body: bytes) -> bool:
    """Open a case; False where the node has one already."""
    return bool(
        _PUT.run(
            connection,
            evidence=case.evidence,
            alias=case.alias,
            node_id=case.node_id,
            owner=case.owner,
            reporter=case.reporter,
            opened_ms=case.opened_ms,
            first_slot=case.first_slot,
            last_slot=case.last_slot,
            samples=case.samples,
            failed=case.failed,
            nothing=b"",
            body=body,
        )
    )


def _case(row: Any) -> Case:
    return Case(
        evidence=bytes(row[0]),
        alias=int(row[1]),
        node_id=bytes(row[2]),
        owner=bytes(row[3]),
        reporter=bytes(row[4]),
        opened_ms=int(row[5]),
        first_slot=int(row[6]),
        last_slot=int(row[7]),
        samples=int(row[8]),
        failed=int(row[9]),
        epoch=int(row[10]),
        taken_pico=int(row[11]),
        transaction=bytes(row[12]),
    )


def cases(connection: Connection, limit: int) -> list[Case]:
    """Return cases, newest first."""
    return [_case(row) for row in _ALL.all(connection, limit=limit)]


def open_cases(connection: Connection, limit: int) -> list[Case]:
    """Return cases that no epoch has settled, by alias."""
    return [_case(row) for row in _OPEN.all(connection, limit=limit)]


def to_carry_out(connection: Connection, limit: int) -> list[Case]:
    """Return settled cases that were not carried out on the chain, oldest first."""
    return [_case(row) for row in _UNSTRUCK.all(connection, limit=limit)]


def accused(connection: Connection) -> set[int]:
    """Return the aliases of nodes that have a case."""
    return {int(row[0]) for row in _ALIASES.all(connection)}


def body_of(connection: Connection, evidence: bytes) -> bytes | None:
    """Return a loss file."""
    found = _BODY.scalar(connection, evidence=evidence)
    return None if found is None else bytes(found)


def settle(connection: Connection, epoch: int, taken: Sequence[tuple[bytes, int]]) -> None:
    """Note that an epoch settled cases: evidence, and what was taken from what was held."""
    for evidence, taken_pico in taken:
        _SETTLE.run(connection, evidence=evidence, epoch=epoch, taken=str(taken_pico))


def carry_out(connection: Connection, evidence: bytes, transaction: bytes) -> None:
    """Note the transaction that carried a verdict out."""
    _CARRY.run(connection, evidence=evidence, hash=transaction)


# --- entries --------------------------------------------------------------------------------------


def put_entry(
    connection: Connection,
    entry: bytes,
    alias: int,
    owner: bytes,
    description_hash: bytes,
    description: bytes,
    now_ms: int,
) -> None:
    """Keep what a node's owner signed for its entry on the chain."""
    _PUT_ENTRY.run(
        connection,
        entry=entry,
        alias=alias,
        owner=owner,
        hash=description_hash,
        description=description,
        now_ms=now_ms,
    )


def description_of(connection: Connection, description_hash: bytes) -> bytes | None:
    """Return a node's signed description by its hash."""
    found = _DESCRIPTION.scalar(connection, hash=description_hash)
    return None if found is None else bytes(found)
