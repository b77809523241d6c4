"""Pure decisions of funding: names in the escrow, what entries and events mean, what is taken."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from atoll.coordinator.funding.model import (
    CHAIN_DEPOSIT,
    CUSTOMERS_MAX,
    Customer,
    EpochNeeds,
    EventName,
    MoveBody,
    Progress,
)
from atoll.core.money import BPS, PICO_PER_MICRO
from atoll.economy.keccak import keccak_256
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.rules import changes
from atoll.economy.settlement.document import Figures, TotalFigures
from atoll.economy.settlement.model import BUCKETS, INSURANCE

_SALT_LABEL = b"atoll/escrow-salt/1\0"
_WORD_BYTES = 32
_EPOCH_KEY = b"epoch/"
STRANGERS = Account.of(AccountKind.OPERATOR, b"strangers")
"""What is in the escrow for customers of somebody else."""
FOUND = Account.of(AccountKind.OPERATOR, b"found")
"""What came to contracts of ours without our doing: struck bonds, gifts."""
OPERATOR = Account.of(AccountKind.OPERATOR)
ESCROW, TREASURY, DISTRIBUTOR = "Escrow", "Treasury", "EpochDistributor"
SPEAKERS = (ESCROW, TREASURY, DISTRIBUTOR)
"""Contracts whose events move money."""


# --- names ----------------------------------------------------------------------------------------


def salt_of(secret: bytes, customer: bytes) -> bytes:
    """Return the salt of a customer's name in the escrow: nobody links it without the secret."""
    return hmac.digest(secret, _SALT_LABEL + customer, hashlib.sha256)


def escrow_key(owner: bytes, salt: bytes) -> bytes:
    """Return a customer's name in the escrow: ``Escrow.customer_of``."""
    return keccak_256(owner.rjust(_WORD_BYTES, b"\0") + salt)


# --- the ledger -----------------------------------------------------------------------------------


def epoch_of(entry: Entry) -> int | None:
    """Return the epoch whose charges an entry posts; None for any other entry."""
    if entry.kind != "epoch" or not entry.key.startswith(_EPOCH_KEY):
        return None
    return int(entry.key.split(b"/")[1])


def customers_of(entry: Entry) -> dict[bytes, int]:
    """Return by how much an entry changes customers' balances."""
    return {
        account.owner: change
        for account, change in changes(entry).items()
        if account.kind == AccountKind.CUSTOMER.value and change
    }


def after_entry(one: Customer, entry: Entry, change_pico: int) -> Customer:
    """Return a customer's money after an entry that changes his balance by so much."""
    if epoch_of(entry) is not None:
        return replace(one, charged_pico=one.charged_pico - change_pico)
    if change_pico < 0 and entry.kind != CHAIN_DEPOSIT:
        return replace(one, paid_out_pico=one.paid_out_pico - change_pico)
    one = replace(one, paid_in_pico=one.paid_in_pico + change_pico)
    if entry.kind != CHAIN_DEPOSIT:
        return one
    # It stands on the chain already; or did, where the chain lost it.
    there = change_pico // PICO_PER_MICRO
    return replace(
        one, deposited_micro=one.deposited_micro + there, arrived_micro=one.arrived_micro + there
    )


# --- epochs ---------------------------------------------------------------------------------------


def needs_of(
    before: EpochNeeds | None,
    epoch: int,
    released_micro: int,
    held_micro: int,
    result: Figures,
    after: TotalFigures,
) -> EpochNeeds:
    """Return what an epoch needs, from its document's figures and the epoch before."""
    return EpochNeeds(
        epoch=epoch,
        released_micro=released_micro,
        held_micro=held_micro,
        take_pico=sum(after.buckets_pico),
        top_up_pico=(before.top_up_pico if before else 0) + result.top_up_pico,
        insured_pico=after.buckets_pico[INSURANCE] - after.insurance_pico,
    )


def due_of_insurance_micro(needs: EpochNeeds, now: Progress) -> int:
    """Return what insurance's bucket still owes to the distributor."""
    return max(0, needs.insured_pico // PICO_PER_MICRO - now.insured_micro)


def due_of_operator_micro(needs: EpochNeeds, now: Progress, fractions: int) -> int:
    """Return what the operator may have to pay to the distributor yet.

    Top-ups, what the insurance owes and cannot pay, and ``fractions``: units that customers were
    charged in part only, so that they are drawn later.
    """
    top_up = -(-needs.top_up_pico // PICO_PER_MICRO)
    insured = max(0, needs.insured_pico // PICO_PER_MICRO)
    return max(0, top_up + insured + fractions - now.insured_micro - now.advanced_micro)


def take_micro(
    drawn_micro: int, take_bps: int, needs: EpochNeeds, now: Progress, there_micro: int
) -> int:
    """Return what of a pot goes to the treasury.

    What all takes so far come to, less what was sent before; at most the share that the escrow
    allows, rounded up, and not so much that the distributor would lack what neither insurance
    nor operator have to pay. ``there_micro``: what the distributor has, counted or not.
    """
    due = needs.take_pico // PICO_PER_MICRO - now.take_micro
    allowed = -(-drawn_micro * take_bps // BPS)
    others = due_of_operator_micro(needs, now, 0)
    for_leaves = max(0, needs.need_micro - there_micro - others)
    return max(0, min(due, allowed, drawn_micro - for_leaves))


@dataclass(frozen=True, slots=True)
class Draw:
    """What is drawn of one customer."""

    customer: bytes
    amount_micro: int


def draws_of(found: Sequence[Customer], room_micro: int) -> list[Draw]:
    """Return what is drawn of customers, within the escrow's cap; the rest comes later."""
    draws = []
    for one in found:
        amount = min(one.to_draw_micro, room_micro)
        if amount:
            draws.append(Draw(one.customer, amount))
            room_micro -= amount
    return draws


def batches(draws: Sequence[Draw]) -> list[MoveBody]:
    """Return draws in calls of the escrow."""
    return [
        MoveBody(
            [one.customer for one in draws[start : start + CUSTOMERS_MAX]],
            [one.amount_micro for one in draws[start : start + CUSTOMERS_MAX]],
        )
        for start in range(0, len(draws), CUSTOMERS_MAX)
    ]


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a contract of ours, read."""

    serial: int
    contract: str
    name: str
    values: Mapping[str, Any]
    address: bytes
    transaction: bytes
    ordinal: int

    @property
    def event(self) -> EventName:
        """Its name: the event has it for good, in whatever block it stands."""
        return self.transaction, self.address, self.ordinal

    def key(self, generation: int = 0) -> bytes:
        """Key of its entry; of another one each time it came back after the chain had lost it."""
        name = self.transaction + self.address + self.ordinal.to_bytes(4, "big")
        if not generation:
            return b"event/" + name
        return b"again/" + hashlib.sha256(name + generation.to_bytes(4, "big")).digest()

    def amount_pico(self, name: str = "amount_micro") -> int:
        """Return one of its amounts."""
        return int(self.values[name]) * PICO_PER_MICRO

    def account(self, name: str) -> bytes:
        """Return one of its addresses."""
        return bytes.fromhex(str(self.values[name]).removeprefix("0x"))


@dataclass(frozen=True, slots=True)
class Places:
    """Who is who on the chain."""

    operator: bytes
    addresses: Mapping[str, bytes]
    """Of ``SPEAKERS``."""

    def stable_at(self, contract: str) -> Account:
        """Return the ledger's account for stablecoin in a contract of ours."""
        return Account.of(AccountKind.STABLE, self.addresses[contract])


def postings_of(
    told: Told, places: Places, customer: bytes | None, buckets_pico: Mapping[str, int]
) -> tuple[str, list[Posting]]:
    """Return kind and postings of an event's entry; no postings where none is needed.

    ``customer``: whose key the event names, None for a stranger's. ``buckets_pico``: what the
    ledger has of each share of the take. The distributor's ``Funded`` is judged by ``counted``.
    """
    escrow, treasury, distributor = (places.stable_at(name) for name in SPEAKERS)
    match told.contract, told.name:
        case "Escrow", "Deposited":
            amount = told.amount_pico()
            if told.account("payer") == places.operator:
                return "escrow deposit", _moved(escrow, OPERATOR, amount)
            if customer is None:
                return "escrow deposit", _moved(escrow, STRANGERS, amount)
            owner = Account.of(AccountKind.CUSTOMER, customer)
            return CHAIN_DEPOSIT, _moved(escrow, owner, amount)
        case "Escrow", "Withdrawn":
            other = STRANGERS if customer is None else OPERATOR
            return "escrow withdrawal", _moved(other, escrow, told.amount_pico())
        case "Escrow", "Released":
            providers = told.amount_pico("providers_micro")
            take = told.amount_pico("take_micro")
            postings = [*_moved(distributor, escrow, providers), *_moved(treasury, escrow, take)]
            return "escrow release", postings
        case "Treasury", "Withdrawn":
            return "treasury withdrawal", _withdrawn(told, places, buckets_pico)
        case "Treasury", "Absorbed":
            return "treasury found", _moved(treasury, FOUND, told.amount_pico())
        case "EpochDistributor", "Claimed":
            claimed = Account.of(AccountKind.STABLE, told.account("account"))
            return "claim", _moved(claimed, distributor, told.amount_pico())
    return "", []


def _withdrawn(told: Told, places: Places, buckets_pico: Mapping[str, int]) -> list[Posting]:
    """A payee took from his bucket: it owes him so much less, as far as it owed him anything."""
    treasury, amount = places.stable_at(TREASURY), told.amount_pico()
    if told.account("receiver") == places.addresses[DISTRIBUTOR]:
        return _moved(places.stable_at(DISTRIBUTOR), treasury, amount)
    bucket = int(told.values["bucket"])
    if bucket == INSURANCE:
        return _moved(OPERATOR, treasury, amount)
    name = BUCKETS[bucket]
    owed = min(amount, buckets_pico.get(name, 0))
    owner = Account.of(AccountKind.BUCKET, name.encode())
    return [*_moved(owner, treasury, owed), *_moved(OPERATOR, treasury, amount - owed)]


def _moved(to: Account, source: Account, amount_pico: int) -> list[Posting]:
    if not amount_pico:
        return []
    return [Posting(to, amount_pico), Posting(source, -amount_pico)]


def sent_by(told: Told, places: Places) -> int:
    """Return what an event says was sent to the distributor by transfer, stablecoin units."""
    if (told.contract, told.name) == (ESCROW, "Released"):
        return int(told.values["providers_micro"])
    if (told.contract, told.name) == (TREASURY, "Withdrawn"):
        to_distributor = told.account("receiver") == places.addresses[DISTRIBUTOR]
        return int(told.values["amount_micro"]) if to_distributor else 0
    return 0


def reversal(entry: Entry) -> Entry:
    """Return the entry that takes back another one, of an event that the chain has lost."""
    key = b"undone/" + hashlib.sha256(entry.key).digest()
    postings = tuple(Posting(one.account, -one.amount_pico) for one in entry.postings)
    return Entry(key, entry.kind, entry.evidence, postings, "undone by the chain")


def counted(told: Told, places: Places, now: Progress) -> tuple[Progress, list[Posting]]:
    """Return progress and postings after the distributor said that it counts more as funds.

    It says the same for what it pulled and for what had been sent to it; what goes beyond
    everything that was sent must have been paid in.
    """
    now = replace(now, counted_micro=now.counted_micro + int(told.values["amount_micro"]))
    extra = now.counted_micro - now.sent_micro
    if extra <= 0:
        return now, []
    source = OPERATOR if told.account("payer") == places.operator else FOUND
    postings = _moved(places.stable_at(DISTRIBUTOR), source, extra * PICO_PER_MICRO)
    return replace(now, sent_micro=now.counted_micro), postings
