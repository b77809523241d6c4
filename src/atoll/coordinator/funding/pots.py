"""The way of an epoch's charges: drawn, locked, released, counted; or given back to customers.

One pot at a time. It is of the newest epoch whose document is read and holds all that customers
were charged so far and was not drawn, so an epoch that was rejected, or for which the chain was
away, comes with a later one.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.funding import rules, store
from atoll.coordinator.funding.acts import POT_OPEN, POT_RELEASED, Acts
from atoll.coordinator.funding.model import (
    CUSTOMERS_MAX,
    ENDED,
    POT_CUSTOMERS_MAX,
    Act,
    EpochNeeds,
    Move,
    MoveBody,
    MoveState,
    Pot,
    PotState,
    Progress,
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
        self.busy = False
        """Whether a pot was open before the last step."""

    async def step(self) -> bool:
        """Take one step; False where there was none to take. Raises what the chain raises."""
        self.waits_for = ""
        pot = await self._database.read(store.open_pot)
        self.busy = pot is not None
        if pot is None:
            return await self._open()
        if pot.state is PotState.DRAWING:
            return await self._database.write(partial(_drawn, epoch=pot.epoch))
        if pot.state is PotState.LOCKED:
            return await self._release(pot)
        if pot.state is PotState.RELEASING:
            return await self._database.write(partial(_released, epoch=pot.epoch))
        return await self._database.write(partial(_given_back, epoch=pot.epoch))

    async def _open(self) -> bool:
        """Draw what customers were charged, if there is anything."""
        if not await self._database.read(_may_open):
            return False
        cap_micro = int(await self._views.ask(PARAMETERS, "draw_epoch_max_micro"))
        opened, late = await self._database.write(partial(_draw, cap_micro=cap_micro))
        if late:
            self.waits_for = f"deposits of {late} customers are on their way"
        return opened

    async def _release(self, pot: Pot) -> bool:
        """Release a pot once its lock is over, or give it back where it cannot be."""
        drawn, ready_s, _, take_bps, state = await self._acts.pot(pot.epoch)
        if await self._acts.is_closed(pot.epoch):
            return await self._database.write(partial(_give_back, epoch=pot.epoch))
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
            _want_release,
            epoch=pot.epoch,
            take_bps=take_bps,
            there_micro=counted + uncounted,
        )
        return await self._database.write(decide)

    async def _accept_release(self, pot: Pot) -> bool:
        """Take over what the chain has already: a database older than it was restored."""
        taken = int(await self._views.ask(TREASURY, "take_of", pot.epoch))
        return await self._database.write(partial(_note_release, epoch=pot.epoch, take_micro=taken))

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
        needs = await self._database.read(_newest_needs)
        if needs is None:
            return False
        counted, uncounted = await self.funds()
        await self._database.write(partial(_note_funded, funded_micro=counted))
        short = needs.need_micro - counted
        if short <= 0:
            return False
        bucket = 0
        payee = str(await self._views.ask(TREASURY, "payee", INSURANCE))
        if bytes.fromhex(payee.removeprefix("0x")) == self._link.insurance.address:
            bucket = int(await self._views.ask(TREASURY, "balance_of", INSURANCE))
        acted, missing = await self._database.write(
            partial(_fund, needs=needs, short_micro=short, uncounted_micro=uncounted, bucket=bucket)
        )
        if missing and not acted:
            missing_euro = show_euro(missing * PICO_PER_MICRO)
            self.waits_for = (
                f"epoch {needs.epoch} needs {missing_euro} more, to be drawn of customers"
            )
        return acted


def _newest_needs(connection: Connection) -> EpochNeeds | None:
    return store.epoch(connection, store.progress_now(connection).epoch_known)


def _note_funded(connection: Connection, funded_micro: int) -> None:
    now = store.progress(connection)
    if now.funded_micro != funded_micro:
        store.save_progress(connection, replace(now, funded_micro=funded_micro))


# --- drawing --------------------------------------------------------------------------------------


def _ready(connection: Connection, now: Progress) -> bool:
    """Say whether a pot may be opened now: for an epoch that is known, and has none."""
    if not now.epoch_known or now.epoch_charged > now.epoch_known:
        return False
    newest = store.newest_pot(connection)
    return newest is None or (newest.state in ENDED and newest.epoch < now.epoch_known)


def _may_open(connection: Connection) -> bool:
    ready = _ready(connection, store.progress_now(connection))
    return ready and bool(store.to_draw(connection, b"", 1))


def _draw(connection: Connection, cap_micro: int) -> tuple[bool, int]:
    """Open a pot; return whether it was, and how many customers' deposits are awaited."""
    now = store.progress(connection)
    if not _ready(connection, now):
        return False, 0
    found = store.to_draw(connection, b"", POT_CUSTOMERS_MAX)
    late = sum(one.arrived_micro - one.spent_micro < one.to_draw_micro for one in found)
    if late or not found:
        return False, late
    draws = rules.draws_of(found, cap_micro)
    for one in draws:
        store.add(connection, one.customer, drawn_micro=one.amount_micro)
    for body in rules.batches(draws):
        store.put_move(connection, Act.DRAW, body, now.epoch_known)
    total = sum(one.amount_micro for one in draws)
    store.put_pot(connection, Pot(now.epoch_known, PotState.DRAWING, total, 0))
    log.info("epoch %d: %d micro are drawn of %d customers", now.epoch_known, total, len(draws))
    return True, 0


def _in_state(connection: Connection, epoch: int, state: PotState) -> Pot | None:
    """Return a pot if it is (still) in this state; nobody else moves it until we are done."""
    store.progress(connection)
    found = store.pot(connection, epoch)
    return found if found is not None and found.state is state else None


def _some(moves: Sequence[Move], state: MoveState) -> bool:
    return any(move.state is state for move in moves)


def _drawn(connection: Connection, epoch: int) -> bool:
    pot = _in_state(connection, epoch, PotState.DRAWING)
    moves = store.moves_of(connection, epoch, Act.DRAW)
    if pot is None or _some(moves, MoveState.OPEN):
        return False
    if _some(moves, MoveState.DROPPED):
        _begin_giving_back(connection, pot)
    else:
        store.put_pot(connection, replace(pot, state=PotState.LOCKED))
    return True


# --- releasing ------------------------------------------------------------------------------------


def _want_release(connection: Connection, epoch: int, take_bps: int, there_micro: int) -> bool:
    pot = _in_state(connection, epoch, PotState.LOCKED)
    needs = store.epoch(connection, epoch)
    if pot is None or needs is None:
        return False
    now = store.progress(connection)
    take = rules.take_micro(pot.drawn_micro, take_bps, needs, now, there_micro)
    store.put_move(connection, Act.RELEASE, MoveBody(sums_micro=[take]), epoch)
    store.save_progress(connection, replace(now, take_micro=now.take_micro + take))
    store.put_pot(connection, replace(pot, state=PotState.RELEASING, take_micro=take))
    return True


def _note_release(connection: Connection, epoch: int, take_micro: int) -> bool:
    pot = _in_state(connection, epoch, PotState.LOCKED)
    if pot is None:
        return False
    now = store.progress(connection)
    store.save_progress(connection, replace(now, take_micro=now.take_micro + take_micro))
    store.put_pot(connection, replace(pot, state=PotState.RELEASED, take_micro=take_micro))
    return True


def _released(connection: Connection, epoch: int) -> bool:
    pot = _in_state(connection, epoch, PotState.RELEASING)
    moves = store.moves_of(connection, epoch, Act.RELEASE)
    if pot is None or not moves or moves[-1].state is MoveState.OPEN:
        return False
    if moves[-1].state is MoveState.DROPPED:
        _begin_giving_back(connection, replace(pot, take_micro=0))
    else:
        store.put_pot(connection, replace(pot, state=PotState.RELEASED))
    return True


# --- giving back ----------------------------------------------------------------------------------


def _give_back(connection: Connection, epoch: int) -> bool:
    pot = _in_state(connection, epoch, PotState.LOCKED)
    if pot is not None:
        _begin_giving_back(connection, pot)
    return pot is not None


def _begin_giving_back(connection: Connection, pot: Pot) -> None:
    log.warning("what was drawn for epoch %d is given back; a later one draws it", pot.epoch)
    for move in store.moves_of(connection, pot.epoch, Act.DRAW):
        if move.state is MoveState.DONE:
            body = MoveBody(move.body.customers[:CUSTOMERS_MAX])
            store.put_move(connection, Act.RECLAIM, body, pot.epoch)
    store.put_pot(connection, replace(pot, state=PotState.RECLAIMING))


def _given_back(connection: Connection, epoch: int) -> bool:
    pot = _in_state(connection, epoch, PotState.RECLAIMING)
    moves = store.moves_of(connection, epoch, Act.RECLAIM)
    if pot is None or _some(moves, MoveState.OPEN):
        return False
    for move in store.moves_of(connection, epoch, Act.DRAW):
        if move.state is MoveState.DONE:
            for customer, amount in zip(move.body.customers, move.body.sums_micro, strict=True):
                store.add(connection, customer, drawn_micro=-amount)
    store.put_pot(connection, replace(pot, state=PotState.GIVEN_BACK))
    return True


# --- funding --------------------------------------------------------------------------------------


def _fund(
    connection: Connection, needs: EpochNeeds, short_micro: int, uncounted_micro: int, bucket: int
) -> tuple[bool, int]:
    """Do the next thing for funds; return whether there was one, and what is missing yet.

    First what lies there is counted. Then, unless customers are to be drawn yet (that brings the
    insurance its share), the insurance pays, and at last the operator.
    """
    now = store.progress(connection)
    open_now = store.open_counts(connection)
    if any(open_now.get(act) for act in (Act.ABSORB, Act.INSURE, Act.FUND)):
        return False, 0
    if store.open_pot(connection) is not None:
        return False, 0
    if uncounted_micro:
        store.put_move(connection, Act.ABSORB, MoveBody(), needs.epoch)
        return True, 0
    if store.to_draw(connection, b"", 1):
        return False, short_micro
    insured = min(short_micro, rules.due_of_insurance_micro(needs, now), bucket)
    if insured:
        store.put_move(connection, Act.INSURE, MoveBody(sums_micro=[insured]), needs.epoch)
        after = replace(now, insured_micro=now.insured_micro + insured)
        store.save_progress(connection, after)
        return True, 0
    fractions = store.customers_count(connection) + 1
    advanced = min(short_micro, rules.due_of_operator_micro(needs, now, fractions))
    if not advanced:
        return False, short_micro
    store.put_move(connection, Act.FUND, MoveBody(sums_micro=[advanced]), needs.epoch)
    after = replace(now, advanced_micro=now.advanced_micro + advanced)
    store.save_progress(connection, after)
    return True, 0
