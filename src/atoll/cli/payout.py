"""``atoll payout``: how a provider is paid; and for the operator the files for his bank."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from atoll.cli.node.door import node_folder, node_options
from atoll.cli.operating import ask_own
from atoll.cli.options import data_option, json_option
from atoll.cli.output import emit, paint, say, table
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import NodeId, show_node
from atoll.core.messages.payouts import (
    FILE_BYTES_MAX,
    BankWordsTaken,
    GetPayoutFile,
    GetPayoutTerms,
    GiveBackPayout,
    ListPayouts,
    OpenPayouts,
    PayoutFacts,
    PayoutFileWritten,
    PayoutList,
    PayoutsOpened,
    PayoutTaken,
    PayoutTerms,
    SetPayout,
    TakeBankWords,
    WritePayoutFile,
)
from atoll.core.money import BPS

WAIT_S = 60
POLL_S = 1.0
FILE_MODE = 0o600
_coordinator = data_option("The coordinator's or cloud's folder. Default: that of `atoll up`.")
_WORDS = {
    "asked": "waits for the node",
    "signed": "on its way to the operator",
    "set_aside": "ready for the next file",
    "filed": "in a file for the bank",
    "failed": "not paid, goes back",
    "given_back": "not paid, given back",
    "dropped": "called off",
}
_BANK_WORDS = {
    "sent": "ordered",
    "accepted": "the bank took it",
    "paid": "paid",
    "rejected": "refused by the bank",
    "returned": "came back",
}


@click.group()
def payout() -> None:
    """Say how a node is paid; and as the operator pay all nodes by bank."""


# --- a provider ----------------------------------------------------------------------------------


@payout.command("set")
@click.argument("method", type=click.Choice(["euro", "credit", "mix"]))
@click.argument("share", required=False)
@node_options
@click.option("--iban", help="Bank account; asked for on a terminal, `-` reads it from there.")
@click.option("--name", help="Holder of the bank account, as the bank has it.")
@click.option("--bic", default="", help="Its BIC, where a bank asks for one.")
@click.option(
    "--access-key",
    help="Whose storage is paid: any S3 access key of that customer. Default: AWS_ACCESS_KEY_ID, "
    "else the local cloud's.",
)
@json_option
def set_(
    method: str,
    share: str | None,
    data: Path | None,
    number: int | None,
    iban: str | None,
    name: str | None,
    bic: str,
    access_key: str | None,
    as_json: bool,
) -> None:
    """Set how a node is paid: METHOD is euro, credit, or mix with a SHARE as 30%.

    euro: to a bank account. credit: everything pays for storage of your own, at par. mix: the SHARE
    pays for storage, the rest goes to the bank account. It holds from the next settlement on.
    """
    from atoll.cli.settling import PAYOUT_IBAN
    from atoll.economy.payments.accounts import parse_bic, parse_iban
    from atoll.runtime.folder import write_secret

    folder = node_folder(data, number)
    asked = iban is None and name is None and method != "credit"
    known = _ask(folder, GetPayoutTerms()) if asked else None
    if method != "credit" and (iban or name or not (known and known.bank)):
        iban = parse_iban(_given(iban, "Bank account (IBAN)"))
        name = _given(name, "Holder of the bank account")
    storage = method != "euro"
    request = SetPayout(
        method=method,
        credit_bps=share_bps(method, share),
        name=name or "",
        iban=iban or "",
        bic=parse_bic(bic),
        access_key=(access_key or _own_access_key(folder)) if storage else "",
    )
    terms = _ask(folder, request)
    if request.iban:
        # After the coordinator took it: the node lets nothing go to another account.
        write_secret(folder, PAYOUT_IBAN, request.iban.encode())
    _show(terms, as_json)


def share_bps(method: str, share: str | None) -> int:
    """Read a share: ``30%``, ``12.5 %``, ``30``. Raises ``BAD_REQUEST``."""
    if method != "mix":
        if share is not None:
            raise _bad(f"{method} has no share", "leave it out, or set `mix`")
        return 0
    if share is None:
        raise _bad("which share is to pay for storage?", "say it: `atoll payout set mix 30%`")
    text = share.strip().removesuffix("%").strip()
    whole, _, hundredths = text.partition(".")
    digits = whole + hundredths.ljust(2, "0")
    if not digits.isdigit() or len(hundredths) > 2 or not 0 < int(digits) < BPS:
        raise _bad(f"{share!r} is no share", "write 30%, above 0 and below 100, to a hundredth")
    return int(digits)


def _given(value: str | None, question: str) -> str:
    if value == "-" or (value is None and sys.stdin.isatty()):
        if value is None:
            return str(click.prompt(question, err=True)).strip()
        return sys.stdin.readline().strip()
    if value is None:
        raise _bad(f"{question} is missing", "give --iban and --name")
    return value


def _own_access_key(folder: Path) -> str:
    """Return the access key of the environment, else of the local cloud that a node belongs to."""
    from atoll.cli.places import ACCESS, AccessKey
    from atoll.runtime.folder import SECRETS, read_secret

    named = os.environ.get("AWS_ACCESS_KEY_ID", "")
    if named:
        return named
    cloud = folder.parent.parent
    if not (cloud / SECRETS / ACCESS).exists():
        return ""
    return msgspec.json.decode(read_secret(cloud, ACCESS), type=AccessKey).access_key


def _ask(folder: Path, request: SetPayout | GetPayoutTerms) -> PayoutTerms:
    from atoll.cli.node.ask import ask_as_node

    return asyncio.run(ask_as_node(folder, request, PayoutTerms))


@payout.command()
@node_options
@json_option
def show(data: Path | None, number: int | None, as_json: bool) -> None:
    """Show how a node is paid, and its payouts."""
    _show(_ask(node_folder(data, number), GetPayoutTerms()), as_json)


def _show(terms: PayoutTerms, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "method": terms.method,
                "credit_bps": terms.credit_bps,
                "bank": terms.bank,
                "customer": terms.customer.hex(),
                "problem": terms.problem,
                "payouts": [facts_of(one) for one in terms.payouts],
            }
        )
        return
    share = f"{terms.credit_bps / 100:g} % for {terms.customer.hex()}"
    rows = [
        ["paid by", terms.method],
        ["bank account", terms.bank or "none"],
        [
            "on own storage",
            share if terms.credit_bps else "nothing",
        ],
    ]
    click.echo("\n".join(table(rows)))
    if terms.problem:
        click.echo(paint(terms.problem, fg="yellow"))
    if terms.payouts:
        click.echo("\n" + "\n".join(_rows(terms.payouts, nodes=False)))


# --- the operator --------------------------------------------------------------------------------


@payout.command("list")
@_coordinator
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """List payouts of all nodes, the newest first (operator)."""
    found = ask_own(data, ListPayouts(), PayoutList, "list payouts")
    if as_json:
        for one in found.payouts:
            emit(facts_of(one))
        return
    if not found.payouts:
        say("nothing was paid out yet: `atoll payout file` pays everybody who is owed a cent")
        return
    click.echo("\n".join(_rows(found.payouts, nodes=True)))


@payout.command()
@_coordinator
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it.")
@click.option("--date", "day", default="", metavar="2026-11-20", help="Day of execution.")
@click.option("--version", default="", help="pain.001.001.09 (the usual) or pain.001.001.03.")
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, 86_400),
    default=WAIT_S,
    show_default=True,
    help="So many seconds for nodes to let their earnings go; the rest waits for the next file.",
)
@click.option("--again", type=click.IntRange(1), metavar="N", help="Write file N again, as it was.")
@json_option
def file(
    data: Path | None,
    out: Path | None,
    day: str,
    version: str,
    wait_s: int,
    again: int | None,
    as_json: bool,
) -> None:
    """Write a file with which your bank pays everybody who is owed a cent (operator; pain.001).

    Upload it at your bank as a SEPA credit transfer file. The same payout never stands in two
    files; a bank that has seen a file refuses it the second time.
    """
    operation = "write a payout file"
    if again is not None:
        made = ask_own(data, GetPayoutFile(number=again), PayoutFileWritten, operation)
    else:
        opened = _opened(data, wait_s)
        if opened.waiting:
            say(f"{opened.waiting} payouts are not here yet and wait for the next file")
        if opened.skipped:
            say(f"{opened.skipped} nodes are owed something and have named no bank account")
        if opened.not_arrived and not opened.ready:
            say(f"what {opened.not_arrived} nodes are owed is not settled yet: try again later")
        wanted = WritePayoutFile(execution_date=day, version=version)
        made = ask_own(data, wanted, PayoutFileWritten, operation)
    path = out or Path(f"payouts-{made.number}.xml")
    _keep(path, made.data)
    facts = {
        "file": str(path),
        "number": made.number,
        "payouts": made.payouts,
        "amount_cents": made.amount_cents,
        "execution_date": made.execution_date,
        "more": made.more,
    }
    if as_json:
        emit(facts)
        return
    click.echo(
        f"{path}: file {made.number}, {made.payouts} payouts, {cents(made.amount_cents)} EUR "
        f"on {made.execution_date}"
    )
    if made.more:
        say(f"{made.more} more are ready: write another file")
    say("then take over what the bank says: `atoll payout import FILE`")


def _opened(data: Path | None, wait_s: int) -> PayoutsOpened:
    """Ask for all payouts and wait until they are ready, or the time is over.

    Where nothing is there yet it is waited for what is on its way; else that goes next time.
    """
    until = time.monotonic() + wait_s
    found = _open_all(data)
    while time.monotonic() < until:
        if found.waiting:
            time.sleep(POLL_S)
            counted = OpenPayouts(count_only=True)
            now = ask_own(data, counted, PayoutsOpened, "open payouts")
            found = msgspec.structs.replace(now, skipped=found.skipped)
        elif found.not_arrived and not found.ready:
            time.sleep(POLL_S)
            found = _open_all(data)
        else:
            break
    return found


def _open_all(data: Path | None) -> PayoutsOpened:
    """Ask for the payouts of all nodes, page by page."""
    skipped = not_arrived = after = 0
    while True:
        found = ask_own(data, OpenPayouts(after=after), PayoutsOpened, "open payouts")
        skipped, not_arrived = skipped + found.skipped, not_arrived + found.not_arrived
        after = found.more_after
        if not after:
            return msgspec.structs.replace(found, skipped=skipped, not_arrived=not_arrived)


def _keep(path: Path, content: bytes) -> None:
    """Write a file for its owner alone; one with other content is not overwritten."""
    from atoll.runtime.folder import write_file

    if path.exists():
        if path.read_bytes() == content:
            return
        raise AtollError(
            Kind.CONFLICT,
            "write a payout file",
            f"{path} is there and holds something else",
            hint="name another place with --out; `--again N` gives the same file at any time",
        )
    write_file(path, content, mode=FILE_MODE)


@payout.command("import")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE…",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)
@_coordinator
@json_option
def import_(files: tuple[Path, ...], data: Path | None, as_json: bool) -> None:
    """Take over what the bank says of payouts (operator): pain.002 and camt.053.

    What it did not pay, or what came back, is the provider's again. The same file again does
    nothing. Customers' transfers on a statement: `atoll bank import`.
    """
    for path in files:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise AtollError(
                Kind.TOO_LARGE,
                "read what the bank says",
                f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB",
                hint="export a shorter time",
            )
        request = TakeBankWords(data=path.read_bytes())
        taken = ask_own(data, request, BankWordsTaken, "read what the bank says")
        if as_json:
            emit(
                {
                    "file": str(path),
                    "kind": taken.kind,
                    "words": taken.words,
                    "changed": [facts_of(one) for one in taken.changed],
                }
            )
            continue
        click.echo(f"{path}: {taken.kind}, {taken.words} words on payouts of ours")
        if taken.changed:
            click.echo("\n".join(_rows(taken.changed, nodes=True)))
        else:
            say("nothing new")


@payout.command("give-back")
@click.argument("identifier", metavar="PAYOUT")
@_coordinator
@json_option
def give_back(identifier: str, data: Path | None, as_json: bool) -> None:
    """Give PAYOUT back of which the bank said contradicting things (operator).

    Only what by the bank's statements did not leave your account, or came back. PAYOUT is its id as
    `atoll payout list --json` shows it.
    """
    try:
        payout_id = bytes.fromhex(identifier)
    except ValueError:
        raise AtollError(
            Kind.BAD_REQUEST,
            "give a payout back",
            f"{identifier[:40]!r} is no payout's id",
            hint="`atoll payout list --json` shows ids",
        ) from None
    taken = ask_own(data, GiveBackPayout(payout=payout_id), PayoutTaken, "give a payout back")
    if as_json:
        emit({"payout": identifier, "state": taken.state})
    else:
        click.echo(_WORDS.get(taken.state, taken.state))


# --- how it is told ------------------------------------------------------------------------------


def facts_of(one: PayoutFacts) -> dict[str, Any]:
    """Return a payout as JSON shows it."""
    return {
        "payout": one.payout.hex(),
        "node_id": one.node_id.hex(),
        "created_ms": one.created_ms,
        "amount_cents": one.amount_cents,
        "state": one.state,
        "bank_state": one.bank_state,
        "file": one.file,
        "reason": one.reason,
        "conflict": one.conflict,
    }


def cents(amount: int) -> str:
    """Write an amount of cents."""
    return f"{amount // 100:,}.{amount % 100:02}"


def _rows(payouts: Sequence[PayoutFacts], *, nodes: bool) -> list[str]:
    head = ["when", "EUR", "how it stands", "file", "remark"]
    rows = [[paint(name, bold=True) for name in (["node", *head] if nodes else head)]]
    for one in payouts:
        when = datetime.fromtimestamp(one.created_ms // 1000, UTC)
        words = _WORDS.get(one.state, one.state)
        if one.state == "filed":
            words = _BANK_WORDS.get(one.bank_state, one.bank_state)
        remark = one.conflict or one.reason
        row = [f"{when:%Y-%m-%d %H:%M}", cents(one.amount_cents), words]
        row += [str(one.file) if one.file else "", paint(remark, fg="yellow") if remark else ""]
        rows.append([show_node(NodeId(one.node_id)), *row] if nodes else row)
    return table(rows, right=frozenset({2 if nodes else 1}))


def _bad(message: str, hint: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "set payout", message, hint=hint)
