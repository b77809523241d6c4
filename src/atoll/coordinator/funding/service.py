"""Credits and withdrawals of customers, and what funding tells others.

An entry of the ledger is all that is to be written: deposits and withdrawals on the chain follow
from its postings on customers' accounts, whoever posted them.
"""

from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.funding import store
from atoll.coordinator.funding.model import CUSTOMER_BYTES_MAX
from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_MICRO
from atoll.core.ports import Clock, Database
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posted, Posting
from atoll.economy.ledger.service import post_in

OPERATOR = Account.of(AccountKind.OPERATOR)


def credit_entry(
    customer: bytes, amount_pico: int, *, key: bytes, kind: str, evidence: bytes, source: Account
) -> Entry:
    """Return the entry by which a customer has more. Raises ``BAD_REQUEST``."""
    _check(customer, amount_pico)
    postings = (
        Posting(source, amount_pico),
        Posting(Account.of(AccountKind.CUSTOMER, customer), -amount_pico),
    )
    return Entry(key, kind, evidence, postings)


class FundingService:
    """Customers' prepaid euros, in the ledger and on the chain."""

    def __init__(self, clock: Clock, database: Database) -> None:
        """Serve from a migrated database; needs no chain."""
        self._clock = clock
        self._database = database

    async def credit(
        self,
        customer: bytes,
        amount_pico: int,
        *,
        key: bytes,
        kind: str,
        evidence: bytes,
        source: Account = OPERATOR,
    ) -> Posted:
        """Give a customer credit: durable on return, once per ``key``; its deposit follows.

        ``customer``: his id in the ledger. ``amount_pico``: pico-euro, above 0; what is below a
        stablecoin unit is deposited together with a later credit. ``key``: 1 … 64 bytes; the same
        credit under it again does nothing. ``kind``: a word for statements (``deposit``,
        ``top-up``). ``evidence``: what it rests on. ``source``: the account that has more (an
        asset, as a bank's) or less by it; the operator's unless named.

        Whoever has entries already (a bank's statement) posts them himself, by ``post_in``: what
        they credit customers with is deposited all the same.

        Raises ``BAD_REQUEST``, and ``REPLAYED`` where the key was used for something else.
        """
        entry = credit_entry(
            customer, amount_pico, key=key, kind=kind, evidence=evidence, source=source
        )
        return await self._post(entry)

    async def withdraw(
        self,
        customer: bytes,
        amount_pico: int,
        *,
        key: bytes,
        evidence: bytes,
        to: Account = OPERATOR,
    ) -> Posted:
        """Take from a customer's balance what is paid back to him: durable, once per ``key``.

        ``to``: what owes it to him from now on (a ``payable``), or who bears it. The escrow pays
        the operator's account after notice; that takes days on a public chain, so the customer
        is paid from what the operator has. Whole stablecoin units only.

        Raises ``BAD_REQUEST``, ``PRECONDITION_FAILED`` where he has less, ``REPLAYED`` as
        ``credit`` does.
        """
        _check(customer, amount_pico)
        if amount_pico % PICO_PER_MICRO:
            raise _bad("a withdrawal is of whole stablecoin units (1e-6 EUR)")
        postings = (
            Posting(Account.of(AccountKind.CUSTOMER, customer), amount_pico),
            Posting(to, -amount_pico),
        )
        return await self._post(Entry(key, "withdrawal", evidence, postings))

    async def _post(self, entry: Entry) -> Posted:
        now_ms = self._clock.now_ms()
        posted = await self._database.write(partial(post_in, entries=[entry], now_ms=now_ms))
        return posted[0]

    async def funded(self, epoch: int) -> bool:
        """Say whether the distributor has the funds for all that an epoch's leaves say.

        As it was when the chain was asked last. False for an epoch that is not published, too.
        """

        def read(connection: Connection) -> bool:
            needs = store.epoch(connection, epoch)
            now = store.progress_now(connection)
            return needs is not None and needs.need_micro <= now.funded_micro

        return await self._database.read(read)


def _check(customer: bytes, amount_pico: int) -> None:
    if not 0 < len(customer) <= CUSTOMER_BYTES_MAX:
        raise _bad("a customer has an id")
    if amount_pico <= 0:
        raise _bad("an amount is above nothing")


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "move a customer's money", message)
