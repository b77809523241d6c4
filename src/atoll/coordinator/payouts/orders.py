"""The SQL of payouts: how nodes want to be paid, and payments on their way."""

from collections.abc import Callable

from sqlalchemy.engine import Connection

from atoll.coordinator.billing.model import Barter
from atoll.coordinator.payouts.model import Method, PaidSums, Terms
from atoll.coordinator.sql import Statement
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.amounts import pico_of

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
