"""The SQL of the ledger; all in the caller's transaction.

Amounts are in debits (positive) and credits (negative) in the posting, balances in the account's
own sense.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy.engine import Connection

from atoll.core.money import PICO_PER_MICRO
from atoll.economy.ledger.model import (
    Account,
    Balance,
    Entry,
    Posting,
    StatementLine,
    StoredEntry,
)
from atoll.economy.ledger.rules import CHAIN_START, in_own_sense
from atoll.economy.sql import Statement

_HEAD_START = Statement("""
    INSERT INTO ledger_head (id, number, chain) VALUES (1, 0, :chain)
    ON CONFLICT (id) DO NOTHING""")
_HEAD_LOCKED = Statement("SELECT number, chain FROM ledger_head WHERE id = 1 FOR UPDATE")
_HEAD = Statement("SELECT number, chain FROM ledger_head WHERE id = 1")
_HEAD_MOVE = Statement("UPDATE ledger_head SET number = :number, chain = :chain WHERE id = 1")
_BY_KEY = Statement("SELECT number, digest FROM ledger_entry WHERE key = :key")
_BALANCE = Statement("""
    SELECT balance_micro, balance_pico, postings FROM ledger_balance
    WHERE kind = :kind AND owner = :owner""")
_BALANCES = Statement("""
    SELECT kind, owner, balance_micro, balance_pico, postings FROM ledger_balance
    WHERE kind = :kind AND owner > :after ORDER BY owner LIMIT :limit""")
_SUMS = Statement("""
    SELECT kind, SUM(balance_micro), SUM(balance_pico) FROM ledger_balance
    GROUP BY kind ORDER BY kind""")
_PUT_ENTRY = Statement("""
    INSERT INTO ledger_entry (number, key, time_ms, kind, evidence, memo, digest, chain)
    VALUES (:number, :key, :time_ms, :kind, :evidence, :memo, :digest, :chain)""")
_PUT_POSTING = Statement("""
    INSERT INTO ledger_posting (entry, line, kind, owner, number, amount_micro, amount_pico,
        balance_micro, balance_pico)
    VALUES (:entry, :line, :kind, :owner, :number, :amount_micro, :amount_pico,
        :balance_micro, :balance_pico)""")
_PUT_BALANCE = Statement("""
    INSERT INTO ledger_balance (kind, owner, balance_micro, balance_pico, postings)
    VALUES (:kind, :owner, :balance_micro, :balance_pico, :postings)
    ON CONFLICT (kind, owner) DO UPDATE SET balance_micro = excluded.balance_micro,
        balance_pico = excluded.balance_pico, postings = excluded.postings""")
_LINES = Statement("""
    SELECT p.number, p.entry, e.time_ms, e.kind, p.amount_micro, p.amount_pico,
        p.balance_micro, p.balance_pico, e.evidence, e.memo
    FROM ledger_posting p JOIN ledger_entry e ON e.number = p.entry
    WHERE p.kind = :kind AND p.owner = :owner AND p.number > :after
    ORDER BY p.number LIMIT :limit""")
_ENTRIES = Statement("""
    SELECT number, key, time_ms, kind, evidence, memo, chain FROM ledger_entry
    WHERE number > :after ORDER BY number LIMIT :limit""")
_POSTINGS = Statement("""
    SELECT kind, owner, amount_micro, amount_pico FROM ledger_posting
    WHERE entry = :entry ORDER BY line""")


def _pico(micro: int, pico: int) -> int:
    return int(micro) * PICO_PER_MICRO + int(pico)


def begin(connection: Connection) -> tuple[int, bytes]:
    """Lock the ledger for writing; return its last entry's number and the chain there."""
    _HEAD_START.run(connection, chain=CHAIN_START)
    number, chain = _HEAD_LOCKED.first(connection)
    return int(number), bytes(chain)


def head(connection: Connection) -> tuple[int, bytes]:
    """Return the last entry's number and the chain there; 0 for an empty ledger."""
    row = _HEAD.first(connection)
    return (0, CHAIN_START) if row is None else (int(row[0]), bytes(row[1]))


def find(connection: Connection, key: bytes) -> tuple[int, bytes] | None:
    """Return number and digest of the entry under a key."""
    row = _BY_KEY.first(connection, key=key)
    return None if row is None else (int(row[0]), bytes(row[1]))


def balance(connection: Connection, account: Account) -> Balance:
    """Return an account's balance; 0 for one that never moved."""
    row = _BALANCE.first(connection, kind=account.kind, owner=account.owner)
    if row is None:
        return Balance(account, 0, 0)
    return Balance(account, _pico(row[0], row[1]), int(row[2]))


def balances(connection: Connection, kind: str, after: bytes, limit: int) -> list[Balance]:
    """Return accounts of a kind by owner, above ``after``."""
    return [
        Balance(Account(found, bytes(owner)), _pico(micro, pico), int(postings))
        for found, owner, micro, pico, postings in _BALANCES.all(
            connection, kind=kind, after=after, limit=limit
        )
    ]


def sums(connection: Connection) -> dict[str, int]:
    """Return the sum of balances of each kind, in its own sense."""
    return {kind: _pico(micro, pico) for kind, micro, pico in _SUMS.all(connection)}


def put(
    connection: Connection,
    entry: Entry,
    number: int,
    chain: bytes,
    time_ms: int,
    before: dict[Account, Balance],
) -> None:
    """Write an entry, its postings and the balances after it; ``before`` is brought up to date."""
    _PUT_ENTRY.run(
        connection,
        number=number,
        key=entry.key,
        time_ms=time_ms,
        kind=entry.kind,
        evidence=entry.evidence,
        memo=entry.memo,
        digest=entry.digest(),
        chain=chain,
    )
    rows = []
    touched: dict[Account, Balance] = {}
    for line, one in enumerate(entry.postings):
        had = before[one.account]
        after = Balance(
            one.account,
            had.amount_pico + in_own_sense(one.account, one.amount_pico),
            had.postings + 1,
        )
        before[one.account] = touched[one.account] = after
        amount_micro, amount_pico = divmod(one.amount_pico, PICO_PER_MICRO)
        balance_micro, balance_pico = divmod(after.amount_pico, PICO_PER_MICRO)
        rows.append(
            {
                "entry": number,
                "line": line,
                "kind": one.account.kind,
                "owner": one.account.owner,
                "number": after.postings,
                "amount_micro": amount_micro,
                "amount_pico": amount_pico,
                "balance_micro": balance_micro,
                "balance_pico": balance_pico,
            }
        )
    _PUT_POSTING.many(connection, rows)
    _PUT_BALANCE.many(connection, list(_balance_rows(touched.values())))
    _HEAD_MOVE.run(connection, number=number, chain=chain)


def _balance_rows(changed: Iterable[Balance]) -> Iterator[dict[str, object]]:
    for one in changed:
        micro, pico = divmod(one.amount_pico, PICO_PER_MICRO)
        yield {
            "kind": one.account.kind,
            "owner": one.account.owner,
            "balance_micro": micro,
            "balance_pico": pico,
            "postings": one.postings,
        }


def lines(connection: Connection, account: Account, after: int, limit: int) -> list[StatementLine]:
    """Return an account's postings above number ``after``, oldest first."""
    return [
        StatementLine(
            number=int(number),
            entry=int(entry),
            time_ms=int(time_ms),
            kind=kind,
            amount_pico=in_own_sense(account, _pico(micro, pico)),
            balance_pico=_pico(balance_micro, balance_pico),
            evidence=bytes(evidence),
            memo=memo,
        )
        for (
            number,
            entry,
            time_ms,
            kind,
            micro,
            pico,
            balance_micro,
            balance_pico,
            evidence,
            memo,
        ) in _LINES.all(
            connection, kind=account.kind, owner=account.owner, after=after, limit=limit
        )
    ]


def entries(connection: Connection, after: int, limit: int) -> list[StoredEntry]:
    """Return entries above number ``after``, in order, with all their postings."""
    found = []
    for number, key, time_ms, kind, evidence, memo, chain in _ENTRIES.all(
        connection, after=after, limit=limit
    ):
        postings = tuple(
            Posting(Account(account, bytes(owner)), _pico(micro, pico))
            for account, owner, micro, pico in _POSTINGS.all(connection, entry=number)
        )
        entry = Entry(bytes(key), kind, bytes(evidence), postings, memo)
        found.append(StoredEntry(int(number), int(time_ms), entry, bytes(chain)))
    return found
