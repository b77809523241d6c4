"""Keeps one account in euros that are worth nothing: those of a chain of one's own machine.

A cloud that somebody starts to see it work charges and pays like any other. Nobody is to pay real
money into it, nor to lose what he stored there because nobody did. So its own account always has an
allowance. What is posted here reaches escrow like every other deposit.
"""

import logging

from atoll.coordinator.billing.model import Allowance
from atoll.coordinator.part import Part, Step
from atoll.core.ports import Clock, Database
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import LedgerService

log = logging.getLogger("atoll.coordinator.billing")

KIND = "allowance"
PAUSE_S = 10.0
_PAUSE_MS = int(PAUSE_S * 1000)


class AllowanceService(Part):
    """Fills an account up whenever less than half of its allowance is left."""

    def __init__(self, clock: Clock, database: Database, allowance: Allowance) -> None:
        """``allowance``: whose, and how much."""
        self._clock = clock
        self._ledger = LedgerService(clock, database)
        self._allowance = allowance
        self.steps = [Step("keep allowance", self.fill_up, PAUSE_S)]

    async def fill_up(self) -> bool:
        """Fill the account up if need be; say whether it was. Once in a pause at most."""
        account = Account.of(AccountKind.CUSTOMER, self._allowance.customer)
        balance = await self._ledger.balance(account)
        missing_pico = self._allowance.amount_pico - balance.amount_pico
        if 2 * missing_pico <= self._allowance.amount_pico:
            return False
        # Cut off after it was posted, or asked by two processes: the same key does nothing.
        key = f"{KIND}/{self._clock.now_ms() // _PAUSE_MS}".encode()
        entry = Entry(
            key,
            KIND,
            b"play money",
            (
                Posting(Account.of(AccountKind.OPERATOR), missing_pico),
                Posting(account, -missing_pico),
            ),
        )
        await self._ledger.post(entry)
        log.info("the cloud's own account is filled up with play money")
        return True
