"""What stands behind a line of an epoch: told to the customer whose line it is."""

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.messages.metering import ExplainReceipt, Receipt
from atoll.gateway.customer.call import CustomerCall


class _Question(msgspec.Struct, frozen=True):
    evidence: str
    """In hex."""


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


async def explain(call: CustomerCall) -> ReceiptShown:
    """Return what was metered. Raises ``NOT_FOUND``, also for somebody else's line."""
    asked = call.read(_Question)
    try:
        evidence = bytes.fromhex(asked.evidence)
    except ValueError as cause:
        raise AtollError(Kind.BAD_REQUEST, "explain receipt", "an id is hex digits") from cause
    control = call.services.control
    found = await control.ask(ExplainReceipt(evidence=evidence), Receipt)
    if found.account != call.caller.account:
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
    )
