"""Receipts on the disk: one file for all that came in within a moment, in the order they came."""

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Disk
from atoll.node.receipts.model import KeptClaim

FOLDER = "receipts"
_DECODER = msgspec.msgpack.Decoder(list[KeptClaim])


def _name(number: int) -> str:
    return f"{FOLDER}/{number:012}"


def load(disk: Disk) -> dict[int, list[KeptClaim]]:
    """Return all that is kept, by number. What cannot be read is left lying and left out."""
    found = {}
    for name in disk.names(FOLDER):
        if not name.isdigit():
            continue
        try:
            found[int(name)] = _DECODER.decode(disk.read(f"{FOLDER}/{name}"))
        except (msgspec.MsgspecError, AtollError) as error:
            if isinstance(error, AtollError) and error.kind is not Kind.NOT_FOUND:
                raise
    return found


def save(disk: Disk, number: int, claims: list[KeptClaim]) -> None:
    """Make claims durable under a number."""
    disk.replace(_name(number), msgspec.msgpack.encode(claims))


def remove(disk: Disk, numbers: list[int]) -> None:
    """Let claims go that are settled."""
    for number in numbers:
        disk.remove(_name(number))
