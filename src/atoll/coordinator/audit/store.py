"""The audit's SQL."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.audit.model import EXCLUDED, Result, VerifierRow
from atoll.coordinator.sql import Statement
from atoll.core.merkle import leaf_count
from atoll.core.messages import decode, encode
from atoll.core.messages.proofs import VerifierPlace
from atoll.core.proofs.beacon import Reveal
from atoll.core.proofs.signed import Signed, decode_statement, encode_statement
from atoll.core.proofs.sums import Entry
from atoll.core.scheme import Layout

PIECE_ID_BYTES = 16
_CHAINS = msgspec.msgpack.Decoder(list[Signed])

_VERIFIERS = Statement("SELECT key, place, chains, status FROM verifier ORDER BY key")
_PUT_VERIFIER = Statement("""
    INSERT INTO verifier (key, place, chains, status, changed_ms)
    VALUES (:key, :place, :chains, :status, :now_ms)
    ON CONFLICT (key) DO UPDATE SET place = excluded.place, chains = excluded.chains,
        status = CASE WHEN verifier.status = :excluded THEN verifier.status
            ELSE excluded.status END,
        changed_ms = excluded.changed_ms""")
_HEAR = Statement("""
    INSERT INTO verifier_word (slot, key, heard_ms, reveal)
    VALUES (:slot, :key, :now_ms, :reveal)
    ON CONFLICT (slot, key) DO UPDATE SET heard_ms = excluded.heard_ms,
        reveal = CASE WHEN length(excluded.reveal) > 0 AND length(verifier_word.reveal) = 0
            THEN excluded.reveal ELSE verifier_word.reveal END""")
_WORDS = Statement("""
    SELECT slot, key, heard_ms, reveal FROM verifier_word WHERE slot >= :slot ORDER BY slot, key""")
_FORGET_WORDS = Statement("DELETE FROM verifier_word WHERE slot < :slot")
_LEASE = Statement("""
    INSERT INTO audit_lease (name, lease_owner, lease_until_ms) VALUES (:name, :owner, :until_ms)
    ON CONFLICT (name) DO UPDATE SET lease_owner = excluded.lease_owner,
        lease_until_ms = excluded.lease_until_ms
    WHERE audit_lease.lease_owner = excluded.lease_owner
        OR audit_lease.lease_until_ms <= :now_ms""")
_NEWEST_HEAD = Statement("""
    SELECT signed FROM tree_head WHERE alias = :alias AND epoch > :epoch
    ORDER BY epoch DESC LIMIT 1""")
_HEADS_SINCE = Statement("""
    SELECT alias, epoch, signed FROM tree_head WHERE epoch >= :epoch ORDER BY alias, epoch""")
_PUT_BEACON = Statement("""
    INSERT INTO beacon (slot, value) VALUES (:slot, :value) ON CONFLICT (slot) DO NOTHING""")
_BEACON = Statement("SELECT value FROM beacon WHERE slot = :slot")
_PUT_HEAD = Statement("""
    INSERT INTO tree_head (alias, epoch, signed) VALUES (:alias, :epoch, :signed)
    ON CONFLICT (alias, epoch) DO NOTHING""")
_SIGNED_HEAD = Statement("""
    UPDATE tree_head SET signed = :signed WHERE alias = :alias AND epoch = :epoch""")
_HEAD = Statement("SELECT signed FROM tree_head WHERE alias = :alias AND epoch = :epoch")
_HEADS = Statement("SELECT alias, epoch, signed FROM tree_head ORDER BY alias, epoch DESC")
_PUT_RESULT = Statement("""
    INSERT INTO proof_result (slot, alias, outcome, samples, failed, pieces, verdict)
    VALUES (:slot, :alias, :outcome, :samples, :failed, :pieces, :verdict)
    ON CONFLICT (slot, alias) DO NOTHING""")
_RESULTS = Statement("""
    SELECT slot, alias, outcome, samples, failed, pieces, verdict FROM proof_result
    WHERE slot < :before_slot AND (alias = :alias OR :alias = 0) AND failed >= :least
    ORDER BY slot DESC, alias LIMIT :limit""")
_PUT_EVIDENCE = Statement("""
    INSERT INTO proof_evidence (digest, key, lie, evidence, since_ms)
    VALUES (:digest, :key, :lie, :evidence, :now_ms) ON CONFLICT (digest) DO NOTHING""")
_EVIDENCE = Statement("""
    SELECT evidence FROM proof_evidence ORDER BY since_ms DESC LIMIT :limit""")
_FORGET_BEACONS = Statement("DELETE FROM beacon WHERE slot < :slot")
_FORGET_RESULTS = Statement("DELETE FROM proof_result WHERE slot < :slot")
_FORGET_HEADS = Statement("""
    DELETE FROM tree_head WHERE epoch < :slot AND epoch < (
        SELECT max(newer.epoch) FROM tree_head AS newer WHERE newer.alias = tree_head.alias)""")
_OF_NODE = Statement("""
    SELECT p.serial, p.piece_index, s.segment, s.root, s.plain_bytes, s.k, s.n, s.unit_bytes
    FROM piece p JOIN segment s ON s.serial = p.serial
    WHERE p.alias = :alias AND (p.serial, p.piece_index) > (:serial, :index) AND p.serial < :end
    ORDER BY p.serial, p.piece_index LIMIT :limit""")
_HOLDS = Statement("""
    SELECT p.serial FROM piece p JOIN segment s ON s.serial = p.serial
    WHERE p.alias = :alias AND s.segment = :segment AND p.piece_index = :index""")
_SEGMENT = Statement("SELECT segment FROM segment WHERE serial = :serial")
_ANY_OF_NODE = Statement("""
    SELECT p.serial, p.piece_index, s.segment, s.root, s.plain_bytes, s.k, s.n, s.unit_bytes,
        s.bucket
    FROM piece p JOIN segment s ON s.serial = p.serial
    WHERE p.alias = :alias AND p.serial >= :serial ORDER BY p.serial LIMIT 1""")
_LAST_OF_NODE = Statement("SELECT max(serial) FROM piece WHERE alias = :alias")

SERIAL_END = (1 << 63) - 1


def all_verifiers(connection: Connection) -> list[VerifierRow]:
    """Return the verifiers by key."""
    return [
        VerifierRow(decode(place, VerifierPlace), _CHAINS.decode(chains), status)
        for _, place, chains, status in _VERIFIERS.all(connection)
    ]


def put_verifier(connection: Connection, row: VerifierRow, now_ms: int) -> None:
    """Write a verifier."""
    _PUT_VERIFIER.run(
        connection,
        key=row.place.key,
        place=encode(row.place),
        chains=msgspec.msgpack.encode(row.chains),
        status=row.status,
        excluded=EXCLUDED,
        now_ms=now_ms,
    )


class Word(NamedTuple):
    """What a verifier was heard with in a slot."""

    slot: int
    key: bytes
    heard_ms: int
    reveal: Reveal | None


def hear(connection: Connection, slot: int, key: bytes, reveal: Reveal | None, now_ms: int) -> None:
    """Note that a verifier was heard in a slot; its first value for the slot stays."""
    body = encode_statement(reveal) if reveal is not None else b""
    _HEAR.run(connection, slot=slot, key=key, reveal=body, now_ms=now_ms)


def words(connection: Connection, since_slot: int) -> list[Word]:
    """Return what verifiers were heard with from a slot on."""
    return [
        Word(slot, bytes(key), heard_ms, decode_statement(bytes(body), Reveal) if body else None)
        for slot, key, heard_ms, body in _WORDS.all(connection, slot=since_slot)
    ]


def take_lease(connection: Connection, name: str, owner: bytes, until_ms: int, now_ms: int) -> bool:
    """Take or renew the lease of a piece of work; False while another process has it."""
    count = _LEASE.run(connection, name=name, owner=owner, until_ms=until_ms, now_ms=now_ms)
    return bool(count > 0)


def keep_beacon(connection: Connection, slot: int, value: Signed) -> Signed:
    """Write a slot's beacon unless there is one; return the one that is there."""
    _PUT_BEACON.run(connection, slot=slot, value=encode_statement(value))
    return decode_statement(bytes(_BEACON.scalar(connection, slot=slot)), Signed)


def read_beacon(connection: Connection, slot: int) -> Signed | None:
    """Return a slot's beacon."""
    found = _BEACON.scalar(connection, slot=slot)
    return None if found is None else decode_statement(bytes(found), Signed)


def keep_head(connection: Connection, alias: int, epoch: int, signed: bytes) -> bytes:
    """Write a head that we signed unless there is one for its epoch; return what is there."""
    _PUT_HEAD.run(connection, alias=alias, epoch=epoch, signed=signed)
    return bytes(_HEAD.scalar(connection, alias=alias, epoch=epoch))


def agree_head(connection: Connection, alias: int, epoch: int, signed: bytes) -> None:
    """Write a head that both signed."""
    _SIGNED_HEAD.run(connection, alias=alias, epoch=epoch, signed=signed)


def read_head(connection: Connection, alias: int, epoch: int) -> bytes | None:
    """Return the head of an epoch, encoded."""
    found = _HEAD.scalar(connection, alias=alias, epoch=epoch)
    return None if found is None else bytes(found)


def newer_head(connection: Connection, alias: int, epoch: int) -> bytes | None:
    """Return a node's newest head above an epoch, encoded; its signature may be missing."""
    found = _NEWEST_HEAD.scalar(connection, alias=alias, epoch=epoch)
    return None if found is None else bytes(found)


def heads_since(connection: Connection, epoch: int) -> list[tuple[int, int, bytes]]:
    """Return (alias, epoch, encoded head) from an epoch on, oldest of a node first."""
    rows = _HEADS_SINCE.all(connection, epoch=epoch)
    return [(alias, found, bytes(signed)) for alias, found, signed in rows]


def all_heads(connection: Connection) -> list[tuple[int, int, bytes]]:
    """Return (alias, epoch, encoded head), newest epochs of a node first."""
    return [(alias, epoch, bytes(signed)) for alias, epoch, signed in _HEADS.all(connection)]


def add_result(connection: Connection, result: Result) -> bool:
    """Write a result; False where there was one already."""
    return bool(
        _PUT_RESULT.run(
            connection,
            slot=result.slot,
            alias=result.alias,
            outcome=result.outcome,
            samples=result.samples,
            failed=result.failed,
            pieces=b"".join(result.pieces),
            verdict=result.verdict,
        )
        > 0
    )


def read_results(
    connection: Connection, alias: int, before_slot: int, limit: int, *, failed: bool = False
) -> list[Result]:
    """Return results, newest first; of all nodes for alias 0."""
    rows = _RESULTS.all(
        connection, alias=alias, before_slot=before_slot, limit=limit, least=int(failed)
    )
    return [_result(row) for row in rows]


def _result(row: Any) -> Result:
    slot, alias, outcome, samples, failed, pieces, verdict = row
    joined = bytes(pieces)
    ids = tuple(joined[i : i + PIECE_ID_BYTES] for i in range(0, len(joined), PIECE_ID_BYTES))
    return Result(slot, alias, outcome, samples, failed, ids, bytes(verdict))


def add_evidence(
    connection: Connection, digest: bytes, key: bytes, lie: str, evidence: bytes, now_ms: int
) -> bool:
    """Write evidence; False where it was known."""
    count = _PUT_EVIDENCE.run(
        connection, digest=digest, key=key, lie=lie, evidence=evidence, now_ms=now_ms
    )
    return count > 0


def read_evidence(connection: Connection, limit: int) -> list[bytes]:
    """Return evidence, newest first."""
    return [bytes(row[0]) for row in _EVIDENCE.all(connection, limit=limit)]


def forget(connection: Connection, before_slot: int) -> None:
    """Forget beacons and results of older slots, and heads but each node's newest."""
    _FORGET_BEACONS.run(connection, slot=before_slot)
    _FORGET_RESULTS.run(connection, slot=before_slot)
    _FORGET_HEADS.run(connection, slot=before_slot)
    _FORGET_WORDS.run(connection, slot=before_slot)


def entries_of_node(
    connection: Connection, alias: int, after: tuple[int, int], end: int, limit: int
) -> list[Entry]:
    """Return what a node should hold, after (serial, index) and below serial ``end``, in order."""
    rows = _OF_NODE.all(
        connection, alias=alias, serial=after[0], index=after[1], end=end, limit=limit
    )
    found = []
    for serial, index, segment, root, plain_bytes, k, n, unit_bytes in rows:
        length = Layout(plain_bytes, k, n, unit_bytes).piece_bytes
        leaves = leaf_count(length)
        found.append(Entry(serial, bytes(segment), index, bytes(root), leaves, length))
    return found


def holds(connection: Connection, alias: int, pieces: Sequence[tuple[bytes, int]]) -> list[bool]:
    """Say for each (segment, index) whether the node should hold it."""
    return [
        _HOLDS.scalar(connection, alias=alias, segment=segment, index=index) is not None
        for segment, index in pieces
    ]


def named(connection: Connection, serial: int, index: int) -> tuple[bytes, int] | None:
    """Return a piece as (segment, index) from its serial; None where the segment is gone."""
    segment = _SEGMENT.scalar(connection, serial=serial)
    return None if segment is None else (bytes(segment), index)


def last_serial(connection: Connection, alias: int) -> int:
    """Return the highest serial of a node's pieces; 0 for none."""
    return int(_LAST_OF_NODE.scalar(connection, alias=alias) or 0)


def piece_at(connection: Connection, alias: int, serial: int) -> tuple[Entry, Layout, bytes] | None:
    """Return the node's first piece from a serial on, its layout, and its bucket."""
    row = _ANY_OF_NODE.first(connection, alias=alias, serial=serial)
    if row is None:
        return None
    found, index, segment, root, plain_bytes, k, n, unit_bytes, bucket = row
    layout = Layout(plain_bytes, k, n, unit_bytes)
    length = layout.piece_bytes
    entry = Entry(found, bytes(segment), index, bytes(root), leaf_count(length), length)
    return entry, layout, bytes(bucket)
