"""Pure decisions of traffic: which entries of a receipt count, and how much."""

from collections.abc import Mapping, Sequence

from atoll.coordinator.traffic.model import SETTLE_MS_MAX, SKEW_MS_MAX, WINDOW_MS, OrderRead
from atoll.core.errors import AtollError, Kind
from atoll.core.orders import issued_with, read_limit_of, serial_of
from atoll.core.receipts import ReadReceipt


def check_parties(receipt: ReadReceipt, node_id: bytes, coordinator_key: bytes) -> None:
    """Raise ``FORBIDDEN`` for a receipt of another node, or for another coordinator."""
    if receipt.of.node_id != node_id or receipt.of.coordinator_key != coordinator_key:
        raise AtollError(
            Kind.FORBIDDEN, "claim reads", "the receipt is another node's or coordinator's"
        )


def orders_of(
    receipt: ReadReceipt, limits: Sequence[bytes], settlement_key: bytes, now_ms: int
) -> list[OrderRead]:
    """Return the entries whose orders hold: issued here, for this gateway and node, not too old.

    Raises ``BAD_REQUEST`` where there is not one limit for each entry.
    """
    if len(limits) != len(receipt.entries):
        raise AtollError(Kind.BAD_REQUEST, "claim reads", "a claim has one limit for each entry")
    gateway_key, node_id = receipt.of.gateway_key, receipt.of.node_id
    found = []
    for (serial, byte_count), limit in zip(receipt.entries.items(), limits, strict=True):
        if serial_of(limit) != serial or not issued_with(settlement_key, limit):
            continue
        order = read_limit_of(limit)
        holds = (
            order is not None
            and order.node_id == node_id
            and order.gateway_key == gateway_key
            and byte_count <= order.byte_cap
            and now_ms - SETTLE_MS_MAX <= order.issued_ms <= now_ms + SKEW_MS_MAX
        )
        if order is not None and holds:
            found.append(
                OrderRead(
                    serial, order.issued_ms, order.segment_id, order.segment_serial, byte_count
                )
            )
    return found


def windows_of(orders: Sequence[OrderRead]) -> list[tuple[int, int]]:
    """Return spans of time, first and last millisecond, in which all the orders were issued."""
    spans: list[tuple[int, int]] = []
    for issued_ms in sorted({order.issued_ms for order in orders}):
        if spans and issued_ms < spans[-1][0] + WINDOW_MS:
            spans[-1] = (spans[-1][0], issued_ms)
        else:
            spans.append((issued_ms, issued_ms))
    return spans


def counted(
    orders: Sequence[OrderRead],
    settled: Mapping[tuple[int, bytes], int],
    payers: Mapping[tuple[int, bytes], bytes],
) -> tuple[list[OrderRead], dict[bytes, int]]:
    """Return the orders under which more was read than is settled, and the new bytes by account.

    ``settled`` is by time of issue and serial, ``payers`` by the segment's serial and id; whose
    segment it was nobody knows any more counts for nobody.
    """
    fresh, accounts = [], dict[bytes, int]()
    for order in orders:
        account = payers.get((order.segment_serial, order.segment))
        more = order.byte_count - settled.get((order.issued_ms, order.serial), 0)
        if account is not None and more > 0:
            fresh.append(order)
            accounts[account] = accounts.get(account, 0) + more
    return fresh, accounts
