"""QR codes of transfers: the payload (EPC069-12, version 002), and the code as SVG and as text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atoll.core.errors import AtollError, Kind
from atoll.economy.payments.accounts import parse_bic, parse_iban
from atoll.economy.payments.amounts import CENTS_MAX, parse_cents, show_cents
from atoll.economy.payments.reference import is_reference

if TYPE_CHECKING:
    import segno

NAME_CHARACTERS_MAX = 70
TEXT_CHARACTERS_MAX = 140
PAYLOAD_BYTES_MAX = 331
QR_VERSION_MAX = 13
"""Of the code itself; error correction is level M (EPC069-12, 3.2)."""
QUIET_MODULES = 4
"""Free space around a code (ISO/IEC 18004)."""

_HEAD = ("BCD", "002", "1", "SCT")
"""Service tag, version, character set (1 is UTF-8), SEPA credit transfer."""
_LINES_MAX = 12
_HALVES = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
"""Two modules, one above the other, dark as the terminal and light as ink."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that a customer is asked for. Reference and text exclude each other."""

    name: str
    iban: str
    amount_cents: int | None = None
    """1 … ``CENTS_MAX``; None leaves it to the customer."""
    reference: str = ""
    text: str = ""
    bic: str = ""

    def check(self) -> None:
        """Raise ``BAD_REQUEST`` for what no such code can say."""
        if parse_iban(self.iban) != self.iban or parse_bic(self.bic) != self.bic:
            raise _bad("IBAN and BIC are written without spaces")
        if not 1 <= len(self.name.strip()) <= NAME_CHARACTERS_MAX:
            raise _bad(f"the payee's name has 1 to {NAME_CHARACTERS_MAX} characters")
        if self.amount_cents is not None and not 1 <= self.amount_cents <= CENTS_MAX:
            raise _bad(f"the amount is 0.01 to {show_cents(CENTS_MAX)} EUR")
        if self.reference and self.text:
            raise _bad("a transfer has a reference or a text, not both")
        if self.reference and not is_reference(self.reference):
            raise _bad("the reference is no right creditor reference")
        if len(self.text) > TEXT_CHARACTERS_MAX:
            raise _bad(f"the text has at most {TEXT_CHARACTERS_MAX} characters")
        if not all(one.isprintable() for one in (self.name, self.text)):
            raise _bad("a line break in a name or a text")


def payload_of(transfer: Transfer) -> str:
    """Return what the code says: lines with LF between them, none empty at the end."""
    transfer.check()
    amount = "" if transfer.amount_cents is None else f"EUR{show_cents(transfer.amount_cents)}"
    lines = [*_HEAD, transfer.bic, transfer.name, transfer.iban, amount, ""]
    lines += [transfer.reference, transfer.text]
    payload = "\n".join(lines).rstrip("\n")
    if len(payload.encode()) > PAYLOAD_BYTES_MAX:
        raise _bad(f"name and text take more than {PAYLOAD_BYTES_MAX} bytes with the rest")
    return payload


def parse_payload(payload: str) -> Transfer:
    """Read a payload of version 002 in UTF-8. Raises ``BAD_REQUEST``."""
    lines = payload[: 2 * PAYLOAD_BYTES_MAX].replace("\r\n", "\n").split("\n")
    if tuple(lines[:4]) != _HEAD or not 7 <= len(lines) <= _LINES_MAX:
        raise _bad("this is no SEPA transfer of version 002 in UTF-8")
    lines += [""] * (_LINES_MAX - len(lines))
    amount = None
    if lines[7]:
        if not lines[7].startswith("EUR"):
            raise _bad("the amount is not in euros")
        amount = parse_cents(lines[7][3:])
    transfer = Transfer(lines[5], lines[6], amount, lines[9], lines[10], lines[4])
    transfer.check()
    return transfer


def svg_of(payload: str, scale: int = 3) -> str:
    """Return a payload's code as an SVG element to stand in a page; ``scale`` is pixels a module.

    Raises ``NOT_IMPLEMENTED`` where the extra ``cashout`` is not installed.
    """
    return _code(payload).svg_inline(
        scale=scale, border=QUIET_MODULES, dark="#000", light="#fff", omitsize=False
    )


def text_of(payload: str) -> str:
    """Return a payload's code for a terminal of light letters on dark: two modules a character.

    Raises ``NOT_IMPLEMENTED`` where the extra ``cashout`` is not installed.
    """
    rows = [[bool(one) for one in row] for row in _code(payload).matrix_iter(border=QUIET_MODULES)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join(
        "".join(_HALVES[over, under] for over, under in zip(upper, lower, strict=True))
        for upper, lower in pairs
    )


def _code(payload: str) -> "segno.QRCode":
    try:
        import segno
    except ImportError:
        raise AtollError(
            Kind.NOT_IMPLEMENTED,
            "draw a QR code",
            "the library that draws codes is not installed",
            hint="pip install 'atoll[cashout]'; the transfer can be typed without it",
        ) from None
    code = segno.make_qr(payload, error="m", mode="byte", encoding="utf-8", boost_error=False)
    if int(code.version) > QR_VERSION_MAX:
        raise _bad("too much for a code that every bank's app reads")
    return code


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "write a transfer's code", message)
