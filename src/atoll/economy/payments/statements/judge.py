"""Decides what becomes of each movement of a statement. Pure: whoever acts keeps the keys."""

from collections.abc import Mapping
from dataclasses import dataclass

from atoll.economy.payments.accounts import show_iban
from atoll.economy.payments.reference import references_in
from atoll.economy.payments.statements.model import (
    AUTOMATIC,
    EURO,
    Charge,
    Judged,
    Movement,
    Statement,
    StatementFile,
    Verdict,
)

_NO_PAYOUT = frozenset({"", "NOTPROVIDED"})


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known beforehand."""

    iban: str
    """Our account: statements of others are held."""
    customers: Mapping[str, bytes]
    """By reference, without spaces."""
    payouts: Mapping[str, tuple[bytes, int]]
    """Payments by end-to-end id: the payout and its cents."""
    batches: Mapping[str, tuple[tuple[bytes, int], ...]]
    """Those of each payout file, by its payment information's id."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A whole file, judged."""

    movements: tuple[Judged, ...]
    charges: tuple[Charge, ...]
    """What the bank kept of entries whose transfers count whole: the operator bears it."""

    @property
    def charges_cents(self) -> int:
        """What the bank kept in all."""
        return sum(one.amount_cents for one in self.charges)

    @property
    def for_people(self) -> tuple[Judged, ...]:
        """What a person must look at."""
        return tuple(one for one in self.movements if one.verdict not in AUTOMATIC)

    @property
    def credited_cents(self) -> int:
        """What customers are credited in all."""
        return sum(
            one.movement.amount_cents for one in self.movements if one.verdict is Verdict.CREDIT
        )


def judge(file: StatementFile, expected: Expected) -> Judgement:
    """Judge every movement of a file, in its order."""
    seen: dict[bytes, int] = {}  # in which statement each key was met first
    charges: dict[bytes, Charge] = {}
    judged = []
    for number, statement in enumerate(file.statements):
        problem = _problem(statement, expected)
        for movement in statement.movements:
            first = movement.key not in seen
            if not first and seen[movement.key] != number:
                note = "it stands in an earlier statement of this file"
                judged.append(Judged(movement, Verdict.REPEATED, note=note))
            elif not first:
                # One statement lists each entry once: two transfers under one reference?
                note = "an equal entry with the same reference of the bank stands beside it"
                judged.append(Judged(movement, Verdict.HELD, note=note))
            elif problem:
                judged.append(Judged(movement, Verdict.HELD, note=problem))
            else:
                judged.append(judge_movement(movement, expected))
            if not problem:
                seen.setdefault(movement.key, number)
        if not problem:
            charges |= {one.key: one for one in statement.charges}
    return Judgement(tuple(judged), tuple(charges.values()))


def _problem(statement: Statement, expected: Expected) -> str:
    if statement.iban != expected.iban:
        return f"it is of the account {show_iban(statement.iban)}, not of ours"
    return statement.problem


def judge_movement(movement: Movement, expected: Expected) -> Judged:
    """Judge one movement of a statement that is believed."""
    if movement.problem:
        return Judged(movement, Verdict.HELD, note=movement.problem)
    if movement.currency != EURO:
        return Judged(movement, Verdict.FOREIGN, note=f"not in euros: {movement.stated}")
    if movement.amount_cents > 0:
        return _incoming(movement, expected)
    if movement.amount_cents < 0:
        return _outgoing(movement, expected)
    return Judged(movement, Verdict.HELD, note="it moves nothing")


def _incoming(movement: Movement, expected: Expected) -> Judged:
    payout = expected.payouts.get(movement.end_to_end)
    came_back = movement.reversal or movement.return_reason
    if payout is not None and came_back:
        if payout[1] != movement.amount_cents:
            note = f"a payout of {payout[1]} cents came back as {movement.amount_cents}"
            return Judged(movement, Verdict.HELD, payouts=(payout[0],), note=note)
        reason = movement.return_reason or "reversed"
        return Judged(movement, Verdict.RETURNED, payouts=(payout[0],), note=reason)
    if came_back:
        return Judged(movement, Verdict.HELD, note="something came back that is no payout of ours")
    accounts, named = customers_of(movement, expected.customers)
    if len(accounts) == 1:
        return Judged(movement, Verdict.CREDIT, account=accounts[0])
    if accounts:
        return Judged(movement, Verdict.AMBIGUOUS, note=f"it names {len(accounts)} customers")
    note = f"nobody has {', '.join(named[:3])}" if named else "it has no reference of ours"
    return Judged(movement, Verdict.UNKNOWN, note=note)


def _outgoing(movement: Movement, expected: Expected) -> Judged:
    accounts, _ = customers_of(movement, expected.customers)
    if movement.reversal or movement.return_reason:
        account = accounts[0] if len(accounts) == 1 else b""
        note = movement.return_reason or "reversed by the bank"
        return Judged(movement, Verdict.TAKEN_BACK, account=account, note=note)
    if movement.end_to_end not in _NO_PAYOUT:
        found = expected.payouts.get(movement.end_to_end)
        whole: tuple[tuple[bytes, int], ...] = (found,) if found is not None else ()
    else:
        whole = expected.batches.get(movement.payment_information, ())
    if not whole:
        return Judged(movement, Verdict.OTHER_DEBIT, note=f"to {movement.name or 'nobody named'}")
    payouts = tuple(payout for payout, _ in whole)
    sent = sum(cents for _, cents in whole)
    if sent != -movement.amount_cents:
        note = f"{-movement.amount_cents} cents left for payouts of {sent}"
        return Judged(movement, Verdict.HELD, payouts=payouts, note=note)
    return Judged(movement, Verdict.PAID, payouts=payouts)


def customers_of(
    movement: Movement, customers: Mapping[str, bytes]
) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Return the customers that a movement names, and all references that it holds.

    The structured reference decides where it is ours; free text is read where it is not. A right
    reference that nobody has does not make another one doubtful: a text may hold one by accident.
    """
    named: list[str] = []
    for lines in (movement.structured, movement.unstructured):
        references = [*references_in(lines)]
        named += references
        accounts = tuple(dict.fromkeys(customers[one] for one in references if one in customers))
        if accounts:
            return accounts, tuple(dict.fromkeys(named))
    return (), tuple(dict.fromkeys(named))
