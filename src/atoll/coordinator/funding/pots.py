"""The way of an epoch's charges: drawn, locked, released, counted; or given back to customers.

One pot at a time. It is of the newest epoch whose document is read and holds all that customers
were charged so far and was not drawn, so an epoch that was rejected, or for which the chain was
away, comes with a later one.
"""

import logging
from functools import partial

from atoll.coordinator.funding import store, transitions
from atoll.coordinator.funding.acts import POT_OPEN, POT_RELEASED, Acts
from atoll.coordinator.funding.model import (
    Pot,
    PotState,
)
from atoll.coordinator.funding.rules import DISTRIBUTOR, TREASURY
from atoll.coordinator.settlement.views import PARAMETERS, Views
from atoll.core.money import PICO_PER_MICRO, show_euro
from atoll.core.ports import Database
from atoll.economy.chain.link import ChainLink
from atoll.economy.settlement.model import INSURANCE

log = logging.getLogger("atoll.coordinator.funding")


class Pots:
    """Brings the pot on, and sees that the distributor has what epochs need."""

    def __init__(self, database: Database, link: ChainLink, views: Views, acts: Acts) -> None:
        self._database = database
        self._link = link
        self._views = views
        self._acts = acts
        self.waits_for = ""
        """What the next step waits for, in words."""
        self.lacks = ""
        """What the newest epoch lacks yet, in words."""
        self.busy = False
        """Whether a pot was open before the last step."""

    async def step(self, *, may_open: bool) -> bool:
        """Take one step; False where there was none to take. Raises what the chain raises.

        ``may_open``: whether it may look through customers for what is to be drawn.
        """
        pot = await self._database.read(store.open_pot)
        self.busy = pot is not None
        if pot is None:
            return may_open and await self._open()
        self.waits_for = ""
        if pot.state is PotState.DRAWING:
            return await self._database.write(partial(transitions.drawn, epoch=pot.epoch))
        if pot.state is PotState.LOCKED:
            return await self._release(pot)
        if pot.state is PotState.RELEASING:
            return await self._database.write(partial(transitions.released, epoch=pot.epoch))
        return await self._database.write(partial(transitions.given_back, epoch=pot.epoch))

    async def _open(self) -> bool:
        """Draw what customers were charged, if there is anything."""
        self.waits_for = ""
        if not await self._database.read(transitions.may_open):
            return False
        cap_micro = int(await self._views.ask(PARAMETERS, "draw_epoch_max_micro"))
        opened, late = await self._database.write(partial(transitions.draw, cap_micro=cap_micro))
        if late:
            self.waits_for = f"deposits of {late} customers are on their way"
        return opened

    async def _release(self, pot: Pot) -> bool:
        """Release a pot once its lock is over, or give it back where it cannot be."""
        drawn, ready_s, _, take_bps, state = await self._acts.pot(pot.epoch)
        if await self._acts.is_closed(pot.epoch):
            return await self._database.write(partial(transitions.give_back, epoch=pot.epoch))
        if state == POT_RELEASED:
            return await self._accept_release(pot)
        if state != POT_OPEN or drawn != pot.drawn_micro:
            self.waits_for = f"the escrow does not show all draws of epoch {pot.epoch} yet"
            return False
        wait_s = ready_s - await self._acts.now_s()
        if wait_s > 0:
            self.waits_for = f"what was drawn for epoch {pot.epoch} is locked for {wait_s} s"
            return False
        counted, uncounted = await self.funds()
        decide = partial(
            transitions.want_release,
            epoch=pot.epoch,
            take_bps=take_bps,
            there_micro=counted + uncounted,
        )
        return await self._database.write(decide)

    async def _accept_release(self, pot: Pot) -> bool:
        """Take over what the chain has already: a database older than it was restored."""
        taken = int(await self._views.ask(TREASURY, "take_of", pot.epoch))
        return await self._database.write(
            partial(transitions.note_release, epoch=pot.epoch, take_micro=taken)
        )

    # --- the distributor ------------------------------------------------------------------------

    async def funds(self) -> tuple[int, int]:
        """Return what the distributor counts as funds ever, and what it has not counted yet."""
        funded = int(await self._views.ask(DISTRIBUTOR, "funded_micro"))
        paid = int(await self._views.ask(DISTRIBUTOR, "paid_micro"))
        locked = int(await self._views.ask(DISTRIBUTOR, "locked_micro"))
        address = await self._views.address_of(DISTRIBUTOR)
        balance = await self._views.balance_micro(address)
        return funded, max(0, balance - (funded - paid) - locked)

    async def fund(self) -> bool:
        """See that the newest epoch is funded; False where there is nothing to do now."""
        needs = await self._database.read(transitions.newest_needs)
        if needs is None:
            return False
        counted, uncounted = await self.funds()
        await self._database.write(partial(transitions.note_funded, funded_micro=counted))
        self.lacks = ""
        short = needs.need_micro - counted
        if short <= 0:
            return False
        bucket = 0
        payee = str(await self._views.ask(TREASURY, "payee", INSURANCE))
        if bytes.fromhex(payee.removeprefix("0x")) == self._link.insurance.address:
            bucket = int(await self._views.ask(TREASURY, "balance_of", INSURANCE))
        acted, missing = await self._database.write(
            partial(
                transitions.fund_next,
                needs=needs,
                short_micro=short,
                uncounted_micro=uncounted,
                bucket_micro=bucket,
            )
        )
        if missing and not acted:
            missing_euro = show_euro(missing * PICO_PER_MICRO)
            self.lacks = f"epoch {needs.epoch} needs {missing_euro} more, to be drawn of customers"
        return acted
