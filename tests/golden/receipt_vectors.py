"""Vectors of docs/spec/receipts.md: a receipt, what is refused, a read limit's tag, an evidence."""

from typing import Any

from atoll.coordinator.traffic.model import ReadLine, SignedReceipt, evidence_of
from atoll.core.errors import AtollError
from atoll.core.identity import Identity
from atoll.core.ids import NodeId, OrderSerial, PayerTag, SegmentId
from atoll.core.orders import LIMIT_BYTES, Action, OrderLimit, sign_orders
from atoll.core.receipts import (
    SIGNED_HEAD_BYTES,
    ReadReceipt,
    Tab,
    parse_read_receipt,
    sign_claim,
    sign_read_receipt,
)

COORDINATOR, GATEWAY, NODE = Identity(b"c" * 32), Identity(b"g" * 32), Identity(b"p" * 32)
SETTLEMENT_KEY = bytes(range(32))
TIME_MS = 1_700_000_000_000
ACCOUNT = bytes([7]) * 16


def _limit(number: int) -> OrderLimit:
    return OrderLimit(
        Action.GET, NodeId(NODE.node_id), SegmentId(bytes([3]) * 16), 1_234, number, 65_536,
        TIME_MS, TIME_MS + 900_000, OrderSerial(bytes([number]) * 16), PayerTag(bytes(16)),
        GATEWAY.public_key,
    )  # fmt: skip


def _refusal(signed: bytes) -> str:
    try:
        parse_read_receipt(signed)
    except AtollError as error:
        return error.kind.value
    raise AssertionError("it is taken")


def receipts() -> dict[str, Any]:
    """Everything that another implementation must make of the same."""
    entries = {bytes([1]) * 16: 4_096, bytes([2]) * 16: 65_536}
    of = Tab(GATEWAY.public_key, NODE.node_id, COORDINATOR.public_key, bytes([9]) * 16)
    receipt = ReadReceipt(of, 5, TIME_MS, 1_000_000, 77, entries)
    signed = sign_read_receipt(GATEWAY, receipt)
    claim = sign_claim(NODE, signed)
    kept = SignedReceipt(of.tab, 5, 69_632, signed[:SIGNED_HEAD_BYTES], NODE.public_key, claim)
    limits = sign_orders(
        COORDINATOR, [_limit(number) for number in (1, 2)], settlement_key=SETTLEMENT_KEY
    )
    line = ReadLine(1, ACCOUNT, 69_632)
    refused = {
        "cut short": signed[:-1],
        "an entry changed": signed[:-1] + bytes([signed[-1] ^ 1]),
        "a later version": bytes([2]) + signed[1:],
        "a reserved byte": signed[:1] + b"\1" + signed[2:],
        "no sequence": signed[:120] + bytes(8) + signed[128:],
    }
    return {
        "seeds": {"coordinator": (b"c" * 32).hex(), "gateway": (b"g" * 32).hex(),
                  "node": (b"p" * 32).hex()},
        "receipt": {
            "tab": of.tab.hex(),
            "sequence": receipt.sequence,
            "time_ms": receipt.time_ms,
            "byte_count": receipt.byte_count,
            "order_count": receipt.order_count,
            "entries": [[serial.hex(), count] for serial, count in entries.items()],
            "signed": signed.hex(),
            "node_signature": claim.hex(),
        },
        "refused": [
            {"what": what, "signed": body.hex(), "kind": _refusal(body)}
            for what, body in refused.items()
        ],
        "settlement": {
            "key": SETTLEMENT_KEY.hex(),
            "limits": [one[:LIMIT_BYTES].hex() for one in limits],
        },
        "evidence": {
            "epoch": 4,
            "account": ACCOUNT.hex(),
            "byte_count": line.byte_count,
            "digest": kept.digest().hex(),
            "evidence": evidence_of(4, NODE.node_id, line, [kept]).hex(),
        },
    }  # fmt: skip
