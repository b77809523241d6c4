"""Takes over what the distributor said: proposals, rejections, final roots, payments, demands.

Events are taken in the order in which they were told, a page in one transaction with the place
that was reached, so each is taken once whatever dies. Where the chain has lost what was told (an
embedded one that was killed, a deep reorganisation), or has it back, all is taken over anew.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy.engine import Connection

from atoll.coordinator.settlement import rules, store
from atoll.coordinator.settlement.model import EVENTS_PAGE, Claim, Cursor, SettlementRow
from atoll.coordinator.settlement.views import DISTRIBUTOR, Views
from atoll.core.ports import Database
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.link import ChainLink
from atoll.economy.chain.model import ChainEvent
from atoll.economy.chain.signer import parse_address

PAGES_MAX: Final = 20
"""Pages of one step."""
log = logging.getLogger("atoll.coordinator.settlement")


class Takeover:
    """Reads the watcher's events into the tables of settlement."""

    def __init__(self, database: Database, link: ChainLink, views: Views) -> None:
        self._database = database
        self._link = link
        self._views = views
        self._chain_id = link.config.chain_id
        self.caught_up = False
        """Whether the last step saw all events that were told by then."""

    async def step(self) -> int:
        """Take over what is new; return how many events that was."""
        distributor = await self._views.address_of(DISTRIBUTOR)
        taken = 0
        self.caught_up = False
        await self._look_back()
        for _ in range(PAGES_MAX):
            cursor = await self._database.read(partial(store.cursor, chain=self._chain_id))
            events = await self._link.watcher.events(cursor.serial, EVENTS_PAGE)
            if not events:
                self.caught_up = True
                break
            said = [
                _read(event)
                for event in events
                if event.address == distributor and not event.retracted
            ]
            await self._database.write(
                partial(self._take, cursor=cursor, last=events[-1].serial, said=said)
            )
            taken += len(events)
        return taken

    async def _look_back(self) -> None:
        """Begin anew where the chain has lost other events than it had."""
        serials = [event.serial for event in await self._link.watcher.retracted()]
        lost = hashlib.sha256(repr(serials).encode()).digest() if serials else b""
        cursor = await self._database.read(partial(store.cursor, chain=self._chain_id))
        if cursor.lost == lost:
            return

        def begin_anew(connection: Connection) -> None:
            if store.lock_cursor(connection, self._chain_id).lost == lost:
                return  # another process was faster
            store.take_back(connection)
            store.advance(connection, self._chain_id, Cursor(lost=lost))

        await self._database.write(begin_anew)
        log.warning("the chain lost, or has back, what it said: all is taken over anew")

    def _take(
        self, connection: Connection, cursor: Cursor, last: int, said: Sequence["_Said"]
    ) -> None:
        now = store.lock_cursor(connection, self._chain_id)
        if now.serial != cursor.serial:
            return  # another process was faster
        for one in said:
            now = _TAKERS.get(one[0], _pass)(connection, now, one[1], one[2])
        store.advance(connection, self._chain_id, replace(now, serial=last))


_Said = tuple[str, dict[str, Any], ChainEvent]
_Taker = Callable[[Connection, Cursor, dict[str, Any], ChainEvent], Cursor]


def _read(event: ChainEvent) -> _Said:
    found = abi.read_event(load(DISTRIBUTOR), event)
    return ("", {}, event) if found is None else (*found, event)


def _pass(_: Connection, cursor: Cursor, __: dict[str, Any], ___: ChainEvent) -> Cursor:
    return cursor


def _change(
    connection: Connection, epoch: int, change: Callable[[SettlementRow], SettlementRow]
) -> SettlementRow | None:
    row = store.one(connection, epoch)
    if row is None:
        return None
    after = change(row)
    if after != row:
        store.move(connection, row, after)
        log.info(
            "epoch %d is %s%s", epoch, after.state.value, after.problem and f": {after.problem}"
        )
    return after


def _proposed(
    connection: Connection, cursor: Cursor, values: dict[str, Any], event: ChainEvent
) -> Cursor:
    epoch = int(values["epoch"])
    _change(connection, epoch, lambda row: rules.proposed(row, values, event.transaction))
    attempts = max(cursor.attempts, int(values["attempt"]))
    return replace(cursor, attempts=attempts, proposed_epoch=epoch)


def _rejected(
    connection: Connection, cursor: Cursor, values: dict[str, Any], _: ChainEvent
) -> Cursor:
    _change(connection, int(values["epoch"]), lambda row: rules.rejected(row, values))
    return replace(cursor, proposed_epoch=0)


def _finalised(
    connection: Connection, cursor: Cursor, values: dict[str, Any], event: ChainEvent
) -> Cursor:
    epoch = int(values["epoch"])
    _change(connection, epoch, lambda row: rules.finalised(row, values, event.transaction))
    store.carry(connection, epoch)
    return replace(cursor, proposed_epoch=0)


def _claimed(
    connection: Connection, cursor: Cursor, values: dict[str, Any], event: ChainEvent
) -> Cursor:
    claim = Claim(
        account=parse_address(values["account"]),
        epoch=int(values["epoch"]),
        amount_micro=int(values["amount_micro"]),
        held_micro=int(values["held_micro"]),
        transaction=event.transaction,
        block_number=event.block_number,
    )
    store.put_claims(connection, [(event.serial, claim)])
    return cursor


def _demanded(
    connection: Connection, cursor: Cursor, values: dict[str, Any], _: ChainEvent
) -> Cursor:
    store.put_demand(connection, int(values["attempt"]), int(values["chunk"]))
    return cursor


def _answered(
    connection: Connection, cursor: Cursor, values: dict[str, Any], _: ChainEvent
) -> Cursor:
    store.note_answered(connection, int(values["attempt"]), int(values["chunk"]))
    return cursor


_TAKERS: Final[dict[str, _Taker]] = {
    "Proposed": _proposed,
    "Rejected": _rejected,
    "Finalised": _finalised,
    "Claimed": _claimed,
    "Demanded": _demanded,
    "Answered": _answered,
}
