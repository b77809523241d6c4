"""Entries of the ledger for what goes through the bank. Pure; who posts them is elsewhere.

The key of each entry is that of the movement, or the payout's: the same statement imported again
posts nothing, and another verdict on a movement that was posted is refused by the ledger.
"""

from collections.abc import Mapping

from atoll.core.errors import AtollError, Kind
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.payments.amounts import pico_of
from atoll.economy.payments.payouts.model import Payout
from atoll.economy.payments.payouts.order import end_to_end_of
from atoll.economy.payments.statements.judge import Judgement
from atoll.economy.payments.statements.model import Judged, Verdict


def bank_account(iban: str) -> Account:
    """Return the ledger's account for money at a bank."""
    return Account.of(AccountKind.BANK, iban.encode())


def payable_account(payout: bytes) -> Account:
    """Return the ledger's account for a payout on its way."""
    return Account.of(AccountKind.PAYABLE, payout)


def entries_of(
    judgement: Judgement, iban: str, payouts_cents: Mapping[bytes, int]
) -> tuple[Entry, ...]:
    """Return the entries of everything judged that needs no person, and of the bank's charges.

    ``payouts_cents`` says what each payout that left or came back comes to. Raises
    ``BAD_REQUEST`` where one is missing, or where they do not make up what moved.
    """
    bank = bank_account(iban)
    entries = [
        _entry(one, bank, payouts_cents)
        for one in judgement.movements
        if one.verdict in (Verdict.CREDIT, Verdict.PAID, Verdict.RETURNED)
    ]
    for charge in judgement.charges:
        amount_pico = pico_of(charge.amount_cents)
        expense = Account.of(AccountKind.EXPENSE, b"bank")
        postings = (Posting(expense, amount_pico), Posting(bank, -amount_pico))
        entries.append(
            Entry(b"bank/" + charge.key, "bank charge", charge.key, postings, charge.booked)
        )
    return tuple(entries)


def _entry(judged: Judged, bank: Account, payouts_cents: Mapping[bytes, int]) -> Entry:
    movement = judged.movement
    if judged.verdict is Verdict.CREDIT:
        kind = "deposit"
        others = {Account.of(AccountKind.CUSTOMER, judged.account): movement.amount_cents}
    else:
        kind = "payout paid" if judged.verdict is Verdict.PAID else "payout returned"
        sign = -1 if judged.verdict is Verdict.PAID else 1
        missing = [one for one in judged.payouts if one not in payouts_cents]
        if missing:
            raise _bad("a payout that nobody knows", missing[0].hex())
        others = {payable_account(one): sign * payouts_cents[one] for one in judged.payouts}
    if sum(others.values()) != movement.amount_cents:
        raise _bad("the payouts do not make up what moved", movement.key.hex())
    postings = [Posting(bank, pico_of(movement.amount_cents))]
    postings += [Posting(account, -pico_of(cents)) for account, cents in others.items()]
    # Nothing here may differ from one export of the movement to another.
    key = b"bank/" + movement.key
    return Entry(key, kind, movement.key, tuple(postings), movement.booked)


def entry_of_order(payout: Payout, provider: bytes) -> Entry:
    """Return the entry that sets a payout aside before its file is written.

    The payout leaves its provider's balance (an account on the chain, 20 bytes) and is owed by
    the bank's way from then on.
    """
    amount_pico = pico_of(payout.amount_cents)
    owner = Account.of(AccountKind.PROVIDER, provider)
    postings = (
        Posting(owner, amount_pico),
        Posting(payable_account(payout.payout), -amount_pico),
    )
    end_to_end = end_to_end_of(payout.payout).encode()
    return Entry(b"payout/" + end_to_end, "payout", end_to_end, postings)


def entry_of_failure(payout: Payout, provider: bytes) -> Entry:
    """Return the entry that gives a payout back that was rejected or came back: once."""
    amount_pico = pico_of(payout.amount_cents)
    owner = Account.of(AccountKind.PROVIDER, provider)
    postings = (
        Posting(payable_account(payout.payout), amount_pico),
        Posting(owner, -amount_pico),
    )
    end_to_end = end_to_end_of(payout.payout).encode()
    return Entry(b"payout-failed/" + end_to_end, "payout failed", end_to_end, postings)


def _bad(message: str, about: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "book a bank statement", message, about=about)
