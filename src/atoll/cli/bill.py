"""``atoll bill``: costs of this month so far and projected, how long the balance lasts."""

from datetime import datetime
from typing import Any

import click
import msgspec

from atoll.cli.euros import bar, decimals_for, moment, show, show_one
from atoll.cli.output import emit, paint, say, table
from atoll.cli.s3 import Door, door_options
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.customers import Bill, BillingAddress, BillLine, CustomerNotice
from atoll.core.money import PICO_PER_EUR, parse_euro
from atoll.core.units import show_bytes, show_seconds

SOON_MS = 14 * 86_400_000
"""A balance that lasts no longer is shown as a warning."""
NOTICES_SHOWN = 5
_NONE = ("none", "no")


@click.group(invoke_without_command=True)
@click.option("--month", default="", metavar="YYYY-MM", help="Another month than this one.")
@door_options
@click.pass_context
def bill(context: click.Context, /, month: str, as_json: bool, **door: object) -> None:
    """Show this month's costs to date and projected, by bucket; balance, budget, alerts.

    Costs follow from what your data takes on nodes, times time, as far as nodes prove that they
    keep it; what they do not prove is given back. To pay in: `atoll invoice pay`.
    """
    if context.invoked_subcommand is not None:
        return
    found = ask(door, "bill", {"month": month})
    show_bill(found, as_json=as_json)


@bill.command()
@click.argument("amount", required=False, metavar="EUR|none")
@click.option("--warn-only", is_flag=True, help="Only tell at 100 %; uploads go on.")
@door_options
def budget(amount: str | None, warn_only: bool, as_json: bool, **door: object) -> None:
    """Set a month's budget in euro, or none. You are told at 75 and at 100 %.

    At 100 % uploads are refused until the next month, or until it is raised; what is stored
    stays, is charged and can be read. Without an amount: show it.
    """
    if amount is None:
        found = ask(door, "bill", {})
    else:
        text = "" if amount.lower() in _NONE else _euros(amount)
        found = ask(door, "bill-budget", {"budget_eur": text, "stops": not warn_only})
    if as_json:
        emit(_budget_facts(found))
        return
    click.echo("\n".join(_budget_lines(found)) or "no budget is set")
    if not found.budget_eur:
        say("set one with `atoll bill budget EUR`")


@bill.command()
@click.option("--name", help="Name of a person or company.")
@click.option("--line", "lines", multiple=True, help="A line of the postal address; repeat.")
@click.option("--vat-number", help="VAT identification number.")
@door_options
def address(
    name: str | None,
    lines: tuple[str, ...],
    vat_number: str | None,
    as_json: bool,
    **door: object,
) -> None:
    """Show or set to whom invoices are written. What is not given stays as it is."""
    place = Door(**door)  # type: ignore[arg-type]
    answer = place.run(lambda client: client.ask("bill-address", {}))
    known = msgspec.convert(answer["address"], BillingAddress)
    if name is not None or lines or vat_number is not None:
        wanted = BillingAddress(
            known.name if name is None else name,
            list(lines) or known.address,
            known.vat_number if vat_number is None else vat_number,
        )
        body = msgspec.to_builtins(wanted)
        answer = place.run(lambda client: client.ask("bill-address-set", body))
        known = msgspec.convert(answer["address"], BillingAddress)
    if as_json:
        emit(msgspec.to_builtins(known))
        return
    shown = [known.name, *known.address]
    if known.vat_number:
        shown.append(f"VAT no. {known.vat_number}")
    if any(shown):
        click.echo("\n".join(one for one in shown if one))
    else:
        say("no address is set: invoices name the owner of the access key")


def ask(door: dict[str, object], operation: str, question: dict[str, object]) -> Bill:
    """Ask for a bill by one of the operations that answer with one."""
    answer = Door(**door).run(lambda client: client.ask(operation, question))  # type: ignore[arg-type]
    return msgspec.convert(answer, Bill, strict=False)


def _euros(text: str) -> str:
    try:
        amount = parse_euro(text)
    except AtollError as error:
        raise AtollError(Kind.BAD_REQUEST, "set budget", error.message, hint=error.hint) from error
    if amount < 0:
        raise AtollError(Kind.BAD_REQUEST, "set budget", "a budget is not below nothing")
    whole, rest = divmod(amount, PICO_PER_EUR)
    return f"{whole}.{rest:012}"


# --- shown ----------------------------------------------------------------------------------------


def show_bill(found: Bill, *, as_json: bool) -> None:
    """Show a bill and what to do next."""
    if as_json:
        emit(facts_of(found))
        return
    click.echo("\n".join(lines_of(found)))
    for line in next_steps(found):
        say(line)


def facts_of(found: Bill) -> dict[str, Any]:
    """Return a bill as JSON has it."""
    facts: dict[str, Any] = msgspec.to_builtins(found)
    facts.pop("type", None)
    facts["budget_percent"] = budget_percent(found)
    return facts


def budget_percent(found: Bill) -> int | None:
    """Return how much of the budget is used; None without one."""
    if not found.budget_eur:
        return None
    budget_pico = parse_euro(found.budget_eur)
    return parse_euro(found.to_date_eur) * 100 // budget_pico if budget_pico else 100


def _budget_facts(found: Bill) -> dict[str, Any]:
    return {
        "month": found.month,
        "budget_eur": found.budget_eur,
        "stops": found.budget_stops,
        "to_date_eur": found.to_date_eur,
        "projected_eur": found.projected_eur,
        "percent": budget_percent(found),
        "refused": found.refused,
    }


def lines_of(found: Bill) -> list[str]:
    """Return a bill for reading."""
    title = datetime.strptime(found.month, "%Y-%m").strftime("%B %Y")  # noqa: DTZ007 - a month
    lines = [
        f"{paint(title, bold=True)}  {paint(f'as of {moment(found.time_ms)} UTC', dim=True)}",
        "",
    ]
    if found.lines:
        lines += [*bucket_table(found), ""]
    rows = [
        ["to date", _amount(found.to_date_eur)],
        ["projected", f"{_amount(found.projected_eur)} for the whole month"],
        ["balance", _amount(found.balance_eur) + _running(found)],
    ]
    if parse_euro(found.reserved_eur):
        rows.append(["reserved", f"{_amount(found.reserved_eur)} for locked data"])
    rows.append(["lasts", _lasts(found)])
    if parse_euro(found.unfunded_eur):
        rows.append(["not covered", f"{_amount(found.unfunded_eur)} used while nothing was left"])
    lines += table(rows)
    lines += _budget_lines(found)
    lines += _warnings(found)
    if found.notices:
        lines += ["", *_notices(found.notices[:NOTICES_SHOWN])]
    if found.time_factor > 1:
        lines += [
            "",
            f"A demonstration: a second costs as much as {show_seconds(found.time_factor)}.",
        ]
    return lines


def bucket_table(found: Bill) -> list[str]:
    """Return the part by bucket, with the sum below."""
    columns = ("storage_eur", "egress_eur", "returned_eur", "to_date_eur", "rate_eur")
    amounts = [[parse_euro(getattr(one, name)) for name in columns] for one in found.lines]
    # A month's rate may be far from what a few days cost: it has decimals of its own.
    ordinary = decimals_for(value for row in amounts for value in row[:-1])
    decimals = [*[ordinary] * (len(columns) - 1), decimals_for(row[-1] for row in amounts)]
    head = ["bucket", "pieces now", "storage", "reading", "given back", "to date", "a month"]
    rows = [[paint(name, bold=True) for name in head]]
    for one, row in zip(found.lines, amounts, strict=True):
        rows.append([_name(one), show_bytes(one.bytes_now), *map(_cell, row, decimals)])
    if len(found.lines) > 1:
        sums = [sum(row[at] for row in amounts) for at in range(len(columns))]
        total = show_bytes(sum(one.bytes_now for one in found.lines))
        rows.append([paint(one, bold=True) for one in ("all", total, *map(_cell, sums, decimals))])
    return table(rows, right=frozenset(range(1, len(head))))


def _name(one: BillLine) -> str:
    return one.bucket or "(all buckets)"


def _cell(amount_pico: int, decimals: int) -> str:
    return show(amount_pico, decimals) if amount_pico else "—"


def _amount(text: str) -> str:
    return show_one(parse_euro(text))


def _running(found: Bill) -> str:
    running = parse_euro(found.running_eur)
    return f", of which {show_one(running)} is used and not settled yet" if running else ""


def _lasts(found: Bill) -> str:
    if not found.charged:
        return "this cloud charges nothing"
    if not found.empty_ms:
        nothing = not parse_euro(found.rate_eur)
        return "nothing is stored that would use it up" if nothing else "more than ten years"
    left_ms = found.empty_ms - found.time_ms
    if left_ms <= 0:
        return paint("nothing is left", fg="red")
    text = f"until {moment(found.empty_ms)} UTC, {show_seconds(left_ms // 1000)} from now"
    return paint(text, fg="yellow") if left_ms < SOON_MS and found.time_factor == 1 else text


def _budget_lines(found: Bill) -> list[str]:
    percent = budget_percent(found)
    if percent is None:
        return []
    budget = parse_euro(found.budget_eur)
    used, projected = parse_euro(found.to_date_eur), parse_euro(found.projected_eur)
    effect = "uploads stop at 100 %" if found.budget_stops else "you are told at 100 %"
    lines = [f"budget     {bar(used, budget)}  {percent} % of {show_one(budget)}; {effect}"]
    if used < budget < projected:
        lines.append(
            paint(
                f"           it will be exceeded: {show_one(projected)} are projected", fg="yellow"
            )
        )
    return lines


_SAID = {
    "notice": (
        "Nothing is left of your balance. Everything still works.",
        "Uploads are refused{until}, unless you pay in.",
    ),
    "read_only": (
        "Uploads are refused: nothing is left. What is stored can be read and removed.",
        "Its deletion is announced{until}, unless you pay in.",
    ),
    "grace": (
        "Uploads are refused: nothing is left.",
        "What is stored and not locked is deleted{until}, unless you pay in or fetch it.",
    ),
    "deletion": (
        "What is stored and not locked is being deleted: nothing was paid in.",
        "Paying in stops it at once. Locked data stays until its locks end.",
    ),
}
"""What the standings mean to a customer."""


def _warnings(found: Bill) -> list[str]:
    lines = []
    if found.refused == "budget":
        lines.append("Uploads are refused: the budget is used up. What is stored can be read.")
    if found.standing == "read_only" and not found.standing_until_ms:
        lines.append("Nothing is prepaid, so nothing can be stored yet.")
    else:
        until = f" from {moment(found.standing_until_ms)} UTC on"
        lines += [one.format(until=until) for one in _SAID.get(found.standing, ())]
    return [paint(one, fg="red") for one in ["", *lines]] if lines else []


_WORDS = {
    "budget_75": "three quarters of the budget of {about} were used",
    "budget_100": "the budget of {about} was used up",
    "notice": "the balance was used up",
    "read_only": "uploads are refused since then",
    "grace": "deletion was announced",
    "deletion": "deletion of what is not locked began",
    "active": "paid: {about} on the balance, everything works again",
}


def _notices(notices: list[CustomerNotice]) -> list[str]:
    rows = []
    for one in notices:
        words = _WORDS.get(one.kind, one.kind).format(about=one.about)
        rows.append([paint(moment(one.time_ms), dim=True), words])
    return table(rows)


def next_steps(found: Bill) -> list[str]:
    """Return what one may want to do now."""
    if not found.charged:
        return ["prices: `atoll price`"]
    lines = []
    soon = found.empty_ms and found.empty_ms - found.time_ms < SOON_MS and found.time_factor == 1
    if found.standing != "active" or soon:
        lines.append("pay in: `atoll invoice pay --amount EUR` shows account, reference and a code")
    if found.refused == "budget":
        lines.append("raise the budget: `atoll bill budget EUR`")
    elif not found.budget_eur:
        lines.append("be told before it gets dear: `atoll bill budget EUR`")
    if found.standing in ("grace", "deletion"):
        lines.append("fetch what you need: `atoll cp --recursive s3://BUCKET/ FOLDER`")
    return lines
