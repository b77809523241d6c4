"""Pure decisions about receipts: who may read on, what is forgiven, what is claimed together."""

from collections.abc import Iterable

from atoll.core.messages.traffic import CLAIM_ORDERS_MAX, CLAIMS_MAX
from atoll.node.receipts.model import (
    FORGIVEN_BYTES_PER_S,
    FORGIVEN_PARTS,
    GATEWAY_UNPAID_BYTES_MAX,
    ORDER_UNPAID_BYTES_MAX,
    UNDER_WAY_BYTES_MAX,
    Debtor,
    KeptClaim,
    OpenOrder,
)


def forgive(debtor: Debtor, now_s: float) -> None:
    """Take time into account."""
    passed_s = max(0.0, now_s - debtor.forgiven_s)
    debtor.forgiven_s = now_s
    if debtor.unpaid_bytes > 0:
        debtor.unpaid_bytes = max(0, debtor.unpaid_bytes - int(passed_s * FORGIVEN_BYTES_PER_S))


def may_read(debtor: Debtor) -> bool:
    """Say whether a gateway may begin another read."""
    unpaid = debtor.unpaid_bytes
    return (
        unpaid <= GATEWAY_UNPAID_BYTES_MAX
        and unpaid + debtor.under_way_bytes <= UNDER_WAY_BYTES_MAX
    )


def may_go_on(order: OpenOrder, count: int) -> bool:
    """Say whether so many bytes more may go out under an order."""
    return order.served_bytes + count - order.paid_bytes <= ORDER_UNPAID_BYTES_MAX


def pay(order: OpenOrder, byte_count: int) -> int:
    """Take a receipt's word for an order into account; return what is newly paid.

    Not more than the order allows: the coordinator would not take it.
    """
    paid = min(byte_count, order.byte_cap)
    more = max(0, paid - order.paid_bytes)
    order.paid_bytes += more
    debtor = order.debtor
    debtor.paid_bytes += more
    debtor.unpaid_bytes -= more
    if debtor.unpaid_bytes > 0:
        debtor.unpaid_bytes = max(0, debtor.unpaid_bytes - more // FORGIVEN_PARTS)
    return more


def page_of(claims: Iterable[KeptClaim], coordinator_key: bytes) -> list[KeptClaim]:
    """Return as many claims for one coordinator, oldest first, as go into one message."""
    page: list[KeptClaim] = []
    orders = 0
    for claim in claims:
        if claim.coordinator_key != coordinator_key:
            continue
        orders += len(claim.orders)
        if page and (len(page) >= CLAIMS_MAX or orders > CLAIM_ORDERS_MAX):
            break
        page.append(claim)
    return page
