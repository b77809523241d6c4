"""Acts on the chain: wanted of the outbox when their time has come, until they are done."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from atoll.coordinator.funding import rules, store
from atoll.coordinator.funding.model import (
    ALLOWANCE,
    DEPOSITS_MAX,
    FAUCET_MICRO_MAX,
    FLOAT_MICRO,
    OPEN_MOVES_MAX,
    REVIEWED_MAX,
    SPENDS,
    WITHDRAWALS_MAX,
    Act,
    Move,
    MoveBody,
    MoveState,
    Pot,
    PotState,
)
from atoll.coordinator.funding.rules import DISTRIBUTOR, ESCROW, TREASURY
from atoll.coordinator.settlement.views import Views
from atoll.core.money import PICO_PER_MICRO, show_euro
from atoll.core.ports import Clock, Database
from atoll.economy.artifacts.load import load
from atoll.economy.chain.abi import call_data
from atoll.economy.chain.deploy import TEST_STABLE
from atoll.economy.chain.link import ChainLink
from atoll.economy.chain.model import Intent, IntentState, IntentStatus
from atoll.economy.settlement.model import INSURANCE

log = logging.getLogger("atoll.coordinator.funding")
APPROVALS = {Act.DEPOSIT: Act.APPROVE_ESCROW, Act.FUND: Act.APPROVE_DISTRIBUTOR}
"""What the operator must have allowed a contract before."""
_BAD = (IntentState.FAILED, IntentState.REFUSED)
KEY = "funding/"
"""Keys of our intents begin so."""
POT_OPEN, POT_RELEASED, POT_REJECTED = 1, 2, 3
"""States of a pot in the escrow."""


class Acts:
    """Carries acts out."""

    def __init__(
        self, clock: Clock, database: Database, link: ChainLink, views: Views, secret: bytes
    ) -> None:
        """``secret``: behind customers' salts, 32 bytes."""
        self._clock = clock
        self._database = database
        self._link = link
        self._views = views
        self._secret = secret
        self.waits_for = ""
        """What keeps acts from going on, in words."""

    # --- what is to be done ---------------------------------------------------------------------

    async def begin(self) -> int:
        """Write down deposits and withdrawals that have become due; return how many."""
        return await self._database.write(_begin)

    async def step(self) -> int:
        """Bring acts on; return how many moved. Raises what the chain raises."""
        self.waits_for = ""
        moves = await self._database.read(partial(store.open_moves, limit=OPEN_MOVES_MAX))
        if not moves:
            return 0
        found = await self._link.outbox.statuses([move.key for move in moves])
        moved = 0
        new: list[Move] = []
        spent = 0
        for move, status in zip(moves, found, strict=True):
            if status is None:
                new.append(move)
            elif status.state is IntentState.FINAL:
                moved += await self._database.write(partial(_finish, serial=move.serial))
            elif status.state in _BAD:
                moved += await self._refused(move, status)
            else:
                spent += move.amount_micro if move.act in SPENDS else 0
                self.waits_for = self.waits_for or status.problem
        return moved + await self._want(new, spent)

    async def review(self) -> int:
        """See to what was done and is undone: a chain may branch below its confirmations.

        An embedded one that forgot is told again within moments, so what a lock kept back comes
        too early.
        """
        failed = await self._link.outbox.ended_badly(REVIEWED_MAX)
        return await self._database.write(partial(_undo_all, keys=failed)) if failed else 0

    # --- wanting --------------------------------------------------------------------------------

    async def _want(self, moves: Sequence[Move], spent_micro: int) -> int:
        """Hand acts to the outbox whose time has come. ``spent_micro``: on its way already."""
        moved = 0
        for move in moves:
            if move.act in SPENDS or (move.act is Act.WITHDRAW and not await self._noticed(move)):
                continue
            await self._submit(move)
            moved += 1
        spending = [move for move in moves if move.act in SPENDS]
        return moved + await self._spend(spending, spent_micro) if spending else moved

    async def _spend(self, moves: Sequence[Move], spent_micro: int) -> int:
        """Hand over what the operator pays, as far as he has it."""
        moved = 0
        operator = self._link.operator.address
        left = await self._views.balance_micro(operator) - spent_micro
        for place, move in enumerate(moves):
            if not await self._approved(APPROVALS[move.act]):
                moved += await self._approve(APPROVALS[move.act])
            elif move.amount_micro > left:
                return moved + await self._lack(moves[place:], left)
            else:
                left -= move.amount_micro
                await self._submit(move)
                moved += 1
        return moved

    async def _submit(self, move: Move) -> None:
        to, data = await self._call(move)
        sender = self._link.insurance if move.act is Act.INSURE else self._link.operator
        await self._link.outbox.submit(Intent(move.key, sender.address, to, data))

    async def _call(self, move: Move) -> tuple[bytes, bytes]:
        """Return contract and data of an act's call."""
        contract, function, values = await self._words(move)
        to = await (
            self._views.stable() if contract == TEST_STABLE else self._views.address_of(contract)
        )
        return to, call_data(load(contract), function, *values)

    async def _words(self, move: Move) -> tuple[str, str, tuple[Any, ...]]:
        body, amount = move.body, move.amount_micro
        operator = self._link.operator.address
        match move.act:
            case Act.APPROVE_ESCROW | Act.APPROVE_DISTRIBUTOR:
                name = ESCROW if move.act is Act.APPROVE_ESCROW else DISTRIBUTOR
                spender = await self._views.address_of(name)
                return TEST_STABLE, "approve", (spender, ALLOWANCE)
            case Act.FAUCET:
                return TEST_STABLE, "faucet", (operator, amount)
            case Act.DEPOSIT:
                return ESCROW, "deposit", (self._key(body.customers[0]), amount)
            case Act.NOTICE:
                return ESCROW, "give_notice", (self._salt(body.customers[0]), amount)
            case Act.WITHDRAW:
                return ESCROW, "withdraw", (self._salt(body.customers[0]), operator)
            case Act.DRAW:
                keys = [self._key(one) for one in body.customers]
                return ESCROW, "draw", (move.epoch, keys, body.sums_micro)
            case Act.RELEASE:
                return ESCROW, "release", (move.epoch, amount)
            case Act.RECLAIM:
                keys = [self._key(one) for one in body.customers]
                return ESCROW, "reclaim", (move.epoch, keys)
            case Act.ABSORB:
                return DISTRIBUTOR, "absorb", ()
            case Act.INSURE:
                receiver = await self._views.address_of(DISTRIBUTOR)
                return TREASURY, "withdraw", (INSURANCE, receiver, amount)
            case Act.FUND:
                return DISTRIBUTOR, "fund", (amount,)

    def _salt(self, customer: bytes) -> bytes:
        return rules.salt_of(self._secret, customer)

    def _key(self, customer: bytes) -> bytes:
        return rules.escrow_key(self._link.operator.address, self._salt(customer))

    async def _approved(self, act: Act) -> bool:
        """Say whether a contract may pull from the operator."""
        found = await self._database.read(partial(store.newest_of, act=act))
        return found is not None and found.state is MoveState.DONE

    async def _approve(self, act: Act) -> bool:
        """See that a contract may pull; say whether that was new."""
        return await self._database.write(partial(_put_once, act=act, body=MoveBody()))

    async def _lack(self, moves: Sequence[Move], left_micro: int) -> bool:
        """See that the operator gets what he lacks: of the faucet, or say so."""
        missing = sum(move.amount_micro for move in moves) - left_micro
        if self._link.config.embedded:
            body = MoveBody(sums_micro=[min(missing + FLOAT_MICRO, FAUCET_MICRO_MAX)])
            return await self._database.write(partial(_put_once, act=Act.FAUCET, body=body))
        self.waits_for = (
            f"the operator's account 0x{self._link.operator.address.hex()} lacks"
            f" {show_euro(missing * PICO_PER_MICRO)} of the stablecoin"
        )
        return False

    async def _noticed(self, move: Move) -> bool:
        """Say whether a withdrawal's lock is over."""
        key = self._key(move.body.customers[0])
        amount, ready_s = await self._views.ask(ESCROW, "notice_of", key)
        return bool(amount) and self._clock.now_ms() >= int(ready_s) * 1_000

    # --- what came of it ------------------------------------------------------------------------

    async def _refused(self, move: Move, status: IntentStatus) -> bool:
        """Try again what the contract refused, unless it will never take it."""
        self.waits_for = f"{move.act.value}: {status.problem or 'the contract undid it'}"
        if await self._is_hopeless(move):
            log.warning("%s %d is given up: %s", move.act.value, move.serial, status.problem)
            return await self._database.write(partial(_drop, move=move))
        log.info("%s %d is tried again: %s", move.act.value, move.serial, status.problem)
        return await self._database.write(partial(store.try_again, one=move))

    async def _is_hopeless(self, move: Move) -> bool:
        if move.act is Act.INSURE:
            return True  # its bucket went elsewhere: the operator pays in its place
        if move.act not in (Act.DRAW, Act.RELEASE, Act.RECLAIM):
            return False
        if move.act is Act.RECLAIM:
            # Nothing was ever drawn there, nor will be.
            return await self.is_passed(move.epoch)
        return await self.is_closed(move.epoch)

    async def pot(self, epoch: int) -> tuple[int, int, int, int, int]:
        """Return an epoch's pot in the escrow: drawn, ready, expiry, take share, state."""
        drawn, ready_s, expires_s, take_bps, state = await self._views.ask(ESCROW, "pots", epoch)
        return int(drawn), int(ready_s), int(expires_s), int(take_bps), int(state)

    async def is_closed(self, epoch: int) -> bool:
        """Say whether a pot can neither be drawn into nor released any more.

        It was rejected, or is too old; or one of a later epoch was opened before it.
        """
        _, _, expires_s, _, state = await self.pot(epoch)
        if state == POT_OPEN:
            return await self.now_s() >= expires_s
        return state == POT_REJECTED or await self.is_passed(epoch)

    async def is_passed(self, epoch: int) -> bool:
        """Say whether a pot is not there and cannot be opened: one of a later epoch was."""
        found = await self.pot(epoch)
        return not found[4] and int(await self._views.ask(ESCROW, "last_epoch")) > epoch

    async def now_s(self) -> int:
        """Return the time for the chain: that of its newest block, or ours where that is later."""
        chain = await self._link.chain()
        head = await chain.block()
        return max(self._clock.now_ms() // 1_000, head.time_s if head else 0)


def _put_once(connection: Connection, act: Act, body: MoveBody) -> bool:
    """Write an act unless one of the kind is under way."""
    store.progress(connection)
    found = store.newest_of(connection, act)
    new = found is None or found.state is not MoveState.OPEN
    if new:
        store.put_move(connection, act, body)
    return new


def _begin(connection: Connection) -> int:
    store.progress(connection)
    open_now = store.open_counts(connection)
    begun = 0
    for one in store.to_deposit(connection, max(0, DEPOSITS_MAX - open_now.get(Act.DEPOSIT, 0))):
        amount = one.to_deposit_micro
        store.put_move(connection, Act.DEPOSIT, MoveBody([one.customer], [amount]))
        store.add(connection, one.customer, deposited_micro=amount)
        begun += 1
    under_way = open_now.get(Act.NOTICE, 0) + open_now.get(Act.WITHDRAW, 0)
    found = store.to_withdraw(connection, max(0, WITHDRAWALS_MAX - under_way))
    if not found:
        return begun
    # A second notice would begin the lock of the first anew.
    busy = store.withdrawing(connection)
    for one in found:
        amount = one.to_withdraw_micro
        if amount and one.customer not in busy:
            store.put_move(connection, Act.NOTICE, MoveBody([one.customer], [amount]))
            store.add(connection, one.customer, withdrawn_micro=amount)
            begun += 1
    return begun


def _finish(connection: Connection, serial: int) -> bool:
    """Note that an act is done, and what follows."""
    store.progress(connection)
    if not store.end_move(connection, serial):
        return False
    move = store.move(connection, serial)
    if move.act is Act.DEPOSIT:
        store.add(connection, move.body.customers[0], arrived_micro=move.amount_micro)
    if move.act is Act.NOTICE and move.body.customers[0] not in store.withdrawing(connection):
        store.put_move(connection, Act.WITHDRAW, move.body)
    return True


def _undo_all(connection: Connection, keys: Sequence[str]) -> int:
    """Begin acts again that were done by these intents, which the chain undid since."""
    store.progress(connection)
    undone = 0
    for key in keys:
        if not key.startswith(KEY):
            continue
        move = store.move(connection, int(key.split("/")[1]))
        if move.state is MoveState.DONE and move.key == key:
            log.warning("the chain undid %s %d", move.act.value, move.serial)
            _undo(connection, move)
            undone += 1
    return undone


def _undo(connection: Connection, move: Move) -> None:
    pot = store.pot(connection, move.epoch)
    match move.act:
        case Act.ABSORB:
            _drop(connection, move)  # wanted again where something lies there
        case Act.RELEASE:
            _drop(connection, move)  # its take is decided anew
            _set_back(connection, pot, PotState.LOCKED)
        case Act.DRAW if pot is not None and pot.state is PotState.GIVEN_BACK:
            store.drop_move(connection, move)  # its customers have it back in the books
        case Act.DRAW if pot is not None and pot.state is PotState.RECLAIMING:
            _drop(connection, move)
        case Act.DRAW:
            store.try_again(connection, move)
            _set_back(connection, pot, PotState.DRAWING)
        case Act.DEPOSIT:
            store.try_again(connection, move)
            store.add(connection, move.body.customers[0], arrived_micro=-move.amount_micro)
        case _:
            store.try_again(connection, move)


def _set_back(connection: Connection, pot: Pot | None, state: PotState) -> None:
    """Set a pot back that turns out not to be as far; not forward from ``DRAWING``."""
    if pot is not None and pot.state is not PotState.DRAWING:
        store.put_pot(connection, replace(pot, state=state))


def _drop(connection: Connection, move: Move) -> bool:
    """Note that an act never happens, and what follows."""
    now = store.progress(connection)
    if not store.drop_move(connection, move):
        return False
    if move.act is Act.INSURE:
        now = replace(now, insured_micro=now.insured_micro - move.amount_micro)
    elif move.act is Act.RELEASE:
        now = replace(now, take_micro=now.take_micro - move.amount_micro)
    elif move.act is Act.DRAW:
        for customer, amount in zip(move.body.customers, move.body.sums_micro, strict=True):
            store.add(connection, customer, drawn_micro=-amount)
    store.save_progress(connection, now)
    return True
