"""Writes pain.001 of versions 03 and 09: the file with which a bank is told to pay (EPC132-08).

All ids come from what is ordered: the same order gives the same ids, so that a bank that has seen
it refuses it as a duplicate, and statements name the payouts by ids that can be computed again.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import cast

from lxml import etree

from atoll.core.errors import AtollError, Kind
from atoll.economy.payments.accounts import BankAccount
from atoll.economy.payments.amounts import CENTS_MAX, show_cents
from atoll.economy.payments.payouts.model import PAYOUT_BYTES_MAX, PAYOUTS_MAX, Payout, PayoutFile
from atoll.economy.payments.reference import ALPHABET

VERSIONS = ("pain.001.001.09", "pain.001.001.03")
"""The newer first: it is what banks ask for since November 2025; some still take the older."""
NAME_CHARACTERS_MAX = 70
TEXT_CHARACTERS_MAX = 140
ID_CHARACTERS = 32
"""Of 35 allowed: a letter and 155 bits."""

_ALLOWED = re.compile(r"[^A-Za-z0-9/?:().,'+ -]")
_SPELLED = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "Ø": "O", "ø": "o",
     "Ł": "L", "ł": "l", "Đ": "D", "đ": "d", "Þ": "TH", "þ": "th", "ð": "d", "Ð": "D", "ı": "i",
     "’": "'", "–": "-", "—": "-", "€": "EUR", "&": "+", "_": "-"}
    | {one: f"{bare}e" for one, bare in zip("ÄÖÜäöü", "AOUaou", strict=True)}
)  # fmt: skip


def latin(text: str, characters_max: int) -> str:
    """Return a text in the characters that every SEPA bank takes (EPC217-08), cut to a length.

    Letters lose their accents or are spelled out; what has no likeness becomes a dot.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", text).translate(_SPELLED))
    bare = "".join(one for one in plain if not unicodedata.combining(one))
    cleaned = " ".join(_ALLOWED.sub(".", " ".join(bare.split())).split())
    # A text must not begin or end with a slash, nor hold two.
    return re.sub(r"/{2,}", "/", cleaned).strip("/ ")[:characters_max].rstrip("/ ")


def end_to_end_of(payout: bytes) -> str:
    """Return the id that goes with a payout from end to end, 32 characters: always the same."""
    return _id("P", payout)


def message_id_of(order: PayoutFile) -> str:
    """Return the message's id: by debtor, day and payments, not by when it was written."""
    return _id("M", *_content(order))


def batch_id_of(order: PayoutFile) -> str:
    """Return the id of the payments' batch, which statements may name (``PmtInfId``)."""
    return _id("B", *_content(order))


def _content(order: PayoutFile) -> list[bytes]:
    content = [order.debtor.iban.encode(), order.execution_date.encode()]
    for one in order.payouts:
        content += [one.payout, one.to.iban.encode(), str(one.amount_cents).encode()]
    return content


def _id(letter: str, *parts: bytes) -> str:
    body = b"".join(len(one).to_bytes(4, "big") + one for one in parts)
    digest = hashlib.sha256(b"atoll/payout/1" + letter.encode() + body).digest()
    number = int.from_bytes(digest, "big")
    return letter + "".join(ALPHABET[number >> 5 * at & 31] for at in range(ID_CHARACTERS - 1))


def check(order: PayoutFile) -> None:
    """Raise ``BAD_REQUEST`` for an order that no bank should see."""
    if not 1 <= len(order.payouts) <= PAYOUTS_MAX:
        raise _bad(f"a file holds 1 to {PAYOUTS_MAX} payouts")
    if len({one.payout for one in order.payouts}) != len(order.payouts):
        raise _bad("a payout stands in the file twice")
    try:
        if date.fromisoformat(order.execution_date).isoformat() != order.execution_date:
            raise ValueError
    except ValueError:
        raise _bad("the day of execution is written 2026-11-20") from None
    _check_name(order.debtor)
    for one in order.payouts:
        if not 1 <= len(one.payout) <= PAYOUT_BYTES_MAX:
            raise _bad(f"a payout is known by 1 to {PAYOUT_BYTES_MAX} bytes")
        if not 1 <= one.amount_cents <= CENTS_MAX:
            raise _bad(f"a payout is 0.01 to {show_cents(CENTS_MAX)} EUR")
        if one.to.iban == order.debtor.iban:
            raise _bad("a payout goes to the account that it comes from")
        if len(one.text) > TEXT_CHARACTERS_MAX:
            raise _bad(f"a payout's text has at most {TEXT_CHARACTERS_MAX} characters")
        _check_name(one.to)


def _check_name(account: BankAccount) -> None:
    if not re.search(r"[A-Za-z0-9]", latin(account.name, NAME_CHARACTERS_MAX)):
        raise AtollError(
            Kind.BAD_REQUEST,
            "write a payout file",
            "nothing of the account holder's name can be written in Latin letters",
            hint="give the name as the bank has it in Latin letters",
        )


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "write a payout file", message)


def control_sum_cents(payouts: Sequence[Payout]) -> int:
    """Return what a file orders in all."""
    return sum(one.amount_cents for one in payouts)


def write(order: PayoutFile, version: str = VERSIONS[0]) -> bytes:
    """Return the file: UTF-8 XML, the same bytes for the same order.

    Raises ``BAD_REQUEST`` for an order that ``check`` refuses, ``NOT_IMPLEMENTED`` for a version
    that is not in ``VERSIONS``.
    """
    if version not in VERSIONS:
        raise AtollError(
            Kind.NOT_IMPLEMENTED,
            "write a payout file",
            f"{version!r} is not written",
            hint=f"there are {' and '.join(VERSIONS)}",
        )
    check(order)
    namespace = f"urn:iso:std:iso:20022:tech:xsd:{version}"
    # None is the default namespace, which the stubs of lxml do not know.
    root = etree.Element(f"{{{namespace}}}Document", nsmap=cast(dict[str, str], {None: namespace}))
    body = _Writer(root, namespace).inside("CstmrCdtTrfInitn")
    created = datetime.fromtimestamp(order.created_ms // 1000, UTC)
    number, total = str(len(order.payouts)), show_cents(control_sum_cents(order.payouts))
    header = body.inside("GrpHdr")
    header.text("MsgId", message_id_of(order))
    header.text("CreDtTm", created.strftime("%Y-%m-%dT%H:%M:%S"))
    header.text("NbOfTxs", number)
    header.text("CtrlSum", total)
    header.text("InitgPty/Nm", latin(order.debtor.name, NAME_CHARACTERS_MAX))
    batch = body.inside("PmtInf")
    batch.text("PmtInfId", batch_id_of(order))
    batch.text("PmtMtd", "TRF")
    # One entry a payment on the statement: then each is reconciled by itself.
    batch.text("BtchBookg", "false")
    batch.text("NbOfTxs", number)
    batch.text("CtrlSum", total)
    batch.text("PmtTpInf/SvcLvl/Cd", "SEPA")
    batch.text("ReqdExctnDt" if version == VERSIONS[1] else "ReqdExctnDt/Dt", order.execution_date)
    bic = "BIC" if version == VERSIONS[1] else "BICFI"
    batch.text("Dbtr/Nm", latin(order.debtor.name, NAME_CHARACTERS_MAX))
    batch.text("DbtrAcct/Id/IBAN", order.debtor.iban)
    if order.debtor.bic:
        batch.text(f"DbtrAgt/FinInstnId/{bic}", order.debtor.bic)
    else:
        batch.text("DbtrAgt/FinInstnId/Othr/Id", "NOTPROVIDED")
    batch.text("ChrgBr", "SLEV")
    for one in order.payouts:
        _payment(batch.inside("CdtTrfTxInf"), one, bic)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def _payment(payment: "_Writer", one: Payout, bic: str) -> None:
    payment.text("PmtId/EndToEndId", end_to_end_of(one.payout))
    payment.text("Amt/InstdAmt", show_cents(one.amount_cents)).set("Ccy", "EUR")
    if one.to.bic:
        payment.text(f"CdtrAgt/FinInstnId/{bic}", one.to.bic)
    payment.text("Cdtr/Nm", latin(one.to.name, NAME_CHARACTERS_MAX))
    payment.text("CdtrAcct/Id/IBAN", one.to.iban)
    text = latin(one.text, TEXT_CHARACTERS_MAX)
    if text:
        payment.text("RmtInf/Ustrd", text)


class _Writer:
    """Appends elements of one namespace."""

    def __init__(self, element: etree._Element, namespace: str) -> None:
        self._element = element
        self._namespace = namespace

    def inside(self, name: str) -> "_Writer":
        """Append an element and return a writer of its inside."""
        found = etree.SubElement(self._element, f"{{{self._namespace}}}{name}")
        return _Writer(found, self._namespace)

    def text(self, path: str, text: str) -> etree._Element:
        """Append elements one in the other and the text in the last."""
        element = self._element
        for name in path.split("/"):
            element = etree.SubElement(element, f"{{{self._namespace}}}{name}")
        element.text = text
        return element
