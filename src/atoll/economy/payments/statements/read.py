"""Reads camt.053 of versions 02, 08 and those between and after them, as banks write it.

What one entry gets wrong is that entry's ``problem``; the others are read. ISO 20022 message
definitions, EPC130-08 for how SEPA uses them.
"""

import hashlib
import re
from collections import Counter
from dataclasses import replace

from lxml import etree

from atoll.core.errors import AtollError, Kind
from atoll.economy.payments import xml
from atoll.economy.payments.amounts import parse_cents
from atoll.economy.payments.statements.model import (
    EURO,
    Charge,
    Movement,
    Statement,
    StatementFile,
)

OPERATION = "read a bank statement"
STATEMENTS_MAX = 1_000
MOVEMENTS_MAX = 100_000
"""Of one file."""

_DATE = re.compile(r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
_NO_REFERENCE = frozenset({"", "NONREF", "NOTPROVIDED", "NOREF", "UNKNOWN"})


def read_statements(data: bytes) -> StatementFile:
    """Read a file of one or more statements.

    Raises ``BAD_REQUEST`` and ``TOO_LARGE`` for a file that is none; entries that are wrong by
    themselves are kept with a ``problem``.
    """
    root = xml.read(data, OPERATION)
    message = xml.message_of(root)
    found = xml.all_at(root, "BkToCstmrStmt/Stmt")
    if not message.startswith("camt.053.") or not found:
        raise AtollError(
            Kind.BAD_REQUEST,
            OPERATION,
            f"this is no camt.053 with a statement{f', but {message}' if message else ''}",
            hint="ask the bank for account statements as camt.053 (ISO 20022 XML)",
        )
    entries = sum(len(xml.all_at(one, "Ntry")) for one in found)
    details = sum(len(xml.all_at(one, "Ntry/NtryDtls/TxDtls")) for one in found)
    if len(found) > STATEMENTS_MAX or max(entries, details) > MOVEMENTS_MAX:
        raise AtollError(
            Kind.TOO_LARGE,
            OPERATION,
            f"more than {STATEMENTS_MAX} statements or {MOVEMENTS_MAX} entries",
            hint="export a shorter time",
        )
    return StatementFile(message, tuple(_statement(one) for one in found))


def _statement(element: etree._Element) -> Statement:
    identification = xml.text_at(element, "Id")
    iban = re.sub(r"\s", "", xml.text_at(element, "Acct/Id/IBAN", "Acct/Id/Othr/Id")).upper()
    opening, closing, problem = _balances(element)
    keys = _Keys(iban)
    movements: list[Movement] = []
    charges: list[Charge] = []
    not_booked = 0
    total = 0
    for entry in xml.children(element, "Ntry"):
        status = xml.text_at(entry, "Sts/Cd", "Sts/Prtry", "Sts")
        if status != "BOOK":
            not_booked += 1
            continue
        some, charge = _entry(entry, identification, keys)
        movements += some
        charges += charge
        total += sum(one.amount_cents for one in some) - sum(one.amount_cents for one in charge)
    legible = not any(one.problem or one.currency != EURO for one in movements)
    if not problem and opening is not None and closing is not None and legible:
        missing = closing - opening - total
        if missing:
            problem = f"opening balance and entries miss the closing balance by {missing} cents"
    if not iban:
        problem = problem or "it does not say of which account it is"
    return Statement(
        identification,
        iban,
        xml.text_at(element, "Acct/Ccy"),
        xml.text_at(element, "ElctrncSeqNb", "LglSeqNb"),
        opening,
        closing,
        tuple(movements),
        tuple(charges),
        not_booked,
        problem,
    )


def _balances(element: etree._Element) -> tuple[int | None, int | None, str]:
    """Return the opening and closing booked balances in cents, and what is wrong with them."""
    found: dict[str, int] = {}
    for balance in xml.children(element, "Bal"):
        kind = xml.text_at(balance, "Tp/CdOrPrtry/Cd")
        try:
            amount, currency = _amount(balance)
            sign = _sign(balance)
        except AtollError as error:
            return None, None, f"a balance is illegible: {error.message}"
        if currency == EURO:
            # Several pages of one statement: the first opening and the last closing count.
            if kind in ("OPBD", "PRCD"):
                found.setdefault("opening", sign * amount)
            elif kind == "CLBD":
                found["closing"] = sign * amount
    return found.get("opening"), found.get("closing"), ""


def _amount(element: etree._Element, path: str = "Amt") -> tuple[int, str]:
    found = xml.all_at(element, path)
    if len(found) != 1:
        raise _bad("it has not one amount")
    currency = found[0].get("Ccy") or ""
    if len(found[0]):
        raise _bad("its amount is not one number")
    text = found[0].text or ""
    if currency != EURO:
        return 0, currency[:3] or "?"
    return parse_cents(text), EURO


def _sign(element: etree._Element) -> int:
    indicator = xml.text_at(element, "CdtDbtInd")
    if indicator not in ("CRDT", "DBIT"):
        raise _bad("it does not say whether money came or went")
    return 1 if indicator == "CRDT" else -1


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, OPERATION, message)


class _Keys:
    """Makes the keys of one statement's movements.

    With a reference of the bank's, an entry listed again is the same movement, and only within
    it the first, second, … of equal content are different ones. Without a reference, that holds
    within the statement.
    """

    def __init__(self, iban: str) -> None:
        self._iban = iban
        self._statement: Counter[tuple[str, ...]] = Counter()
        self._entry: Counter[tuple[str, ...]] = Counter()
        self._reference = ""

    def begin(self, entry: etree._Element) -> None:
        """Go on to an entry."""
        self._entry = Counter()
        references = (
            *xml.texts_at(entry, "AcctSvcrRef"),
            *xml.texts_at(entry, "NtryDtls/TxDtls/Refs/AcctSvcrRef"),
        )
        known = [one for one in references if one.upper().strip("0") not in _NO_REFERENCE]
        self._reference = known[0] if known else ""

    @property
    def certain(self) -> bool:
        """Whether the entry has a reference of the bank's."""
        return bool(self._reference)

    def of(self, *content: str) -> bytes:
        """Return the key of a movement of the entry begun last."""
        seen = self._entry if self._reference else self._statement
        place = seen[content]
        seen[content] += 1
        parts = [one.encode() for one in (self._iban, self._reference, str(place), *content)]
        body = b"".join(len(one).to_bytes(4, "big") + one for one in parts)
        return hashlib.sha256(b"atoll/bank-movement/1" + body).digest()


def _entry(
    entry: etree._Element, statement: str, keys: _Keys
) -> tuple[list[Movement], list[Charge]]:
    """Return an entry's movements and charges; they sum to what the entry says, or it is held."""
    booked = xml.text_at(entry, "BookgDt/Dt", "BookgDt/DtTm")[:10]
    keys.begin(entry)
    details = xml.all_at(entry, "NtryDtls/TxDtls")
    try:
        amount, currency = _amount(entry)
        signed = _sign(entry) * amount
        if not _DATE.match(booked):
            raise _bad("it has no booking date")
        if currency != EURO or len(details) <= 1:
            one = details[0] if details else None
            movement = _movement(entry, one, (signed, currency), statement, keys)
            return [_countable(entry, movement)], []
        amounts = [_detail_amount(one, 1 if signed >= 0 else -1) for one in details]
        kept = sum(amounts) - signed
        if kept and kept not in (_charges([entry]), _charges(details)):
            raise _bad(f"its transfers miss its amount by {kept} cents")
    except AtollError as error:
        return [_movement(entry, None, (0, EURO), statement, keys, error.message)], []
    movements = [
        _movement(entry, one, (money, EURO), statement, keys)
        for one, money in zip(details, amounts, strict=True)
    ]
    if not kept:
        return movements, []
    return movements, [Charge(keys.of("charge", booked, str(kept)), kept, booked, statement)]


def _countable(entry: etree._Element, movement: Movement) -> Movement:
    """Hold an entry that sums up transfers without listing them, unless it is one payout file."""
    number = xml.text_at(entry, "NtryDtls/Btch/NbOfTxs")
    listed = len(xml.all_at(entry, "NtryDtls/TxDtls"))
    if number.isdecimal() and len(number) < 10 and int(number) > max(1, listed):
        if movement.amount_cents < 0 and movement.payment_information:
            return movement
        problem = f"it sums up {number} transfers and does not list them"
        return replace(movement, problem=problem)
    return movement


def _detail_amount(detail: etree._Element, sign: int) -> int:
    """Return one transfer's amount in an entry of several; the versions have it in two places."""
    for path in ("Amt", "AmtDtls/TxAmt/Amt", "AmtDtls/InstdAmt/Amt"):
        if xml.all_at(detail, path):
            amount, currency = _amount(detail, path)
            if currency != EURO:
                continue
            return amount * (_sign(detail) if xml.all_at(detail, "CdtDbtInd") else sign)
    raise _bad("one of its transfers has no amount in euros")


def _charges(elements: list[etree._Element]) -> int:
    """Return the charges that an entry, or its transfers, state; in cents."""
    total = 0
    for one in elements:
        if xml.all_at(one, "Chrgs/TtlChrgsAndTaxAmt"):
            total += _amount(one, "Chrgs/TtlChrgsAndTaxAmt")[0]
            continue
        for charge in (*xml.all_at(one, "Chrgs/Rcrd"), *xml.all_at(one, "Chrgs")):
            if xml.all_at(charge, "Amt"):
                total += _amount(charge)[0]
    return total


def _movement(
    entry: etree._Element,
    detail: etree._Element | None,
    money: tuple[int, str],
    statement: str,
    keys: _Keys,
    problem: str = "",
) -> Movement:
    amount, currency = money
    booked = xml.text_at(entry, "BookgDt/Dt", "BookgDt/DtTm")[:10]
    source = entry if detail is None else detail
    own = xml.text_at(source, "Refs/AcctSvcrRef")
    end_to_end = xml.text_at(source, "Refs/EndToEndId")
    iban, name = _other_side(source, amount)
    structured = xml.texts_at(source, "RmtInf/Strd/CdtrRefInf/Ref")
    unstructured = xml.texts_at(source, "RmtInf/Ustrd")
    stated = ""
    if problem or currency != EURO:
        written = [f"{one.text or ''} {one.get('Ccy') or ''}" for one in xml.all_at(entry, "Amt")]
        stated = " ".join((*written, xml.text_at(entry, "CdtDbtInd")))[:60]
    # Texts without what one export breaks and another joins.
    text = re.sub(r"[^A-Z0-9]", "", "".join((*structured, *unstructured)).upper())
    transaction = xml.text_at(source, "Refs/TxId")
    # Names and texts differ from one kind of export to another: only where nothing else is.
    more = () if keys.certain else (iban, text)
    key = keys.of(booked, str(amount), currency, stated, transaction, end_to_end, *more)
    return Movement(
        key=key,
        certain=keys.certain,
        statement=statement,
        booked=booked,
        amount_cents=amount,
        currency=currency,
        reversal=xml.text_at(entry, "RvslInd").lower() in ("true", "1"),
        return_reason=xml.text_at(source, "RtrInf/Rsn/Cd", "RtrInf/Rsn/Prtry"),
        name=name,
        iban=iban,
        end_to_end="" if end_to_end.upper() in _NO_REFERENCE else end_to_end,
        payment_information=xml.text_at(source, "Refs/PmtInfId")
        or xml.text_at(entry, "NtryDtls/Btch/PmtInfId"),
        bank_reference=own or xml.text_at(entry, "AcctSvcrRef"),
        structured=structured,
        unstructured=unstructured or xml.texts_at(entry, "AddtlNtryInf"),
        code=_code(source) or _code(entry),
        problem=problem,
        stated=stated,
    )


def _other_side(source: etree._Element, amount: int) -> tuple[str, str]:
    """Return IBAN and name of the other side; from version 08 on a party has a level more."""
    side = "Dbtr" if amount >= 0 else "Cdtr"
    iban = xml.text_at(source, f"RltdPties/{side}Acct/Id/IBAN")
    name = xml.text_at(source, f"RltdPties/{side}/Nm", f"RltdPties/{side}/Pty/Nm")
    return re.sub(r"\s", "", iban).upper(), name


def _code(source: etree._Element) -> str:
    paths = ("Domn/Cd", "Domn/Fmly/Cd", "Domn/Fmly/SubFmlyCd")
    parts = [xml.text_at(source, f"BkTxCd/{path}") for path in paths]
    return "/".join(one for one in parts if one)
