"""What a customer is told about his own lines, sealed to his key, in what everybody may read."""

from collections.abc import Iterable, Mapping

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.sealed import open_sealed, seal_for
from atoll.economy.settlement.document import DETAILS_PURPOSE, corrupt, pseudonym, seal_seed
from atoll.economy.settlement.lines import LineAmounts
from atoll.economy.settlement.wire import decode_rows, encode_rows


class DetailLine(msgspec.Struct, frozen=True, array_like=True):
    """One line, as it concerns its customer."""

    node: bytes
    evidence: bytes
    charge_pico: int
    refund_pico: int


class Details(msgspec.Struct, frozen=True, array_like=True):
    """Which of an epoch's lines are whose."""

    epoch: int
    payer: bytes
    """The customer's true id."""
    pseudonym: bytes
    """His name in the document."""
    lines: list[DetailLine]


def seal_details(
    epoch: int,
    lines: Iterable[LineAmounts],
    names: Mapping[bytes, bytes],
    keys: Mapping[bytes, bytes],
    secret: bytes,
) -> list[bytes]:
    """Return a box for each customer whose key is known.

    ``lines`` are those with pseudonyms, ``names`` says who each is, ``keys`` has the Ed25519 key
    of each customer by his id, ``secret`` is the one the pseudonyms were made with.
    """
    by_payer: dict[bytes, list[DetailLine]] = {}
    for line in lines:
        detail = DetailLine(line.node, line.evidence, line.charge_pico, line.refund_pico)
        by_payer.setdefault(line.payer, []).append(detail)
    boxes = []
    for name, found in by_payer.items():
        payer = names[name]
        key = keys.get(payer)
        if key is None:
            continue
        details = Details(epoch, payer, pseudonym(secret, epoch, payer), found)
        body = encode_rows([details])
        boxes.append(seal_for(key, DETAILS_PURPOSE, body, seal_seed(secret, payer, body)))
    return boxes


def find_details(boxes: Iterable[bytes], seed: bytes) -> Details | None:
    """Return the details that are for this Ed25519 seed; None where none are.

    Every box is tried: 0.1 ms each. Raises ``CORRUPT`` for a box that opens and is no details.
    """
    for box in boxes:
        try:
            body = open_sealed(seed, DETAILS_PURPOSE, box)
        except AtollError as error:
            if error.kind is not Kind.CORRUPT:
                raise
            continue
        found = decode_rows(body, Details)
        if len(found) != 1:
            raise corrupt("a box holds one customer's details")
        return found[0]
    return None
