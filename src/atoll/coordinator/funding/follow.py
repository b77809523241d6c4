"""Follows ledger, documents and chain: each once, in order, in transactions of the database."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from atoll.coordinator.funding import rules, store
from atoll.coordinator.funding.model import (
    FOLLOWED_ENTRIES,
    Customer,
    EpochNeeds,
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
    connection: Connection, told: Sequence[Told], last: int, places: Places, now_ms: int
) -> int:
    """Post what contracts said; return how many entries that made.

    ``last``: serial of the last event looked at, of whichever contract.
    """
    now = store.progress(connection)
    posted = 0
    for one in told:
        if one.serial <= now.event:
            continue
        now, entry = _entry_of(connection, one, places, now)
        if entry is not None:
            posted += post_in(connection, [entry], now_ms)[0].new
    store.save_progress(connection, replace(now, event=max(now.event, last)))
    return posted


def _entry_of(
    connection: Connection, told: Told, places: Places, now: Progress
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
    return now, Entry(told.key, kind, told.transaction, tuple(postings))


def _buckets(connection: Connection) -> dict[str, int]:
    return {
        name: ledger_store.balance(
            connection, Account.of(AccountKind.BUCKET, name.encode())
        ).amount_pico
        for name in BUCKETS
    }
