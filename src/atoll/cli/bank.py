"""``atoll bank``: the operator takes over his bank's statements; customers are credited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from atoll.cli.euros import moment, show_one
from atoll.cli.operating import ask_own
from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, say, table
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.customers import (
    STATEMENT_BYTES_MAX,
    AssignMovement,
    CustomerFacts,
    CustomerList,
    ImportStatement,
    ListCustomers,
    MovementFacts,
    MovementTaken,
    StatementTaken,
)
from atoll.core.money import parse_euro

Answer = TypeVar("Answer", bound=Message)
ROWS_MAX = 50
"""Movements that are listed; with --json all."""
KEY_DIGITS = 12
ID_BYTES = 16
_data = data_option("The coordinator's or cloud's folder. Default: that of `atoll up`.")


@click.group()
def bank() -> None:
    """Take over statements of the operator's bank account: customers are credited by them."""


@bank.command("import")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE…",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)
@click.option("--dry-run", is_flag=True, help="Only say what would be credited.")
@_data
@json_option
def import_(files: tuple[Path, ...], dry_run: bool, data: Path | None, as_json: bool) -> None:
    """Take over statements (camt.053) from FILEs; every transfer is credited once.

    The same file again, or one that overlaps, credits nothing twice. What names no customer waits
    until you decide: `atoll bank accounts` lists it, `atoll bank assign` credits it.
    """
    for path in files:
        body = _read(path)
        taken = _ask(data, ImportStatement(data=body, dry_run=dry_run), StatementTaken)
        if as_json:
            emit({"file": str(path), **_taken_facts(taken)})
            continue
        if len(files) > 1:
            click.echo(paint(str(path), bold=True))
        click.echo("\n".join(taken_lines(taken)))
        if taken.waiting:
            say("to credit what waits: `atoll bank assign KEY CUSTOMER`; see `atoll bank accounts`")


@bank.command()
@_data
@json_option
def accounts(data: Path | None, as_json: bool) -> None:
    """List customers with reference and balance, and the transfers that wait for you."""
    customers: list[CustomerFacts] = []
    waiting: list[MovementFacts] = []
    after, more = b"", True
    while more:
        page = _ask(data, ListCustomers(after=after), CustomerList)
        customers += page.customers
        waiting = page.waiting
        more = page.more and bool(page.customers)
        after = customers[-1].account if customers else b""
    if as_json:
        emit(
            {
                "customers": [_customer_facts(one) for one in customers],
                "waiting": [_movement_facts(one) for one in waiting],
            }
        )
        return
    click.echo("\n".join(customer_lines(customers)))
    if waiting:
        click.echo("\n" + paint("waiting for you", bold=True))
        click.echo("\n".join(movement_lines(waiting)))
        say("credit one with `atoll bank assign KEY CUSTOMER`")


@bank.command()
@click.argument("key")
@click.argument("customer")
@_data
@json_option
def assign(key: str, customer: str, data: Path | None, as_json: bool) -> None:
    """Credit the transfer KEY, which named nobody, to CUSTOMER (his id or reference).

    Both as `atoll bank accounts` lists them; the first digits of KEY suffice.
    """
    from atoll.economy.payments.reference import parse_reference

    wanted = customer.strip()
    listed = _ask(data, ListCustomers(), CustomerList)
    keys = [one.key for one in listed.waiting if one.key.hex().startswith(key.lower())]
    if len(keys) != 1:
        raise AtollError(
            Kind.NOT_FOUND if not keys else Kind.BAD_REQUEST,
            "assign movement",
            f"{'no' if not keys else 'more than one'} transfer that waits begins with {key!r}",
            hint="`atoll bank accounts` lists them",
        )
    if wanted.upper().startswith("RF"):
        reference = parse_reference(wanted)
        account = _by_reference(data, reference)
    else:
        account = _id(wanted)
    taken = _ask(data, AssignMovement(key=keys[0], account=account), MovementTaken)
    if as_json:
        emit(_movement_facts(taken.movement))
    else:
        one = taken.movement
        click.echo(f"{show_one(parse_euro(one.amount_eur))} credited to {one.owner}")


def _by_reference(data: Path | None, reference: str) -> bytes:
    after, more = b"", True
    while more:
        page = _ask(data, ListCustomers(after=after), CustomerList)
        for one in page.customers:
            if one.reference == reference:
                return one.account
        more = page.more and bool(page.customers)
        after = page.customers[-1].account if page.customers else b""
    raise AtollError(Kind.NOT_FOUND, "assign movement", "no customer has this reference")


def _id(text: str) -> bytes:
    try:
        account = bytes.fromhex(text)
    except ValueError:
        account = b""
    if len(account) != ID_BYTES:
        raise AtollError(
            Kind.BAD_REQUEST,
            "assign movement",
            f"{text[:40]!r} is no customer",
            hint="name his reference (RF…) or his id, as `atoll bank accounts` lists them",
        )
    return account


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(STATEMENT_BYTES_MAX + 1)
    except OSError as cause:
        raise AtollError(
            Kind.BAD_REQUEST, "import a bank statement", f"{path}: {cause.strerror}"
        ) from cause
    if len(body) > STATEMENT_BYTES_MAX:
        raise AtollError(
            Kind.TOO_LARGE,
            "import a bank statement",
            f"{path} is larger than {STATEMENT_BYTES_MAX >> 20} MiB",
            hint="export a shorter time",
        )
    return body


def _ask(data: Path | None, request: Message, answer: type[Answer]) -> Answer:
    return ask_own(data, request, answer, "ask the coordinator")


# --- shown ----------------------------------------------------------------------------------------

_VERDICTS = {
    "credit": "credited",
    "unknown": "names nobody",
    "ambiguous": "names several",
    "foreign": "not in euro",
    "taken_back": "taken back",
    "paid": "payout paid",
    "returned": "payout came back",
    "other_debit": "paid out",
    "repeated": "repeated",
    "held": "held",
}
_GOOD = ("credit", "paid", "repeated", "other_debit")


def taken_lines(taken: StatementTaken) -> list[str]:
    """Return what became of a file, for reading."""
    lines = movement_lines(taken.movements[:ROWS_MAX])
    if len(taken.movements) > ROWS_MAX:
        lines.append(f"… and {len(taken.movements) - ROWS_MAX} more; --json lists all")
    credited, known = parse_euro(taken.credited_eur), parse_euro(taken.known_eur)
    word = "would be credited" if taken.dry_run else "credited"
    rows = [[word, paint(show_one(credited), bold=True)]]
    rows += [["credited before", show_one(known)]] * bool(known)
    charges = parse_euro(taken.charges_eur)
    rows += [["the bank kept", show_one(charges)]] * bool(charges)
    if taken.waiting:
        many = f"{taken.waiting} movement{'s' * (taken.waiting > 1)}"
        rows.append(["waiting for you", paint(many, fg="yellow")])
    return [*lines, "", *table(rows)] if lines else table(rows)


def movement_lines(movements: Sequence[MovementFacts]) -> list[str]:
    """Return movements for reading."""
    if not movements:
        return []
    head = ["key", "booked", "amount", "verdict", "customer", ""]
    rows = [[paint(name, bold=True) for name in head]]
    for one in movements:
        word = _VERDICTS.get(one.verdict, one.verdict)
        if one.verdict == "credit" and not one.new:
            word = "credited before"
        colour = None if one.verdict in _GOOD else "yellow"
        certain = "" if one.certain else "the bank gave it no reference"
        rows.append(
            [
                one.key.hex()[:KEY_DIGITS],
                one.booked,
                show_one(amount) if (amount := parse_euro(one.amount_eur)) else "—",
                paint(word, fg=colour) if colour else word,
                one.owner or one.account.hex()[:8],
                "; ".join(text for text in (one.note, certain) if text),
            ]
        )
    return table(rows, right=frozenset({2}))


def customer_lines(customers: Sequence[CustomerFacts]) -> list[str]:
    """Return customers for reading."""
    from atoll.economy.payments.reference import show_reference

    head = ["customer", "id", "reference", "balance", "standing"]
    rows = [[paint(name, bold=True) for name in head]]
    for one in customers:
        until = f" until {moment(one.until_ms)} UTC" if one.until_ms else ""
        standing = one.standing.replace("_", "-") + until
        if one.refused == "budget":
            standing += ", budget used up"
        rows.append(
            [
                one.owner,
                one.account.hex(),
                show_reference(one.reference),
                show_one(parse_euro(one.balance_eur)),
                standing if one.standing == "active" else paint(standing, fg="yellow"),
            ]
        )
    return table(rows, right=frozenset({3}))


def _movement_facts(one: MovementFacts) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(one, builtin_types=(bytes,))
    return {**facts, "key": one.key.hex(), "account": one.account.hex()}


def _customer_facts(one: CustomerFacts) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(one, builtin_types=(bytes,))
    return {**facts, "account": one.account.hex()}


def _taken_facts(taken: StatementTaken) -> dict[str, Any]:
    return {
        "statements": taken.statements,
        "credited_eur": taken.credited_eur,
        "known_eur": taken.known_eur,
        "charges_eur": taken.charges_eur,
        "waiting": taken.waiting,
        "dry_run": taken.dry_run,
        "movements": [_movement_facts(one) for one in taken.movements],
    }
