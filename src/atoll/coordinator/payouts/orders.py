"""The SQL of payouts: how nodes want to be paid, and payments on their way."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from sqlalchemy.engine import Connection

from atoll.coordinator.billing.model import Barter
from atoll.coordinator.payouts.model import (
    TAKEN,
    FileRow,
    Method,
    Order,
    OrderState,
    PaidSums,
    Terms,
)
from atoll.coordinator.payouts.seal import Seal
from atoll.coordinator.sql import Statement
from atoll.core.errors import AtollError, Kind
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.amounts import pico_of
from atoll.economy.payments.payouts.model import Progress, State
from atoll.economy.payments.payouts.order import end_to_end_of

_TERMS_COLUMNS = "node, method, credit_bps, customer, sealed, problem, changed_ms"
_PUT_TERMS = Statement("""
    INSERT INTO payout_terms (node, method, credit_bps, customer, sealed, problem, changed_ms)
    VALUES (:node, :method, :credit_bps, :customer, :sealed, :problem, :changed_ms)
    ON CONFLICT (node) DO UPDATE SET method = excluded.method, credit_bps = excluded.credit_bps,
        customer = excluded.customer, sealed = excluded.sealed, problem = excluded.problem,
        changed_ms = excluded.changed_ms""")
_ALL_TERMS = Statement("SELECT {columns} FROM payout_terms", columns=_TERMS_COLUMNS)
_TERMS = Statement("SELECT {columns} FROM payout_terms WHERE node = :node", columns=_TERMS_COLUMNS)
_BARTERS = Statement(
    "SELECT node, credit_bps, customer FROM payout_terms WHERE customer <> :nobody"
)
_PAID = Statement("""
    SELECT node, bank_state, SUM(amount_cents) FROM payout
    WHERE state IN ('set_aside', 'filed') GROUP BY node, bank_state""")

_ORDER = (
    "payout, node, account, end_to_end, amount_cents, state, sealed, statement, permit, file,"
    " bank_state, reason, conflict, paid_by, returned_by, created_ms, changed_ms"
)
_PUT = Statement(
    """INSERT INTO payout ({columns}) VALUES (:payout, :node, :account, :end_to_end,
    :amount_cents, :state, :sealed, :statement, :permit, :file, :bank_state, :reason, :conflict,
    :paid_by, :returned_by, :created_ms, :changed_ms)""",
    columns=_ORDER,
)
_MOVE = Statement("""
    UPDATE payout SET state = :state, permit = :permit, file = :file, bank_state = :bank_state,
        reason = :reason, conflict = :conflict, paid_by = :paid_by, returned_by = :returned_by,
        changed_ms = :changed_ms
    WHERE payout = :payout AND state = :state_before AND changed_ms = :changed_before""")
_ONE = Statement("SELECT {columns} FROM payout WHERE payout = :payout", columns=_ORDER)
_BY_END_TO_END = Statement(
    "SELECT {columns} FROM payout WHERE end_to_end = :end_to_end", columns=_ORDER
)
_IN_STATE = Statement(
    """SELECT {columns} FROM payout WHERE state = :state ORDER BY created_ms, payout
    LIMIT :limit""",
    columns=_ORDER,
)
_OF_NODE = Statement(
    """SELECT {columns} FROM payout WHERE node = :node ORDER BY created_ms DESC, payout
    LIMIT :limit""",
    columns=_ORDER,
)
_OPEN_OF_NODE = Statement(
    "SELECT 1 FROM payout WHERE node = :node AND state IN ('asked', 'signed') LIMIT 1"
)
_RECENT = Statement(
    """SELECT {columns} FROM payout WHERE created_ms < :before ORDER BY created_ms DESC, payout
    LIMIT :limit""",
    columns=_ORDER,
)
_OF_FILE = Statement(
    "SELECT {columns} FROM payout WHERE file = :file ORDER BY created_ms, payout", columns=_ORDER
)
_SUM_IN_STATE = Statement("""
    SELECT COUNT(*), COALESCE(SUM(amount_cents), 0) FROM payout WHERE state = :state""")
_TAKEN = Statement("""
    SELECT COALESCE(SUM(amount_cents), 0) FROM payout
    WHERE account = :account AND state IN (:one, :two, :three)""")
_FILE = "number, execution_date, version, message, batch, sealed, created_ms"
_PUT_FILE = Statement(
    """INSERT INTO payout_file ({columns}) VALUES (:number, :execution_date, :version, :message,
    :batch, :sealed, :created_ms)""",
    columns=_FILE,
)
_NEXT_FILE = Statement("SELECT COALESCE(MAX(number), 0) + 1 FROM payout_file")
_ONE_FILE = Statement("SELECT {columns} FROM payout_file WHERE number = :number", columns=_FILE)
_FILE_OF_MESSAGE = Statement(
    "SELECT {columns} FROM payout_file WHERE message = :message", columns=_FILE
)
_FILE_OF_BATCH = Statement("SELECT {columns} FROM payout_file WHERE batch = :batch", columns=_FILE)

Open = Callable[[bytes, bytes], BankAccount | None]
"""Opens what is sealed about a node's bank account."""


def put_terms(connection: Connection, terms: Terms, sealed: bytes) -> None:
    """Write how a node wants to be paid."""
    _PUT_TERMS.run(
        connection,
        node=terms.node,
        method=terms.method.value,
        credit_bps=terms.credit_bps,
        customer=terms.customer,
        sealed=sealed,
        problem=terms.problem,
        changed_ms=terms.changed_ms,
    )


def all_terms(connection: Connection, unseal: Open) -> dict[bytes, Terms]:
    """Return how every node that said so wants to be paid."""
    return {bytes(row[0]): _terms(row, unseal) for row in _ALL_TERMS.all(connection)}


def terms_of(connection: Connection, node: bytes, unseal: Open) -> Terms:
    """Return how a node wants to be paid; the usual terms where it never said."""
    row = _TERMS.first(connection, node=node)
    return Terms(node) if row is None else _terms(row, unseal)


def _terms(row: tuple[bytes, str, int, bytes, bytes, str, int], unseal: Open) -> Terms:
    node, method, credit_bps, customer, sealed, problem, changed_ms = row
    return Terms(
        node=bytes(node),
        method=Method(method),
        credit_bps=int(credit_bps),
        customer=bytes(customer),
        bank=unseal(bytes(node), bytes(sealed)),
        problem=problem,
        changed_ms=int(changed_ms),
    )


def barters(connection: Connection) -> dict[bytes, Barter]:
    """Return whose storage nodes' pay is spent on, and which share of it."""
    return {
        bytes(node): Barter(int(share_bps), bytes(customer))
        for node, share_bps, customer in _BARTERS.all(connection, nobody=b"")
    }


def paid_sums(connection: Connection) -> dict[bytes, PaidSums]:
    """Return what is on its way to each node's bank, and what has left for it."""
    found: dict[bytes, PaidSums] = {}
    for node, bank_state, cents in _PAID.all(connection):
        had = found.get(bytes(node), PaidSums())
        amount = pico_of(int(cents))
        if bank_state == "paid":
            after = PaidSums(had.sent_pico, had.paid_pico + amount)
        else:
            after = PaidSums(had.sent_pico + amount, had.paid_pico)
        found[bytes(node)] = after
    return found


# --- payments ------------------------------------------------------------------------------------


def new_order(order: Order) -> Order:
    """Return an order with what follows from its id."""
    return replace(order, end_to_end=end_to_end_of(order.payout))


def put(connection: Connection, order: Order, seal: Seal) -> None:
    """Write a new order."""
    _PUT.run(
        connection,
        node=order.node,
        account=order.account,
        end_to_end=order.end_to_end,
        amount_cents=order.amount_cents,
        sealed=seal.close(order.payout, order.to),
        statement=order.statement,
        created_ms=order.created_ms,
        **_changing(order),
    )


def _changing(order: Order) -> dict[str, object]:
    said = order.progress
    return {
        "payout": order.payout,
        "state": order.state.value,
        "permit": order.permit,
        "file": order.file,
        "bank_state": said.state.value if said else "",
        "reason": said.reason if said else "",
        "conflict": said.conflict if said else "",
        "paid_by": said.paid_by if said else b"",
        "returned_by": said.returned_by if said else b"",
        "changed_ms": order.changed_ms,
    }


def move(connection: Connection, before: Order, after: Order) -> bool:
    """Bring an order on; False where it is not (any more) as ``before`` says."""
    return bool(
        _MOVE.run(
            connection,
            state_before=before.state.value,
            changed_before=before.changed_ms,
            **_changing(after),
        )
    )


def one(connection: Connection, payout: bytes, seal: Seal) -> Order | None:
    """Return an order by its id."""
    row = _ONE.first(connection, payout=payout)
    return None if row is None else _order(row, seal)


def by_end_to_end(connection: Connection, names: Iterable[str], seal: Seal) -> list[Order]:
    """Return the orders that banks know by these names."""
    rows = (_BY_END_TO_END.first(connection, end_to_end=name) for name in names)
    return [_order(row, seal) for row in rows if row is not None]


def in_state(connection: Connection, state: OrderState, limit: int, seal: Seal) -> list[Order]:
    """Return orders in a state, oldest first."""
    rows = _IN_STATE.all(connection, state=state.value, limit=limit)
    return [_order(row, seal) for row in rows]


def of_node(connection: Connection, node: bytes, limit: int, seal: Seal) -> list[Order]:
    """Return a node's orders, newest first."""
    return [_order(row, seal) for row in _OF_NODE.all(connection, node=node, limit=limit)]


def is_open(connection: Connection, node: bytes) -> bool:
    """Say whether a payout to a node is being asked for or on its way over the chain."""
    return _OPEN_OF_NODE.first(connection, node=node) is not None


def recent(connection: Connection, before_ms: int, limit: int, seal: Seal) -> list[Order]:
    """Return orders from before a moment, newest first."""
    return [_order(row, seal) for row in _RECENT.all(connection, before=before_ms, limit=limit)]


def of_file(connection: Connection, file: int, seal: Seal) -> list[Order]:
    """Return the orders of a file, in its order."""
    return [_order(row, seal) for row in _OF_FILE.all(connection, file=file)]


def sum_in_state(connection: Connection, state: OrderState) -> tuple[int, int]:
    """Return how many orders are in a state, and their cents."""
    count, cents = _SUM_IN_STATE.first(connection, state=state.value)
    return int(count), int(cents)


def taken_cents(connection: Connection, account: bytes) -> int:
    """Return what was taken from an account on the chain and is not back there."""
    first, second, third = (state.value for state in TAKEN)
    return int(_TAKEN.scalar(connection, account=account, one=first, two=second, three=third))


def _order(row: tuple[object, ...], seal: Seal) -> Order:
    (
        payout, node, account, end_to_end, cents, state, sealed, statement, permit, file,
        bank_state, reason, conflict, paid_by, returned_by, created_ms, changed_ms,
    ) = row  # fmt: skip
    key = _bytes(payout)
    to = seal.open(key, _bytes(sealed))
    if to is None:
        raise AtollError(Kind.CORRUPT, "read payout", "a payout goes nowhere", about=key.hex())
    said = None
    if bank_state:
        said = Progress(
            State(bank_state), str(reason), str(conflict), _bytes(paid_by), _bytes(returned_by)
        )
    return Order(
        payout=key,
        node=_bytes(node),
        account=_bytes(account),
        amount_cents=_int(cents),
        state=OrderState(state),
        to=to,
        created_ms=_int(created_ms),
        end_to_end=str(end_to_end),
        statement=_bytes(statement),
        permit=_bytes(permit),
        file=_int(file),
        progress=said,
        changed_ms=_int(changed_ms),
    )


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes | memoryview)
    return bytes(value)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


# --- files ---------------------------------------------------------------------------------------


def next_file(connection: Connection) -> int:
    """Return the next file's number."""
    return int(_NEXT_FILE.scalar(connection))


def put_file(connection: Connection, file: FileRow, seal: Seal) -> None:
    """Write a file's row."""
    _PUT_FILE.run(
        connection,
        number=file.number,
        execution_date=file.execution_date,
        version=file.version,
        message=file.message,
        batch=file.batch,
        sealed=seal.close(_file_owner(file.number), file.debtor),
        created_ms=file.created_ms,
    )


def file(connection: Connection, number: int, seal: Seal) -> FileRow | None:
    """Return a file's row."""
    row = _ONE_FILE.first(connection, number=number)
    return None if row is None else _file(row, seal)


def file_of_message(connection: Connection, message: str, seal: Seal) -> FileRow | None:
    """Return the file that a bank knows by its message."""
    row = _FILE_OF_MESSAGE.first(connection, message=message)
    return None if row is None else _file(row, seal)


def files_of_batches(
    connection: Connection, batches: Iterable[str], seal: Seal
) -> Iterator[FileRow]:
    """Yield the files that a bank knows by their batches."""
    for name in batches:
        row = _FILE_OF_BATCH.first(connection, batch=name)
        if row is not None:
            yield _file(row, seal)


def _file(row: tuple[int, str, str, str, str, bytes, int], seal: Seal) -> FileRow:
    number, execution_date, version, message, batch, sealed, created_ms = row
    debtor = seal.open(_file_owner(int(number)), bytes(sealed))
    if debtor is None:
        raise AtollError(Kind.CORRUPT, "read payout file", "a file comes from nowhere")
    return FileRow(int(number), execution_date, version, message, batch, debtor, int(created_ms))


def _file_owner(number: int) -> bytes:
    return b"payout-file/%d" % number
