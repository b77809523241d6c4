"""The chain beside the books: the same sums from both, to the unit."""

from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.funding import store
from atoll.coordinator.funding.model import (
    OPEN_MOVES_MAX,
    Act,
    MoveState,
    Reconciliation,
    ReconciliationLine,
)
from atoll.coordinator.funding.rules import DISTRIBUTOR, ESCROW, STRANGERS, TREASURY
from atoll.coordinator.settlement.views import Views
from atoll.core.errors import AtollError, Kind
from atoll.core.money import PICO_PER_MICRO
from atoll.core.ports import Database
from atoll.economy.chain.link import ChainLink
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind

_LEAVING = (Act.NOTICE, Act.WITHDRAW)
READS_MAX = 5
"""A block in the middle of asking means asking again, so often at most."""


async def reconcile(database: Database, link: ChainLink) -> Reconciliation:
    """Ask the chain for every sum that the books have, too.

    Raises what the chain raises, ``UNREACHABLE`` while contracts are not there.
    """
    views = Views(link)
    chain = await link.chain()
    addresses = await _addresses(views)
    read = partial(_books, addresses=addresses)
    before = await chain.block()
    for _ in range(READS_MAX):
        found = await _chain_side(views)
        books, moves = await database.read(read)
        after = await chain.block()
        if before is None or after is None or before.hash == after.hash:
            lines = tuple(ReconciliationLine(name, found[name], books[name]) for name in found)
            return Reconciliation(lines, moves, await database.read(store.waits_for))
        before = after
    raise AtollError(
        Kind.OVERLOADED,
        "reconcile",
        "the chain makes blocks faster than it answers",
        hint="try again; or ask a nearer server of the chain",
    )


async def _addresses(views: Views) -> dict[str, bytes]:
    return {name: await views.address_of(name) for name in (ESCROW, TREASURY, DISTRIBUTOR)}


async def _chain_side(views: Views) -> dict[str, int]:
    escrow = await views.balance_micro(await views.address_of(ESCROW))
    distributor = await views.balance_micro(await views.address_of(DISTRIBUTOR))
    locked = int(await views.ask(DISTRIBUTOR, "locked_micro"))
    return {
        "escrow": escrow,
        "escrow, customers": int(await views.ask(ESCROW, "customers_micro")),
        "escrow, pots": int(await views.ask(ESCROW, "pots_micro")),
        "distributor": distributor - locked,
        "treasury": int(await views.ask(TREASURY, "total_micro")),
    }


def _books(connection: Connection, addresses: dict[str, bytes]) -> tuple[dict[str, int], int]:
    def stable(contract: str) -> int:
        account = Account.of(AccountKind.STABLE, addresses[contract])
        return ledger_store.balance(connection, account).amount_pico // PICO_PER_MICRO

    moves = store.open_moves(connection, OPEN_MOVES_MAX)
    leaving = sum(move.amount_micro for move in moves if move.act in _LEAVING)
    all_customers = store.sums(connection)
    strangers = ledger_store.balance(connection, STRANGERS).amount_pico // PICO_PER_MICRO
    pot = store.open_pot(connection)
    drawn = 0
    if pot is not None:
        done = [
            move
            for move in store.moves_of(connection, pot.epoch, Act.DRAW)
            if move.state is MoveState.DONE
        ]
        drawn = sum(move.amount_micro for move in done)
    return {
        "escrow": stable(ESCROW),
        "escrow, customers": all_customers.arrived_micro
        - all_customers.spent_micro
        + leaving
        + strangers,
        "escrow, pots": drawn,
        "distributor": stable(DISTRIBUTOR),
        "treasury": stable(TREASURY),
    }, len(moves)
