"""The reference a customer puts on a transfer: RF creditor reference (ISO 11649), from his account.

``RF`` + two check digits + 16 characters of base 32 (digits and capitals without I, L, O, U): the
first 80 bits of SHA-256 over a domain and the account id. One account has one reference for life,
known to whoever knows the id; it does not tell the id. Whoever credits by it looks it up among the
accounts there are, and refuses a second account of the same reference. The check digits find
every wrong digit and every wrong letter; a letter for a digit passes one time in 97, and is then
nobody's.
"""

import hashlib
import re
from collections.abc import Sequence

from atoll.core.errors import AtollError, Kind
from atoll.economy.payments.accounts import check_digits, remainder_97

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BODY_CHARACTERS = 16
REFERENCE_CHARACTERS = 4 + BODY_CHARACTERS
RF_CHARACTERS_MAX = 25
"""Of any creditor reference (ISO 11649)."""
SEARCHED_CHARACTERS_MAX = 10_000
"""More text than a transfer can carry is not searched."""

_DOMAIN = b"atoll/payment-reference/1"
_RF = re.compile(r"^RF\d{2}[A-Z0-9]{1,21}$", re.ASCII)
_OURS = re.compile(rf"(?=(RF\d{{2}}[A-Z0-9]{{{BODY_CHARACTERS}}}))", re.ASCII)
_MISREAD = str.maketrans("ILOU", "110V")


def reference_of(account: bytes) -> str:
    """Return the reference of a customer's account (16 bytes), without spaces."""
    if not account:
        raise ValueError("nobody has no reference")
    digest = hashlib.sha256(_DOMAIN + account).digest()
    number = int.from_bytes(digest[: BODY_CHARACTERS * 5 // 8], "big")
    shifts = range(5 * (BODY_CHARACTERS - 1), -1, -5)
    body = "".join(ALPHABET[number >> shift & 31] for shift in shifts)
    return f"RF{check_digits('RF', body)}{body}"


def is_reference(text: str) -> bool:
    """Tell whether this is any right creditor reference, without spaces, in capitals."""
    return bool(_RF.match(text)) and remainder_97(text[4:] + text[:4]) == 1


def parse_reference(text: str) -> str:
    """Read any creditor reference, as typed; return it without spaces.

    In one as long as ours, letters that our alphabet avoids are read as the digits they resemble
    where that makes the check digits right. Raises ``BAD_REQUEST`` for wrong check digits.
    """
    plain = re.sub(r"[\s.-]", "", text[:100]).upper()
    candidates = [plain]
    if len(plain) == REFERENCE_CHARACTERS:
        # First as ours: with a letter for a digit it may be right by accident, one time in 97.
        candidates.insert(0, plain[:4] + plain[4:].translate(_MISREAD))
    for one in candidates:
        if is_reference(one):
            return one
    raise AtollError(
        Kind.BAD_REQUEST,
        "read a payment reference",
        "this is no right creditor reference",
        hint="it starts with RF; copy it from the invoice or scan the code there",
    )


def show_reference(reference: str) -> str:
    """Write a reference in groups of four."""
    return " ".join(reference[at : at + 4] for at in range(0, len(reference), 4))


def references_in(lines: Sequence[str]) -> tuple[str, ...]:
    """Return our kind of references in free text, each once, in order.

    Banks break and rejoin such text at any place, and people add spaces, dots and words: so
    everything but letters and digits is left out, and the check digits decide.
    """
    text = re.sub(r"[^A-Z0-9]", "", "".join(lines)[:SEARCHED_CHARACTERS_MAX].upper())
    found = []
    for match in _OURS.finditer(text):
        one = match[1][:4] + match[1][4:].translate(_MISREAD)
        if is_reference(one):
            found.append(one)
    return tuple(dict.fromkeys(found))
