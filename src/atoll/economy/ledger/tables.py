"""The tables of the ledger. ``docs/spec/ledger.md``.

An amount is two columns: whole stablecoin units (1e-6 EUR), and the picos above, 0 … 999,999.
64 bits of picos would end at nine million euro; so they hold nine trillion, and SQL can still sum.
"""

from sqlalchemy import Column, Index, Integer, String, Table

from atoll.economy.sql import SCHEMA, Big, Bytes

ENTRY = Table(
    "ledger_entry",
    SCHEMA,
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("key", Bytes, nullable=False, unique=True),
    Column("time_ms", Big, nullable=False),
    Column("kind", String, nullable=False),
    Column("evidence", Bytes, nullable=False),
    Column("memo", String, nullable=False),
    Column("digest", Bytes, nullable=False),
    Column("chain", Bytes, nullable=False),
    sqlite_with_rowid=False,
)

POSTING = Table(
    "ledger_posting",
    SCHEMA,
    Column("entry", Big, primary_key=True, autoincrement=False),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("owner", Bytes, nullable=False),
    Column("number", Big, nullable=False),
    Column("amount_micro", Big, nullable=False),
    Column("amount_pico", Integer, nullable=False),
    Column("balance_micro", Big, nullable=False),
    Column("balance_pico", Integer, nullable=False),
    sqlite_with_rowid=False,
)
Index(None, POSTING.c.kind, POSTING.c.owner, POSTING.c.number, unique=True)

BALANCE = Table(
    "ledger_balance",
    SCHEMA,
    Column("kind", String, primary_key=True),
    Column("owner", Bytes, primary_key=True),
    Column("balance_micro", Big, nullable=False),
    Column("balance_pico", Integer, nullable=False),
    Column("postings", Big, nullable=False),
    sqlite_with_rowid=False,
)

# One row: the last entry, locked while another is written, so that numbers have no gaps.
HEAD = Table(
    "ledger_head",
    SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", Big, nullable=False),
    Column("chain", Bytes, nullable=False),
    sqlite_with_rowid=False,
)
