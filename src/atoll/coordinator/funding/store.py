"""The SQL of funding; all in the caller's transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.funding.model import (
    Act,
    Customer,
    EpochNeeds,
    EventName,
    Move,
    MoveBody,
    MoveState,
    PostedEvent,
    Pot,
    PotState,
    Progress,
)
from atoll.coordinator.sql import Statement
from atoll.core.money import PICO_PER_MICRO

_CUSTOMER = (
    "customer, paid_in_micro, paid_in_pico, paid_out_micro, paid_out_pico, charged_micro,"
    " charged_pico, deposited_micro, arrived_micro, drawn_micro, withdrawn_micro"
)
_MOVE = "serial, act, epoch, body, attempt, state"
_EPOCH = (
    "epoch, released_micro, held_micro, take_micro, take_pico, top_up_micro, top_up_pico,"
    " insured_micro, insured_pico"
)
_PROGRESS = (
    "entry, event, epoch_charged, epoch_known, funded_micro, take_micro, insured_micro,"
    " advanced_micro, sent_micro, counted_micro"
)

_ONE = Statement(
    "SELECT {columns} FROM funding_customer WHERE customer = :customer", columns=_CUSTOMER
)
_PUT = Statement(
    """INSERT INTO funding_customer (escrow_key, {columns})
    VALUES (:escrow_key, :customer, :paid_in_micro, :paid_in_pico, :paid_out_micro, :paid_out_pico,
        :charged_micro, :charged_pico, :deposited_micro, :arrived_micro, :drawn_micro,
        :withdrawn_micro)
    ON CONFLICT (customer) DO UPDATE SET
        paid_in_micro = excluded.paid_in_micro, paid_in_pico = excluded.paid_in_pico,
        paid_out_micro = excluded.paid_out_micro, paid_out_pico = excluded.paid_out_pico,
        charged_micro = excluded.charged_micro, charged_pico = excluded.charged_pico,
        deposited_micro = excluded.deposited_micro, arrived_micro = excluded.arrived_micro,
        drawn_micro = excluded.drawn_micro, withdrawn_micro = excluded.withdrawn_micro""",
    columns=_CUSTOMER,
)
_ADD = Statement("""
    UPDATE funding_customer SET deposited_micro = deposited_micro + :deposited,
        arrived_micro = arrived_micro + :arrived, drawn_micro = drawn_micro + :drawn,
        withdrawn_micro = withdrawn_micro + :withdrawn
    WHERE customer = :customer""")
_BY_KEY = Statement("SELECT customer FROM funding_customer WHERE escrow_key = :escrow_key")
_KEY_OF = Statement("SELECT escrow_key FROM funding_customer WHERE customer = :customer")
_TO_DEPOSIT = Statement(
    """SELECT {columns} FROM funding_customer WHERE paid_in_micro > deposited_micro
    ORDER BY customer LIMIT :limit""",
    columns=_CUSTOMER,
)
_TO_DRAW = Statement(
    """SELECT {columns} FROM funding_customer WHERE charged_micro > drawn_micro
    AND customer > :after ORDER BY customer LIMIT :limit""",
    columns=_CUSTOMER,
)
_TO_WITHDRAW = Statement(
    """SELECT {columns} FROM funding_customer WHERE paid_out_micro > withdrawn_micro
    AND arrived_micro - drawn_micro - withdrawn_micro > 0 ORDER BY customer LIMIT :limit""",
    columns=_CUSTOMER,
)
_COUNT = Statement("SELECT count(*) FROM funding_customer")
_SUMS = Statement("""
    SELECT SUM(deposited_micro), SUM(arrived_micro), SUM(drawn_micro), SUM(withdrawn_micro)
    FROM funding_customer""")
_PUT_MOVE = Statement(
    "INSERT INTO funding_move ({columns}) VALUES (:serial, :act, :epoch, :body, 0, 0)",
    columns=_MOVE,
)
_OPEN = Statement(
    "SELECT {columns} FROM funding_move WHERE state = 0 ORDER BY serial LIMIT :limit", columns=_MOVE
)
_MOVE_ONE = Statement("SELECT {columns} FROM funding_move WHERE serial = :serial", columns=_MOVE)
_OPEN_COUNT = Statement("SELECT act, count(*) FROM funding_move WHERE state = 0 GROUP BY act")
_WITHDRAWING = Statement(
    "SELECT body FROM funding_move WHERE state = 0 AND act IN ('notice', 'withdraw')"
)
_OF_ACT = Statement(
    "SELECT {columns} FROM funding_move WHERE act = :act ORDER BY serial DESC LIMIT 1",
    columns=_MOVE,
)
_DONE = Statement("UPDATE funding_move SET state = 1 WHERE serial = :serial AND state = 0")
_DROP = Statement("""
    UPDATE funding_move SET state = 2
    WHERE serial = :serial AND attempt = :attempt AND state < 2""")
_AGAIN = Statement("""
    UPDATE funding_move SET attempt = attempt + 1, state = 0
    WHERE serial = :serial AND attempt = :attempt""")
_OF_EPOCH = Statement(
    """SELECT {columns} FROM funding_move WHERE epoch = :epoch AND act = :act
    ORDER BY serial""",
    columns=_MOVE,
)
_PUT_EPOCH = Statement(
    """INSERT INTO funding_epoch ({columns}) VALUES (:epoch, :released_micro, :held_micro,
    :take_micro, :take_pico, :top_up_micro, :top_up_pico, :insured_micro, :insured_pico)
    ON CONFLICT (epoch) DO NOTHING""",
    columns=_EPOCH,
)
_EPOCH_ONE = Statement("SELECT {columns} FROM funding_epoch WHERE epoch = :epoch", columns=_EPOCH)
_POT = Statement("SELECT epoch, state, drawn_micro, take_micro FROM funding_pot WHERE epoch = :e")
_OPEN_POT = Statement("""
    SELECT epoch, state, drawn_micro, take_micro FROM funding_pot
    WHERE state NOT IN ('released', 'given back') ORDER BY epoch LIMIT 1""")
_NEWEST_POT = Statement(
    "SELECT epoch, state, drawn_micro, take_micro FROM funding_pot ORDER BY epoch DESC LIMIT 1"
)
_PUT_POT = Statement("""
    INSERT INTO funding_pot (epoch, state, drawn_micro, take_micro)
    VALUES (:epoch, :state, :drawn_micro, :take_micro)
    ON CONFLICT (epoch) DO UPDATE SET state = excluded.state,
        drawn_micro = excluded.drawn_micro, take_micro = excluded.take_micro""")
_MAKE_PROGRESS = Statement("""
    INSERT INTO funding_progress (id, next_serial, entry, event, epoch_charged, epoch_known,
        funded_micro, take_micro, insured_micro, advanced_micro, sent_micro, counted_micro,
        waits_for)
    VALUES (1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '') ON CONFLICT (id) DO NOTHING""")
_PROGRESS_LOCKED = Statement(
    "SELECT {columns} FROM funding_progress WHERE id = 1 FOR UPDATE", columns=_PROGRESS
)
_PROGRESS_READ = Statement("SELECT {columns} FROM funding_progress WHERE id = 1", columns=_PROGRESS)
_SAVE_PROGRESS = Statement("""
    UPDATE funding_progress SET entry = :entry, event = :event, epoch_charged = :epoch_charged,
        epoch_known = :epoch_known, funded_micro = :funded_micro, take_micro = :take_micro,
        insured_micro = :insured_micro, advanced_micro = :advanced_micro,
        sent_micro = :sent_micro, counted_micro = :counted_micro WHERE id = 1""")
_EVENT = Statement("""
    SELECT generation, undone, sent_micro, counted_micro FROM funding_event
    WHERE transaction_hash = :hash AND address = :address AND ordinal = :ordinal""")
_UNDONE = Statement("""
    SELECT transaction_hash, address, ordinal FROM funding_event WHERE undone = 1
    ORDER BY transaction_hash LIMIT :limit""")
_PUT_EVENT = Statement("""
    INSERT INTO funding_event (transaction_hash, address, ordinal, generation, undone, sent_micro,
        counted_micro)
    VALUES (:hash, :address, :ordinal, :generation, :undone, :sent, :counted)
    ON CONFLICT (transaction_hash, address, ordinal) DO UPDATE SET
        generation = excluded.generation, undone = excluded.undone,
        sent_micro = excluded.sent_micro, counted_micro = excluded.counted_micro""")
_SERIAL = Statement("SELECT next_serial FROM funding_progress WHERE id = 1")
_WAITS_FOR = Statement("SELECT waits_for FROM funding_progress WHERE id = 1")
_NOTE_WAITING = Statement("UPDATE funding_progress SET waits_for = :waits_for WHERE id = 1")
_NEXT_SERIAL = Statement("UPDATE funding_progress SET next_serial = :next WHERE id = 1")


def _pico(micro: Any, pico: Any) -> int:
    return int(micro) * PICO_PER_MICRO + int(pico)


# --- customers ------------------------------------------------------------------------------------


def _customer(row: Any) -> Customer:
    return Customer(
        customer=bytes(row[0]),
        paid_in_pico=_pico(row[1], row[2]),
        paid_out_pico=_pico(row[3], row[4]),
        charged_pico=_pico(row[5], row[6]),
        deposited_micro=int(row[7]),
        arrived_micro=int(row[8]),
        drawn_micro=int(row[9]),
        withdrawn_micro=int(row[10]),
    )


def customer(connection: Connection, name: bytes) -> Customer:
    """Return a customer's money; nothing of one that never had any."""
    row = _ONE.first(connection, customer=name)
    return Customer(name) if row is None else _customer(row)


def put_customer(connection: Connection, one: Customer, escrow_key: bytes) -> None:
    """Write a customer's money. His key is kept from the first time on."""
    paid_in, paid_out, charged = (
        divmod(amount, PICO_PER_MICRO)
        for amount in (one.paid_in_pico, one.paid_out_pico, one.charged_pico)
    )
    _PUT.run(
        connection,
        escrow_key=escrow_key,
        customer=one.customer,
        paid_in_micro=paid_in[0],
        paid_in_pico=paid_in[1],
        paid_out_micro=paid_out[0],
        paid_out_pico=paid_out[1],
        charged_micro=charged[0],
        charged_pico=charged[1],
        deposited_micro=one.deposited_micro,
        arrived_micro=one.arrived_micro,
        drawn_micro=one.drawn_micro,
        withdrawn_micro=one.withdrawn_micro,
    )


def add(
    connection: Connection,
    name: bytes,
    *,
    deposited_micro: int = 0,
    arrived_micro: int = 0,
    drawn_micro: int = 0,
    withdrawn_micro: int = 0,
) -> None:
    """Add to what of a customer's money was given to acts on the chain."""
    _ADD.run(
        connection,
        customer=name,
        deposited=deposited_micro,
        arrived=arrived_micro,
        drawn=drawn_micro,
        withdrawn=withdrawn_micro,
    )


def customer_by_key(connection: Connection, escrow_key: bytes) -> bytes | None:
    """Return whose key of the escrow this is; None for a stranger's."""
    found = _BY_KEY.scalar(connection, escrow_key=escrow_key)
    return None if found is None else bytes(found)


def key_of(connection: Connection, name: bytes) -> bytes | None:
    """Return a customer's key of the escrow, if he is known."""
    found = _KEY_OF.scalar(connection, customer=name)
    return None if found is None else bytes(found)


def to_deposit(connection: Connection, limit: int) -> list[Customer]:
    """Return customers who paid in more than was deposited."""
    return [_customer(row) for row in _TO_DEPOSIT.all(connection, limit=limit)]


def to_draw(connection: Connection, after: bytes, limit: int) -> list[Customer]:
    """Return customers who were charged more than was drawn, above ``after``."""
    return [_customer(row) for row in _TO_DRAW.all(connection, after=after, limit=limit)]


def to_withdraw(connection: Connection, limit: int) -> list[Customer]:
    """Return customers who were paid out more than was withdrawn, and have something there."""
    return [_customer(row) for row in _TO_WITHDRAW.all(connection, limit=limit)]


def customers_count(connection: Connection) -> int:
    """Return how many customers are known."""
    return int(_COUNT.scalar(connection))


def sums(connection: Connection) -> Customer:
    """Return all customers' figures of the chain, summed."""
    row = _SUMS.first(connection)
    deposited, arrived, drawn, withdrawn = (int(value or 0) for value in row)
    return Customer(
        b"",
        deposited_micro=deposited,
        arrived_micro=arrived,
        drawn_micro=drawn,
        withdrawn_micro=withdrawn,
    )


# --- acts -----------------------------------------------------------------------------------------


def _move(row: Any) -> Move:
    return Move(
        serial=int(row[0]),
        act=Act(row[1]),
        epoch=int(row[2]),
        body=msgspec.msgpack.decode(bytes(row[3]), type=MoveBody),
        attempt=int(row[4]),
        state=MoveState(int(row[5])),
    )


def put_move(connection: Connection, act: Act, body: MoveBody, epoch: int = 0) -> int:
    """Write an act to be done; return its serial."""
    progress(connection)
    serial = int(_SERIAL.scalar(connection))
    _NEXT_SERIAL.run(connection, next=serial + 1)
    _PUT_MOVE.run(
        connection, serial=serial, act=act.value, epoch=epoch, body=msgspec.msgpack.encode(body)
    )
    return serial


def open_moves(connection: Connection, limit: int) -> list[Move]:
    """Return acts that are not done, oldest first."""
    return [_move(row) for row in _OPEN.all(connection, limit=limit)]


def open_counts(connection: Connection) -> dict[Act, int]:
    """Return how many acts of each kind are not done."""
    return {Act(act): int(count) for act, count in _OPEN_COUNT.all(connection)}


def move(connection: Connection, serial: int) -> Move:
    """Return one act, which is there."""
    return _move(_MOVE_ONE.first(connection, serial=serial))


def withdrawing(connection: Connection) -> set[bytes]:
    """Return customers for whom a withdrawal is under way."""
    bodies = (
        msgspec.msgpack.decode(bytes(body), type=MoveBody)
        for (body,) in _WITHDRAWING.all(connection)
    )
    return {body.customers[0] for body in bodies}


def newest_of(connection: Connection, act: Act) -> Move | None:
    """Return the newest act of a kind."""
    row = _OF_ACT.first(connection, act=act.value)
    return None if row is None else _move(row)


def moves_of(connection: Connection, epoch: int, act: Act) -> list[Move]:
    """Return an epoch's acts of a kind."""
    return [_move(row) for row in _OF_EPOCH.all(connection, epoch=epoch, act=act.value)]


def end_move(connection: Connection, serial: int) -> bool:
    """Note that an act is done; False where that is known."""
    return bool(_DONE.run(connection, serial=serial))


def drop_move(connection: Connection, one: Move) -> bool:
    """Note that an act never happens; False where that is known."""
    return bool(_DROP.run(connection, serial=one.serial, attempt=one.attempt))


def try_again(connection: Connection, one: Move) -> bool:
    """Begin another attempt; False where it began already."""
    return bool(_AGAIN.run(connection, serial=one.serial, attempt=one.attempt))


# --- epochs and pots ------------------------------------------------------------------------------


def put_epoch(connection: Connection, needs: EpochNeeds) -> None:
    """Keep what an epoch needs."""
    take, top_up, insured = (
        divmod(amount, PICO_PER_MICRO)
        for amount in (needs.take_pico, needs.top_up_pico, needs.insured_pico)
    )
    _PUT_EPOCH.run(
        connection,
        epoch=needs.epoch,
        released_micro=needs.released_micro,
        held_micro=needs.held_micro,
        take_micro=take[0],
        take_pico=take[1],
        top_up_micro=top_up[0],
        top_up_pico=top_up[1],
        insured_micro=insured[0],
        insured_pico=insured[1],
    )


def epoch(connection: Connection, number: int) -> EpochNeeds | None:
    """Return what an epoch needs, once its document was read."""
    row = _EPOCH_ONE.first(connection, epoch=number)
    if row is None:
        return None
    return EpochNeeds(
        epoch=int(row[0]),
        released_micro=int(row[1]),
        held_micro=int(row[2]),
        take_pico=_pico(row[3], row[4]),
        top_up_pico=_pico(row[5], row[6]),
        insured_pico=_pico(row[7], row[8]),
    )


def _pot(row: Any) -> Pot:
    return Pot(int(row[0]), PotState(row[1]), int(row[2]), int(row[3]))


def pot(connection: Connection, number: int) -> Pot | None:
    """Return an epoch's pot."""
    row = _POT.first(connection, e=number)
    return None if row is None else _pot(row)


def newest_pot(connection: Connection) -> Pot | None:
    """Return the pot that was begun last."""
    row = _NEWEST_POT.first(connection)
    return None if row is None else _pot(row)


def open_pot(connection: Connection) -> Pot | None:
    """Return the pot that is not ended."""
    row = _OPEN_POT.first(connection)
    return None if row is None else _pot(row)


def put_pot(connection: Connection, one: Pot) -> None:
    """Write a pot."""
    _PUT_POT.run(
        connection,
        epoch=one.epoch,
        state=one.state.value,
        drawn_micro=one.drawn_micro,
        take_micro=one.take_micro,
    )


# --- progress -------------------------------------------------------------------------------------


def progress(connection: Connection) -> Progress:
    """Return how far funding is, and let nobody else go on until this transaction ends."""
    _MAKE_PROGRESS.run(connection)
    return Progress(*(int(value) for value in _PROGRESS_LOCKED.first(connection)))


def progress_now(connection: Connection) -> Progress:
    """Return how far funding is."""
    row: Sequence[Any] | None = _PROGRESS_READ.first(connection)
    return Progress() if row is None else Progress(*(int(value) for value in row))


def waits_for(connection: Connection) -> str:
    """Return what funding waited for at its last step, in words; empty for nothing."""
    return str(_WAITS_FOR.scalar(connection) or "")


def note_waiting(connection: Connection, words: str) -> None:
    """Keep what funding waits for."""
    progress(connection)
    _NOTE_WAITING.run(connection, waits_for=words)


def save_progress(connection: Connection, now: Progress) -> None:
    """Write how far funding is."""
    _SAVE_PROGRESS.run(
        connection,
        entry=now.entry,
        event=now.event,
        epoch_charged=now.epoch_charged,
        epoch_known=now.epoch_known,
        funded_micro=now.funded_micro,
        take_micro=now.take_micro,
        insured_micro=now.insured_micro,
        advanced_micro=now.advanced_micro,
        sent_micro=now.sent_micro,
        counted_micro=now.counted_micro,
    )


# --- events ---------------------------------------------------------------------------------------


def posted(connection: Connection, name: EventName) -> PostedEvent | None:
    """Return how an event was posted; None for most of those that were posted once, and others."""
    row = _EVENT.first(connection, hash=name[0], address=name[1], ordinal=name[2])
    if row is None:
        return None
    return PostedEvent(int(row[0]), bool(row[1]), int(row[2]), int(row[3]))


def undone(connection: Connection, limit: int) -> set[EventName]:
    """Return events that are undone now."""
    rows = _UNDONE.all(connection, limit=limit)
    return {(bytes(hash_), bytes(address), int(ordinal)) for hash_, address, ordinal in rows}


def put_posted(connection: Connection, name: EventName, one: PostedEvent) -> None:
    """Keep how an event was posted."""
    _PUT_EVENT.run(
        connection,
        hash=name[0],
        address=name[1],
        ordinal=name[2],
        generation=one.generation,
        undone=int(one.undone),
        sent=one.sent_micro,
        counted=one.counted_micro,
    )
