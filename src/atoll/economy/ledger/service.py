"""Posts entries, once each, and shows what is there."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock, Database
from atoll.economy.ledger import rules, store
from atoll.economy.ledger.model import (
    STATEMENT_LINES_MAX,
    Account,
    Balance,
    Entry,
    Posted,
    Statement,
    StoredEntry,
)

CHECKED_ENTRIES = 200
"""Entries read in one go while the chain is checked."""


def post_in(connection: Connection, entries: Sequence[Entry], now_ms: int) -> list[Posted]:
    """Post entries within the caller's transaction: all of them, or it fails.

    For whoever must do something else in the same transaction. An entry whose key is there with
    the same content does nothing. Raises ``BAD_REQUEST`` (no entry at all), ``REPLAYED`` (another
    content under its key) and ``PRECONDITION_FAILED`` (something would be overdrawn).
    """
    for entry in entries:
        rules.check(entry)
    number, chain = store.begin(connection)
    known: dict[Account, Balance] = {}
    outcomes = []
    for entry in entries:
        found = store.find(connection, entry.key)
        if found is not None:
            if found[1] != entry.digest():
                raise AtollError(
                    Kind.REPLAYED,
                    "post entry",
                    "another entry was posted under this key",
                    about=entry.key.hex(),
                )
            outcomes.append(Posted(found[0], new=False))
            continue
        before: dict[Account, int] = {}
        for one in entry.postings:
            if one.account not in known:
                known[one.account] = store.balance(connection, one.account)
            before[one.account] = known[one.account].amount_pico
        rules.check_balances(entry, before)
        number, chain = number + 1, rules.chained(chain, entry)
        store.put(connection, entry, number, chain, now_ms, known)
        outcomes.append(Posted(number, new=True))
    return outcomes


class LedgerService:
    """The ledger in one database. Any number of processes may post."""

    def __init__(self, clock: Clock, database: Database) -> None:
        """Serve from ``database``, whose tables are there."""
        self._clock = clock
        self._database = database

    async def post(self, *entries: Entry) -> list[Posted]:
        """Post entries in one transaction; see ``post_in`` for what is raised."""
        now_ms = self._clock.now_ms()
        return await self._database.write(partial(post_in, entries=entries, now_ms=now_ms))

    async def balance(self, account: Account) -> Balance:
        """Return an account's balance. Raises ``BAD_REQUEST`` for an unknown kind."""
        rules.nature_of(account)
        return await self._database.read(partial(store.balance, account=account))

    async def balances(self, kind: str, after: bytes = b"", limit: int = 1_000) -> list[Balance]:
        """Return accounts of a kind in the order of their owners, page by page.

        An account without an owner (``remainder``) is not listed; ask ``balance``.
        """
        limit = max(1, min(limit, STATEMENT_LINES_MAX))
        return await self._database.read(
            partial(store.balances, kind=kind, after=after, limit=limit)
        )

    async def statement(self, account: Account, after: int = 0, limit: int = 100) -> Statement:
        """Return a page of an account's postings, oldest first, above number ``after``."""
        rules.nature_of(account)
        limit = max(1, min(limit, STATEMENT_LINES_MAX))
        found = await self._database.read(
            partial(store.lines, account=account, after=after, limit=limit + 1)
        )
        return Statement(account, tuple(found[:limit]), more=len(found) > limit)

    async def entries(self, after: int = 0, limit: int = 100) -> list[StoredEntry]:
        """Return entries with all their postings, in order, page by page."""
        limit = max(1, min(limit, STATEMENT_LINES_MAX))
        return await self._database.read(partial(store.entries, after=after, limit=limit))

    async def sums(self) -> dict[str, int]:
        """Return the balances of each kind, summed in its own sense.

        Assets and expenses make up all the others: see ``check``.
        """
        return await self._database.read(store.sums)

    async def check(self) -> int:
        """Check the whole ledger; return how many entries hold.

        Every entry balances, the chain of digests is unbroken, and all accounts together are zero.
        Raises ``CORRUPT`` otherwise.
        """
        total = 0
        for kind, amount in (await self.sums()).items():
            account = Account(kind)
            total += amount if rules.nature_of(account).asset else -amount
        if total:
            raise _broken(f"the accounts differ by {total} pico-euro")
        last, last_chain = await self._database.read(store.head)
        number, chain = 0, rules.CHAIN_START
        while number < last:
            page = await self.entries(number, CHECKED_ENTRIES)
            if not page:
                raise _broken(f"entries above {number} are gone")
            for one in page:
                if one.number > last:
                    return last
                chain = rules.chained(chain, one.entry)
                if one.number != number + 1 or one.chain != chain:
                    raise _broken(f"entry {one.number} is not what was written")
                try:
                    rules.check(one.entry)
                except AtollError as error:
                    raise _broken(f"entry {one.number}: {error.message}") from error
                number = one.number
        if chain != last_chain:
            raise _broken("the last entry is not the one that was written last")
        return number


def _broken(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "check ledger", message)
