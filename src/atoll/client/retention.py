"""Retention records told to the nodes that hold a segment's pieces.

Whoever has a signed record may tell it: a gateway that just signed it, or a coordinator that keeps
it for nodes that were away. Answers are checked; nothing is believed without a receipt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from atoll.core.capsule import owner_hash_of
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Failure, decode
from atoll.core.messages.retention import (
    RETENTION_ITEMS_MAX,
    RETENTION_PATH,
    RETENTION_SHOW_PATH,
    RetentionItem,
    RetentionOutcome,
)
from atoll.core.ports import Address, PieceTransport
from atoll.core.retention import (
    RECORD_BYTES,
    RetentionRecord,
    check_record,
    check_retention_receipt,
    owner_of_grant,
    parse_record,
    record_digest,
)

_OUTCOMES = msgspec.msgpack.Decoder(list[RetentionOutcome])
_RECORDS = msgspec.msgpack.Decoder(list[bytes])


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one item at one node."""

    item: RetentionItem
    receipt: bytes
    """The node's checked receipt; empty where it does not keep this record."""
    kind: str
    """Why not; empty where it does."""


async def tell_holder(
    transport: PieceTransport,
    address: Address,
    node_id: bytes,
    items: Sequence[RetentionItem],
    timeout_s: float,
) -> list[Told]:
    """Tell a node records (at most 1,000) of pieces it holds; return what it signed.

    Raises ``UNREACHABLE``, ``TIMEOUT``, and ``BAD_REQUEST`` for an answer that makes no sense.
    """
    assert len(items) <= RETENTION_ITEMS_MAX
    body = await _ask(transport, address, RETENTION_PATH, items, timeout_s)
    try:
        outcomes = _OUTCOMES.decode(body)
    except msgspec.MsgspecError as cause:
        raise AtollError(Kind.BAD_REQUEST, "tell retention", str(cause)) from cause
    if len(outcomes) != len(items):
        raise AtollError(
            Kind.BAD_REQUEST, "tell retention", "the node answered another number of records"
        )
    return [_told(item, outcome, node_id) for item, outcome in zip(items, outcomes, strict=True)]


def _told(item: RetentionItem, outcome: RetentionOutcome, node_id: bytes) -> Told:
    if outcome.kind:
        return Told(item, b"", outcome.kind)
    try:
        confirms(outcome.receipt, node_id, item.index, item.record)
    except AtollError as cause:
        return Told(item, b"", cause.kind.value)
    return Told(item, outcome.receipt, "")


def confirms(receipt: bytes, node_id: bytes, index: int, record: bytes) -> None:
    """Raise unless this is that node's receipt for this piece under this record.

    ``UNAUTHENTICATED``, ``BAD_REQUEST``, ``FORBIDDEN`` (for another piece or record).
    """
    word = check_retention_receipt(receipt, node_id)
    segment = parse_record(record).segment_id
    if (word.segment_id, word.index, word.record_digest) != (
        segment,
        index,
        record_digest(record),
    ):
        raise AtollError(
            Kind.FORBIDDEN, "check retention receipt", "the receipt is for another piece or record"
        )


async def newest_records(
    transport: PieceTransport, address: Address, pieces: Sequence[bytes], timeout_s: float
) -> list[bytes]:
    """Return the records that a node keeps for pieces, empty where none: not yet checked.

    Raises ``UNREACHABLE``, ``TIMEOUT``, ``BAD_REQUEST``.
    """
    shown = await newest_granted(transport, address, pieces, timeout_s)
    return [record for record, _ in shown]


async def newest_granted(
    transport: PieceTransport, address: Address, pieces: Sequence[bytes], timeout_s: float
) -> list[tuple[bytes, bytes]]:
    """Return (record, lock key grant) that a node keeps for each piece: not yet checked.

    Raises as ``newest_records`` does.
    """
    body = await _ask(transport, address, RETENTION_SHOW_PATH, list(pieces), timeout_s)
    try:
        records = _RECORDS.decode(body)
    except msgspec.MsgspecError as cause:
        raise AtollError(Kind.BAD_REQUEST, "show retention", str(cause)) from cause
    if len(records) != len(pieces):
        raise AtollError(Kind.BAD_REQUEST, "show retention", "the node answered another number")
    return [(body[:RECORD_BYTES], body[RECORD_BYTES:]) for body in records]


def granted(offered: Sequence[bytes], lock_key: bytes, owner_hash: bytes) -> bytes:
    """Return the grant among those offered that an owner gave to a lock key; empty for none."""
    for grant in dict.fromkeys(offered):
        try:
            if grant and owner_hash_of(owner_of_grant(grant, lock_key)) == owner_hash:
                return grant
        except AtollError:
            continue
    return b""


def newest_of(offered: Sequence[bytes], segment_id: bytes) -> bytes:
    """Return the newest record among those offered for a segment; empty where none holds.

    A record with a bad signature is passed over. Where two lock keys have signed, which nodes never
    accept for one piece, the one that most offers carry counts.
    """
    checked: list[tuple[RetentionRecord, bytes]] = []
    for signed in {one for one in offered if one}:
        try:
            checked.append((check_record(signed, segment_id), signed))
        except AtollError:
            continue
    if not checked:
        return b""
    votes: dict[bytes, int] = {}
    for signed in offered:
        for record, known in checked:
            if known == signed:
                votes[record.lock_key] = votes.get(record.lock_key, 0) + 1
    key = max(votes, key=lambda one: (votes[one], one))
    mine = [(record.sequence, signed) for record, signed in checked if record.lock_key == key]
    return max(mine)[1]


async def _ask(
    transport: PieceTransport, address: Address, path: str, items: object, timeout_s: float
) -> bytes:
    reply = await transport.call(
        address,
        "POST",
        path,
        {"content-type": "application/msgpack"},
        msgspec.msgpack.encode(items),
        timeout_s,
    )
    if reply.status != 200:
        failure: Failure = decode(reply.body, Failure)
        raise failure.to_error()
    return reply.body
