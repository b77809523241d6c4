"""The SQL of traffic; all in the caller's transaction."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.engine import Connection

from atoll.coordinator.sql import Statement
from atoll.coordinator.traffic.model import OrderRead, ReadLine, SignedReceipt
from atoll.coordinator.traffic.rules import windows_of

_NAMES = [f"serial_{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
_START = Statement("""
    INSERT INTO read_line (epoch, alias, account, byte_count, evidence)
    VALUES (-1, 0, :nobody, 0, :nobody) ON CONFLICT (epoch, alias, account) DO NOTHING""")
_LOCK = Statement("SELECT alias FROM read_line WHERE epoch = -1 FOR UPDATE")
_LOCK_SHARED = Statement("SELECT alias FROM read_line WHERE epoch = -1 FOR SHARE")
_LOCK_NODE = Statement("SELECT alias FROM node WHERE alias = :alias FOR NO KEY UPDATE")
_SETTLED = Statement("""
    SELECT issued_ms, serial, byte_count FROM read_order
    WHERE alias = :alias AND issued_ms >= :first_ms AND issued_ms <= :last_ms""")
_PUT_ORDER = Statement("""
    INSERT INTO read_order (alias, issued_ms, serial, byte_count)
    VALUES (:alias, :issued_ms, :serial, :byte_count)
    ON CONFLICT (alias, issued_ms, serial) DO UPDATE SET byte_count = excluded.byte_count""")
_ALIASES = Statement("SELECT DISTINCT alias FROM read_order")
_FORGET_ORDERS = Statement("DELETE FROM read_order WHERE alias = :alias AND issued_ms < :before_ms")
_PAYERS = Statement(
    """SELECT segment.serial, segment.segment, bucket.account FROM segment
    JOIN bucket ON bucket.bucket = segment.bucket WHERE segment.serial IN ({columns})""",
    columns=", ".join(f":{name}" for name in _NAMES),
)
_PAYER_BEFORE = Statement(
    "SELECT account FROM spent WHERE segment = :segment AND account IS NOT NULL"
)
_ADD_LINE = Statement("""
    INSERT INTO read_line (epoch, alias, account, byte_count, evidence)
    VALUES (0, :alias, :account, :byte_count, :evidence)
    ON CONFLICT (epoch, alias, account) DO UPDATE
    SET byte_count = read_line.byte_count + excluded.byte_count""")
_ADD_RECEIPT = Statement("""
    INSERT INTO read_receipt (epoch, alias, tab, sequence, byte_count, receipt, node_key, signature)
    VALUES (0, :alias, :tab, :sequence, :byte_count, :receipt, :node_key, :signature)
    ON CONFLICT (epoch, alias, tab) DO UPDATE
    SET byte_count = read_receipt.byte_count + excluded.byte_count""")
_RENEW_RECEIPT = Statement("""
    UPDATE read_receipt SET sequence = :sequence, receipt = :receipt, signature = :signature
    WHERE epoch = 0 AND alias = :alias AND tab = :tab AND sequence < :sequence""")
_LINES = Statement("""
    SELECT alias, account, byte_count, evidence FROM read_line
    WHERE epoch = :epoch ORDER BY alias, account""")
_RECEIPTS = Statement("""
    SELECT alias, tab, sequence, byte_count, receipt, node_key, signature FROM read_receipt
    WHERE epoch = :epoch ORDER BY alias, tab""")
_RECEIPTS_OF = Statement("""
    SELECT alias, tab, sequence, byte_count, receipt, node_key, signature FROM read_receipt
    WHERE epoch = :epoch AND alias = :alias ORDER BY alias, tab""")
_SETTLE_LINE = Statement("""
    UPDATE read_line SET epoch = :epoch, evidence = :evidence
    WHERE epoch = 0 AND alias = :alias AND account = :account""")
_SETTLE_RECEIPTS = Statement("UPDATE read_receipt SET epoch = :epoch WHERE epoch = 0")
_BY_EVIDENCE = Statement("""
    SELECT epoch, alias, account, byte_count FROM read_line
    WHERE evidence = :evidence AND epoch > 0 ORDER BY epoch LIMIT 1""")


def lock_node(connection: Connection, alias: int) -> None:
    """Let nobody else settle for this node, and no epoch be closed, until the transaction ends."""
    _START.run(connection, nobody=b"")
    _LOCK_SHARED.first(connection)
    _LOCK_NODE.first(connection, alias=alias)


def lock_all(connection: Connection) -> None:
    """Let nobody settle until the transaction ends."""
    _START.run(connection, nobody=b"")
    _LOCK.first(connection)


def settled(
    connection: Connection, alias: int, orders: Sequence[OrderRead]
) -> dict[tuple[int, bytes], int]:
    """Return the bytes settled under these orders (and perhaps others), by issue and serial."""
    found = {}
    for first_ms, last_ms in windows_of(orders):
        for issued_ms, serial, byte_count in _SETTLED.all(
            connection, alias=alias, first_ms=first_ms, last_ms=last_ms
        ):
            found[int(issued_ms), bytes(serial)] = int(byte_count)
    return found


def payers(connection: Connection, orders: Iterable[OrderRead]) -> dict[tuple[int, bytes], bytes]:
    """Return whose each order's segment is, or was, by its serial and id."""
    wanted = {(order.segment_serial, order.segment) for order in orders}
    serials = sorted({serial for serial, _ in wanted})
    found: dict[tuple[int, bytes], bytes] = {}
    for start in range(0, len(serials), len(_NAMES)):
        some = serials[start : start + len(_NAMES)]
        some += [some[-1]] * (len(_NAMES) - len(some))
        for serial, segment, account in _PAYERS.all(
            connection, **dict(zip(_NAMES, some, strict=True))
        ):
            found[int(serial), bytes(segment)] = bytes(account)
    for key in wanted - found.keys():
        account = _PAYER_BEFORE.scalar(connection, segment=key[1])
        if account is not None:
            found[key] = bytes(account)
    return found


def put_orders(connection: Connection, alias: int, orders: Iterable[OrderRead]) -> None:
    """Remember what is settled under orders."""
    _PUT_ORDER.many(
        connection,
        [
            {
                "alias": alias,
                "issued_ms": order.issued_ms,
                "serial": order.serial,
                "byte_count": order.byte_count,
            }
            for order in orders
        ],
    )


def forget_orders(connection: Connection, before_ms: int) -> int:
    """Forget orders issued before a time; return how many."""
    aliases = [alias for (alias,) in _ALIASES.all(connection)]
    return sum(
        _FORGET_ORDERS.run(connection, alias=alias, before_ms=before_ms) for alias in aliases
    )


def add(
    connection: Connection, alias: int, accounts: Mapping[bytes, int], receipt: SignedReceipt
) -> None:
    """Add what a receipt newly counts to the open lines, and keep it if it is its tab's newest."""
    _ADD_LINE.many(
        connection,
        [
            {"alias": alias, "account": account, "byte_count": byte_count, "evidence": b""}
            for account, byte_count in sorted(accounts.items())
        ],
    )
    _ADD_RECEIPT.run(
        connection,
        alias=alias,
        tab=receipt.tab,
        sequence=receipt.sequence,
        byte_count=receipt.byte_count,
        receipt=receipt.receipt,
        node_key=receipt.node_key,
        signature=receipt.signature,
    )
    _RENEW_RECEIPT.run(
        connection,
        alias=alias,
        tab=receipt.tab,
        sequence=receipt.sequence,
        receipt=receipt.receipt,
        signature=receipt.signature,
    )


def lines_of(connection: Connection, epoch: int) -> list[ReadLine]:
    """Return the lines of an epoch, 0 for the one that goes on, in order."""
    return [
        ReadLine(alias, bytes(account), int(byte_count), bytes(evidence))
        for alias, account, byte_count, evidence in _LINES.all(connection, epoch=epoch)
    ]


def _receipt(row: Sequence[object]) -> SignedReceipt:
    _, tab, sequence, byte_count, receipt, node_key, signature = row
    return SignedReceipt(
        bytes(tab),  # type: ignore[call-overload]
        int(sequence),  # type: ignore[call-overload]
        int(byte_count),  # type: ignore[call-overload]
        bytes(receipt),  # type: ignore[call-overload]
        bytes(node_key),  # type: ignore[call-overload]
        bytes(signature),  # type: ignore[call-overload]
    )


def receipts_of(connection: Connection, epoch: int) -> dict[int, list[SignedReceipt]]:
    """Return the receipts of an epoch by alias."""
    found: dict[int, list[SignedReceipt]] = {}
    for row in _RECEIPTS.all(connection, epoch=epoch):
        found.setdefault(row[0], []).append(_receipt(row))
    return found


def receipts_at(connection: Connection, epoch: int, alias: int) -> list[SignedReceipt]:
    """Return the receipts of one node in an epoch."""
    return [_receipt(row) for row in _RECEIPTS_OF.all(connection, epoch=epoch, alias=alias)]


def settle(connection: Connection, epoch: int, lines: Iterable[ReadLine]) -> None:
    """Fix open lines, each with its evidence, and all receipts in an epoch."""
    _SETTLE_LINE.many(
        connection,
        [
            {
                "epoch": epoch,
                "evidence": line.evidence,
                "alias": line.alias,
                "account": line.account,
            }
            for line in lines
        ],
    )
    _SETTLE_RECEIPTS.run(connection, epoch=epoch)


def by_evidence(connection: Connection, evidence: bytes) -> tuple[int, ReadLine] | None:
    """Return epoch and line that an evidence stands for."""
    row = _BY_EVIDENCE.first(connection, evidence=evidence)
    if row is None:
        return None
    epoch, alias, account, byte_count = row
    return int(epoch), ReadLine(alias, bytes(account), int(byte_count), evidence)
