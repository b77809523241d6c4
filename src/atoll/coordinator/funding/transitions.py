"""What becomes of acts and pots: decisions and the SQL for them, each within one transaction.

Each begins by locking the row of progress, so that several processes take turns.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from atoll.coordinator.funding import rules, store
from atoll.coordinator.funding.model import (
    DEPOSITS_MAX,
    ENDED,
    KEY,
    POT_CUSTOMERS_MAX,
    WITHDRAWALS_MAX,
    Act,
    EpochNeeds,
    Move,
    MoveBody,
    MoveState,
    Pot,
    PotState,
    Progress,
)

log = logging.getLogger("atoll.coordinator.funding")


# --- acts -----------------------------------------------------------------------------------------


def put_once(connection: Connection, act: Act, body: MoveBody) -> bool:
    """Write an act unless one of the kind is under way."""
    store.progress(connection)
    found = store.newest_of(connection, act)
    new = found is None or found.state is not MoveState.OPEN
    if new:
        store.put_move(connection, act, body)
    return new


def is_due(connection: Connection) -> bool:
    """Say whether deposits or withdrawals are to be begun."""
    return bool(store.to_deposit(connection, 1) or store.to_withdraw(connection, 1))


def begin_due(connection: Connection) -> int:
    """Write down deposits and withdrawals that have become due; return how many."""
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


def finish(connection: Connection, serial: int) -> bool:
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


def undo_all(connection: Connection, keys: Sequence[str]) -> int:
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
            drop(connection, move)  # wanted again where something lies there
        case Act.RELEASE:
            drop(connection, move)  # its take is decided anew
            _set_back(connection, pot, PotState.LOCKED)
        case Act.DRAW if pot is not None and pot.state is PotState.GIVEN_BACK:
            store.drop_move(connection, move)  # its customers have it back in the books
        case Act.DRAW if pot is not None and pot.state is PotState.RECLAIMING:
            drop(connection, move)
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


def swap(connection: Connection, move: Move, act: Act) -> bool:
    """Give customers back in the other way what cannot be given back in this one."""
    store.progress(connection)
    dropped = store.drop_move(connection, move)
    if dropped:
        store.put_move(connection, act, move.body, move.epoch)
    return dropped


def keep_released(connection: Connection, move: Move, take_micro: int) -> bool:
    """Note that a pot was released after all, of which customers were to get something back.

    A chain that forgot a rejection takes the release that had come too late. What was drawn again
    since then lowers later draws.
    """
    now = store.progress(connection)
    if not store.drop_move(connection, move):
        return False
    pot = store.pot(connection, move.epoch)
    if pot is None or pot.state is PotState.RELEASED:
        return True
    if pot.state is PotState.GIVEN_BACK:
        for one in store.moves_of(connection, pot.epoch, Act.DRAW):
            if one.state is MoveState.DONE:
                for customer, amount in zip(one.body.customers, one.body.sums_micro, strict=True):
                    store.add(connection, customer, drawn_micro=amount)
    store.put_pot(connection, replace(pot, state=PotState.RELEASED, take_micro=take_micro))
    store.save_progress(connection, replace(now, take_micro=now.take_micro + take_micro))
    return True


def drop(connection: Connection, move: Move) -> bool:
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


# --- epochs ---------------------------------------------------------------------------------------


def newest_needs(connection: Connection) -> EpochNeeds | None:
    """Return what the newest epoch needs whose document was read."""
    return store.epoch(connection, store.progress_now(connection).epoch_known)


def note_funded(connection: Connection, funded_micro: int) -> None:
    """Keep what the distributor says that it was funded with."""
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


def may_open(connection: Connection) -> bool:
    """Say whether there is a pot to open."""
    ready = _ready(connection, store.progress_now(connection))
    return ready and bool(store.to_draw(connection, b"", 1))


def draw(connection: Connection, cap_micro: int) -> tuple[bool, int]:
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


def drawn(connection: Connection, epoch: int) -> bool:
    """Lock a pot once all its draws are done; give it back where one never happens."""
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


def want_release(connection: Connection, epoch: int, take_bps: int, there_micro: int) -> bool:
    """Decide a pot's take and want its release. ``there_micro``: what the distributor has."""
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


def note_release(connection: Connection, epoch: int, take_micro: int) -> bool:
    """Note a release that was not wanted here, and its take."""
    pot = _in_state(connection, epoch, PotState.LOCKED)
    if pot is None:
        return False
    now = store.progress(connection)
    store.save_progress(connection, replace(now, take_micro=now.take_micro + take_micro))
    store.put_pot(connection, replace(pot, state=PotState.RELEASED, take_micro=take_micro))
    return True


def released(connection: Connection, epoch: int) -> bool:
    """End a pot once its release is done; give it back where that never happens."""
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


def give_back(connection: Connection, epoch: int) -> bool:
    """Begin to give a locked pot back to its customers."""
    pot = _in_state(connection, epoch, PotState.LOCKED)
    if pot is not None:
        _begin_giving_back(connection, pot)
    return pot is not None


def _begin_giving_back(connection: Connection, pot: Pot) -> None:
    log.warning("what was drawn for epoch %d is given back; a later one draws it", pot.epoch)
    for move in store.moves_of(connection, pot.epoch, Act.DRAW):
        if move.state is MoveState.DONE:
            store.put_move(connection, Act.RECLAIM, move.body, pot.epoch)
    store.put_pot(connection, replace(pot, state=PotState.RECLAIMING))


def given_back(connection: Connection, epoch: int) -> bool:
    """End a pot once all has gone back: it is to be drawn again."""
    pot = _in_state(connection, epoch, PotState.RECLAIMING)
    moves = store.moves_of(connection, epoch, Act.RECLAIM)
    moves += store.moves_of(connection, epoch, Act.REFUND)
    if pot is None or _some(moves, MoveState.OPEN):
        return False
    for move in store.moves_of(connection, epoch, Act.DRAW):
        if move.state is MoveState.DONE:
            for customer, amount in zip(move.body.customers, move.body.sums_micro, strict=True):
                store.add(connection, customer, drawn_micro=-amount)
    store.put_pot(connection, replace(pot, state=PotState.GIVEN_BACK))
    return True


# --- funding --------------------------------------------------------------------------------------


def fund_next(
    connection: Connection,
    needs: EpochNeeds,
    short_micro: int,
    uncounted_micro: int,
    bucket_micro: int,
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
    insured = min(short_micro, rules.due_of_insurance_micro(needs, now), bucket_micro)
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
