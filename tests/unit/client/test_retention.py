"""What is believed of nodes' words about retention."""

import pytest

from atoll.client.retention import confirms, newest_of
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.retention import (
    Mode,
    RetentionReceipt,
    RetentionRecord,
    record_digest,
    sign_record,
    sign_retention_receipt,
)

LOCK, THIEF, PROVIDER = Identity(b"l" * 32), Identity(b"t" * 32), Identity(b"p" * 32)
SEGMENT = SegmentId(b"s" * 16)


def signed(sequence: int, lock: Identity = LOCK, segment: SegmentId = SEGMENT) -> bytes:
    record = RetentionRecord(segment, lock.public_key, Mode.COMPLIANCE, 9, False, sequence)
    return sign_record(lock, record)


def test_the_newest_record_that_holds_is_carried_on() -> None:
    forged = signed(9)[:-1] + b"\0"
    other = signed(8, segment=SegmentId(b"x" * 16))
    offered = [signed(1), signed(3), b"", forged, signed(2), other, b"nonsense"]
    assert newest_of(offered, SEGMENT) == signed(3)
    assert newest_of([b"", forged], SEGMENT) == b""


def test_a_lone_stranger_does_not_outvote_the_lock_key() -> None:
    offered = [signed(1), signed(2), signed(99, THIEF)]
    assert newest_of(offered, SEGMENT) == signed(2)


def test_a_receipt_counts_for_one_node_piece_and_record() -> None:
    record = signed(1)
    receipt = sign_retention_receipt(
        PROVIDER, RetentionReceipt(PROVIDER.node_id, SEGMENT, 2, record_digest(record), 5)
    )
    confirms(receipt, PROVIDER.node_id, 2, record)
    for node, index, said in (
        (THIEF.node_id, 2, record),
        (PROVIDER.node_id, 1, record),
        (PROVIDER.node_id, 2, signed(2)),
    ):
        with pytest.raises(AtollError):
            confirms(receipt, node, index, said)
