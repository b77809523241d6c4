"""What stands behind a line of an epoch: told to the customer whose line it is."""

import contextlib

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages.metering import ExplainReceipt, Receipt, SignedRead
from atoll.core.orders import SIGNED_RECEIPT_BYTES, check_receipt
from atoll.core.receipts import gateway_signed, node_signed, parse_head
from atoll.gateway.customer.call import CustomerCall


class _Question(msgspec.Struct, frozen=True):
    evidence: str
    """In hex."""


class ReadShown(msgspec.Struct, frozen=True):
    """One receipt of reads; bytes in hex."""

    gateway_key: str
    tab: str
    sequence: int
    time_ms: int
    """By the gateway's clock."""
    total_bytes: int
    """Since the tab began, as the gateway signed it."""
    byte_count: int
    """What of it counted in the epoch."""
    order_count: int
    gateway_signed: bool
    node_signed: bool
    receipt: str
    node_key: str
    signature: str


class ReceiptShown(msgspec.Struct, frozen=True):
    """A receipt as its customer sees it; ids in hex."""

    evidence: str
    epoch: int
    node_id: str
    bucket: str
    piece_bytes: int
    from_ms: int
    until_ms: int
    price_pico: int
    head: str
    kind: str = "storage"
    reads: list[ReadShown] = []
    failed: str = ""
    task: str = ""
    new_holders: list[str] = []
    """Ids of nodes whose signed receipts for rebuilt pieces hold."""


async def explain(call: CustomerCall) -> ReceiptShown:
    """Return what was metered. Raises ``NOT_FOUND``, also for somebody else's line.

    Lines of repair name nobody who stores: any customer may ask about them.
    """
    asked = call.read(_Question)
    try:
        evidence = bytes.fromhex(asked.evidence)
    except ValueError as cause:
        raise AtollError(Kind.BAD_REQUEST, "explain receipt", "an id is hex digits") from cause
    control = call.services.control
    found = await control.ask(ExplainReceipt(evidence=evidence), Receipt)
    if found.kind != "repair" and found.account != call.caller.account:
        raise AtollError(
            Kind.NOT_FOUND, "explain receipt", "no line was metered with this evidence"
        )
    return ReceiptShown(
        evidence=found.evidence.hex(),
        epoch=found.epoch,
        node_id=found.node_id.hex(),
        bucket=found.bucket.hex(),
        piece_bytes=found.piece_bytes,
        from_ms=found.from_ms,
        until_ms=found.until_ms,
        price_pico=found.price_pico,
        head=found.head.hex(),
        kind=found.kind,
        reads=[_shown(one) for one in found.reads],
        failed=found.failed.hex(),
        task=found.task.hex(),
        new_holders=_holders(found.pieces),
    )


def _shown(one: SignedRead) -> ReadShown:
    head = parse_head(one.receipt)
    return ReadShown(
        gateway_key=head.of.gateway_key.hex(),
        tab=head.of.tab.hex(),
        sequence=head.sequence,
        time_ms=head.time_ms,
        total_bytes=head.byte_count,
        byte_count=one.byte_count,
        order_count=head.order_count,
        gateway_signed=gateway_signed(one.receipt),
        node_signed=node_signed(one.receipt, one.node_key, one.signature),
        receipt=one.receipt.hex(),
        node_key=one.node_key.hex(),
        signature=one.signature.hex(),
    )


def _holders(pieces: bytes) -> list[str]:
    """Return who signed for rebuilt pieces; a signature that does not hold is left out."""
    found = []
    for start in range(0, len(pieces), SIGNED_RECEIPT_BYTES):
        with contextlib.suppress(AtollError):
            found.append(check_receipt(pieces[start : start + SIGNED_RECEIPT_BYTES]).node_id.hex())
    return found
