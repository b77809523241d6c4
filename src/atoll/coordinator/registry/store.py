"""The registry's SQL. Functions take a connection and run in the caller's transaction."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.registry.hours import ALL_HOURS, Hours, Notice, heard
from atoll.coordinator.registry.model import NO_COUNTERS, NodeState, NodeView
from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import NodeCounters, NodeFacts, SignedFacts, decode, encode

COLUMNS = (
    "alias, node_id, facts, signature, proof_ms, registered_ms, last_seen_ms, heartbeat_ms,"
    " incarnation, full_flag, skew_ms, state, state_since_ms, counters, hours"
)
CHANGED_MARGIN_MS = 5_000
"""How far back a refresh looks beyond the last one: commits take time, clocks differ a little."""

_INSERT = Statement("""
    INSERT INTO node (node_id, facts, signature, proof_ms, registered_ms, last_seen_ms,
        heartbeat_ms, incarnation, full_flag, skew_ms, state, state_since_ms, counters, hours,
        changed_ms)
    VALUES (:node_id, :facts, :signature, :proof_ms, :now_ms, :now_ms, 0, 0, 0, 0, :state,
        :now_ms, :counters, :hours, :now_ms)
    ON CONFLICT (node_id) DO NOTHING""")
_LOCK = Statement("SELECT {columns} FROM node WHERE node_id = :node_id FOR UPDATE", columns=COLUMNS)
_FIND = Statement("SELECT {columns} FROM node WHERE node_id = :node_id", columns=COLUMNS)
_UPDATE = Statement("""
    UPDATE node SET facts = :facts, signature = :signature, proof_ms = :proof_ms,
        last_seen_ms = :now_ms, state = :state, state_since_ms = :state_since_ms,
        hours = :hours, changed_ms = :now_ms
    WHERE node_id = :node_id""")
_ALL = Statement("SELECT {columns} FROM node ORDER BY alias", columns=COLUMNS)
_CHANGED = Statement(
    "SELECT {columns} FROM node WHERE changed_ms >= :since_ms ORDER BY alias", columns=COLUMNS
)
# Another coordinator may have heard the node later: then its row stays.
_SEEN = Statement("""
    UPDATE node SET last_seen_ms = :last_seen_ms, heartbeat_ms = :heartbeat_ms,
        incarnation = :incarnation, full_flag = :full_flag, skew_ms = :skew_ms, state = :state,
        state_since_ms = :state_since_ms, counters = :counters, changed_ms = :now_ms
    WHERE alias = :alias AND last_seen_ms <= :last_seen_ms""")

_ENCODER = msgspec.msgpack.Encoder()
_COUNTERS = msgspec.msgpack.Decoder(NodeCounters)
_HOURS = msgspec.msgpack.Decoder(Hours)
_FACTS: dict[bytes, NodeFacts] = {}
_FACTS_KEPT_MAX = 200_000


def _view(row: Any) -> NodeView:
    facts = _FACTS.get(row[2])
    if facts is None:
        if len(_FACTS) >= _FACTS_KEPT_MAX:
            _FACTS.clear()
        facts = _FACTS[row[2]] = decode(row[2], NodeFacts)
    return NodeView(
        alias=row[0],
        node_id=row[1],
        facts=facts,
        signed_facts=row[2],
        signature=row[3],
        proof_ms=row[4],
        registered_ms=row[5],
        last_seen_ms=row[6],
        heartbeat_ms=row[7],
        incarnation=row[8],
        full=bool(row[9]),
        skew_ms=row[10],
        state=NodeState(row[11]),
        state_since_ms=row[12],
        counters=_COUNTERS.decode(row[13]),
        hours=_HOURS.decode(row[14]) if row[14] else ALL_HOURS,
    )


def register_node(
    connection: Connection,
    node_id: bytes,
    signed: SignedFacts,
    proof_ms: int,
    now_ms: int,
    notice: Notice,
) -> NodeView:
    """Write a node's facts; a new node gets the next alias. Raises ``REPLAYED``."""
    facts = decode(signed.facts, NodeFacts)
    values: dict[str, Any] = {
        "node_id": node_id,
        "facts": signed.facts,
        "signature": signed.signature,
        "proof_ms": proof_ms,
        "now_ms": now_ms,
        "state": NodeState.ALIVE.value,
    }
    # Looked for first: an insertion that meets a known node would use up an alias.
    row = _LOCK.first(connection, node_id=node_id)
    hours = heard(None, facts.calendar, now_ms, notice)
    if row is None and not _INSERT.run(
        connection, **values, counters=encode(NO_COUNTERS), hours=_ENCODER.encode(hours)
    ):
        row = _LOCK.first(connection, node_id=node_id)
        assert row is not None, "rows of nodes are never removed"
    if row is not None:
        there = _view(row)
        if proof_ms <= there.proof_ms:
            raise AtollError(
                Kind.REPLAYED, "register node", "a later registration of this node came before"
            )
        alive = there.state is NodeState.ALIVE
        hours = heard(there.hours, facts.calendar, now_ms, notice)
        _UPDATE.run(
            connection,
            **values,
            state_since_ms=there.state_since_ms if alive else now_ms,
            hours=_ENCODER.encode(hours),
        )
    row = _FIND.first(connection, node_id=node_id)
    return _view(row)


def find_node(connection: Connection, node_id: bytes) -> NodeView | None:
    """Find a node by its id."""
    row = _FIND.first(connection, node_id=node_id)
    return None if row is None else _view(row)


def all_nodes(connection: Connection) -> Sequence[NodeView]:
    """Return every node, by alias."""
    return [_view(row) for row in _ALL.all(connection)]


def changed_nodes(connection: Connection, since_ms: int) -> Sequence[NodeView]:
    """Return the nodes whose rows changed since shortly before a time, by alias."""
    rows = _CHANGED.all(connection, since_ms=since_ms - CHANGED_MARGIN_MS)
    return [_view(row) for row in rows]


def note_seen(connection: Connection, views: Iterable[NodeView], now_ms: int) -> None:
    """Write what heartbeats and timers changed, unless another coordinator knows later news."""
    _SEEN.many(
        connection,
        [
            {
                "alias": view.alias,
                "last_seen_ms": view.last_seen_ms,
                "heartbeat_ms": view.heartbeat_ms,
                "incarnation": view.incarnation,
                "full_flag": int(view.full),
                "skew_ms": view.skew_ms,
                "state": view.state.value,
                "state_since_ms": view.state_since_ms,
                "counters": _ENCODER.encode(view.counters),
                "now_ms": now_ms,
            }
            for view in views
        ],
    )
