"""Follows ledger, documents and chain: each once, in order, in transactions of the database."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from atoll.coordinator.funding import rules, store
from atoll.coordinator.funding.model import (
    FOLLOWED_ENTRIES,
    Customer,
    EpochNeeds,
    PostedEvent,
    Progress,
)
from atoll.coordinator.funding.rules import DISTRIBUTOR, ESCROW, TREASURY, Places, Told
from atoll.economy.ledger import store as ledger_store
from atoll.economy.ledger.model import Account, AccountKind, Entry
from atoll.economy.ledger.service import post_in
from atoll.economy.settlement.model import BUCKETS


def key_in(connection: Connection, owner: bytes, secret: bytes, customer: bytes) -> bytes:
    """Return a customer's name in the escrow; from then on it is known whose it is."""
    known = store.key_of(connection, customer)
    if known is not None:
        return known
    key = rules.escrow_key(owner, rules.salt_of(secret, customer))
    store.put_customer(connection, Customer(customer), key)
    return key


def follow_ledger(connection: Connection, owner: bytes, secret: bytes) -> int:
    """Note what new entries did to customers; return how many entries were followed."""
    now = store.progress(connection)
    entries = ledger_store.entries(connection, now.entry, FOLLOWED_ENTRIES)
    changed: dict[bytes, Customer] = {}
    for stored in entries:
        entry = stored.entry
        for name, change in rules.customers_of(entry).items():
            if name not in changed:
                changed[name] = store.customer(connection, name)
            changed[name] = rules.after_entry(changed[name], entry, change)
        epoch = rules.epoch_of(entry)
        now = replace(now, entry=stored.number, epoch_charged=max(now.epoch_charged, epoch or 0))
    for name, one in changed.items():
        store.put_customer(connection, one, rules.escrow_key(owner, rules.salt_of(secret, name)))
    if entries:
        store.save_progress(connection, now)
    return len(entries)


def follow_document(connection: Connection, needs: EpochNeeds) -> bool:
    """Keep what the next epoch needs; False where it is known."""
    now = store.progress(connection)
    if needs.epoch != now.epoch_known + 1:
        return False
    store.put_epoch(connection, needs)
    store.save_progress(connection, replace(now, epoch_known=needs.epoch))
    return True


def follow_events(
    connection: Connection,
    told: Sequence[Told],
    lost: Sequence[Told],
    last: int,
    places: Places,
    now_ms: int,
) -> int:
    """Post what contracts said, and take back what they did not say after all.

    ``told``: new events. ``lost``: all events that were told and that the chain does not have
    now. ``last``: serial of the last event looked at, of whichever contract. Returns how many
    events that concerns.
    """
    now = store.progress(connection)
    moved = 0
    for one in sorted(lost, key=lambda told: -told.serial):
        if one.serial <= now.event:
            now, undone = _take_back(connection, one, now, now_ms)
            moved += undone
    for one in told:
        if one.serial > now.event:
            # It may have been told before, by the same transaction, with other figures.
            now, _ = _take_back(connection, one, now, now_ms)
            now = _post(connection, one, places, now, now_ms)
            moved += 1
    store.save_progress(connection, replace(now, event=max(now.event, last)))
    return moved


def come_back(connection: Connection, told: Sequence[Told], places: Places, now_ms: int) -> int:
    """Post again what the chain had lost and has now; return how many events."""
    now = store.progress(connection)
    moved = 0
    for one in sorted(told, key=lambda told: told.serial):
        known = store.posted(connection, one.event)
        if known is not None and known.undone and one.serial <= now.event:
            now = _post(connection, one, places, now, now_ms)
            moved += 1
    store.save_progress(connection, now)
    return moved


def _post(
    connection: Connection, told: Told, places: Places, now: Progress, now_ms: int
) -> Progress:
    """Post an event that is not, or is undone."""
    known = store.posted(connection, told.event)
    generation = known.generation + 1 if known is not None else 0
    after, entry = _entry_of(connection, told, places, now, generation)
    if entry is not None:
        post_in(connection, [entry], now_ms)
    sent = after.sent_micro - now.sent_micro
    counted = after.counted_micro - now.counted_micro
    if generation or sent or counted:
        one = PostedEvent(generation, undone=False, sent_micro=sent, counted_micro=counted)
        store.put_posted(connection, told.event, one)
    return after


def _take_back(
    connection: Connection, told: Told, now: Progress, now_ms: int
) -> tuple[Progress, bool]:
    """Undo what an event did to the books, if it did anything and is not undone."""
    known = store.posted(connection, told.event)
    if known is not None and known.undone:
        return now, False
    found = ledger_store.find(connection, told.key(known.generation if known else 0))
    if known is None and found is None:
        return now, False
    if found is not None:
        entry = ledger_store.entries(connection, found[0] - 1, 1)[0].entry
        post_in(connection, [rules.reversal(entry)], now_ms)
    known = known or PostedEvent()
    now = replace(
        now,
        sent_micro=now.sent_micro - known.sent_micro,
        counted_micro=now.counted_micro - known.counted_micro,
    )
    after = PostedEvent(known.generation, undone=True)
    store.put_posted(connection, told.event, after)
    return now, True


def _entry_of(
    connection: Connection, told: Told, places: Places, now: Progress, generation: int
) -> tuple[Progress, Entry | None]:
    if (told.contract, told.name) == (DISTRIBUTOR, "Funded"):
        now, postings = rules.counted(told, places, now)
        kind = "distributor funds"
    else:
        customer = None
        if told.contract == ESCROW and "customer" in told.values:
            customer = store.customer_by_key(connection, bytes(told.values["customer"]))
        buckets = _buckets(connection) if told.contract == TREASURY else {}
        kind, postings = rules.postings_of(told, places, customer, buckets)
        now = replace(now, sent_micro=now.sent_micro + rules.sent_by(told, places))
    if not postings:
        return now, None
    return now, Entry(told.key(generation), kind, told.transaction, tuple(postings))


def _buckets(connection: Connection) -> dict[str, int]:
    return {
        name: ledger_store.balance(
            connection, Account.of(AccountKind.BUCKET, name.encode())
        ).amount_pico
        for name in BUCKETS
    }
