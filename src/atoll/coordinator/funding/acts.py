"""Acts on the chain: wanted of the outbox when their time has come, until they are done."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from atoll.coordinator.funding import rules, store, transitions
from atoll.coordinator.funding.model import (
    ALLOWANCE,
    ATTEMPTS_SEEN_MAX,
    FAUCET_MICRO_MAX,
    FLOAT_MICRO,
    OPEN_MOVES_MAX,
    RETRY_MS,
    REVIEWED_MAX,
    SPENDS,
    Act,
    Move,
    MoveBody,
    MoveState,
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
        if not await self._database.read(transitions.is_due):
            return 0
        return await self._database.write(transitions.begin_due)

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
                moved += await self._database.write(partial(transitions.finish, serial=move.serial))
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
        return (
            await self._database.write(partial(transitions.undo_all, keys=failed)) if failed else 0
        )

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
            case Act.DRAW | Act.REFUND:
                keys = [self._key(one) for one in body.customers]
                return ESCROW, move.act.value, (move.epoch, keys, body.sums_micro)
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
        return await self._database.write(partial(transitions.put_once, act=act, body=MoveBody()))

    async def _lack(self, moves: Sequence[Move], left_micro: int) -> bool:
        """See that the operator gets what he lacks: of the faucet, or say so."""
        missing = sum(move.amount_micro for move in moves) - left_micro
        if self._link.config.embedded:
            body = MoveBody(sums_micro=[min(missing + FLOAT_MICRO, FAUCET_MICRO_MAX)])
            return await self._database.write(
                partial(transitions.put_once, act=Act.FAUCET, body=body)
            )
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
        if await self._was_done(move):
            return await self._database.write(partial(transitions.finish, serial=move.serial))
        if move.act in (Act.RECLAIM, Act.REFUND) and await self._give_otherwise(move):
            return True
        if await self._is_hopeless(move):
            log.warning("%s %d is given up: %s", move.act.value, move.serial, status.problem)
            return await self._database.write(partial(transitions.drop, move=move))
        if self._clock.now_ms() - status.created_ms < RETRY_MS:
            return False
        log.info("%s %d is tried again: %s", move.act.value, move.serial, status.problem)
        return await self._database.write(partial(store.try_again, one=move))

    async def _was_done(self, move: Move) -> bool:
        """Say whether an earlier attempt stands: a chain that forgot may take it after all."""
        earlier = [replace(move, attempt=attempt).key for attempt in range(move.attempt)]
        found = await self._link.outbox.statuses(earlier[-ATTEMPTS_SEEN_MAX:])
        return any(one is not None and one.state is IntentState.FINAL for one in found)

    async def _give_otherwise(self, move: Move) -> bool:
        """Give back in the way that the pot's state allows; say whether that changed anything."""
        _, _, _, _, state = await self.pot(move.epoch)
        if state == POT_RELEASED:
            taken = int(await self._views.ask(TREASURY, "take_of", move.epoch))
            keep = partial(transitions.keep_released, move=move, take_micro=taken)
            return await self._database.write(keep)
        is_open = state == POT_OPEN and not await self.is_closed(move.epoch)
        if is_open == (move.act is Act.REFUND):
            return False
        other = Act.REFUND if is_open else Act.RECLAIM
        return await self._database.write(partial(transitions.swap, move=move, act=other))

    async def _is_hopeless(self, move: Move) -> bool:
        if move.act is Act.INSURE:
            return True  # its bucket went elsewhere: the operator pays in its place
        if move.act not in (Act.DRAW, Act.RELEASE, Act.RECLAIM, Act.REFUND):
            return False
        if move.act in (Act.RECLAIM, Act.REFUND):
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
