"""What a JSON-RPC server answers, read strictly: nothing in it is believed to have any shape.

Formats: Ethereum JSON-RPC (execution-apis): quantities are ``0x`` and hex digits without leading
zeros, data is ``0x`` and two digits per byte. Everything else raises ``CORRUPT``.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ChainBlock, ChainCall, ChainLog, ChainReceipt

WORD_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
DATA_BYTES_MAX: Final = 4 << 20
"""Longest data field that is read."""
TOPICS_MAX: Final = 4
LOGS_MAX: Final = 20_000
"""Logs of one answer; a range with more is to be asked for in parts."""
REASON_CHARACTERS_MAX: Final = 200
_ERROR_STRING: Final = bytes.fromhex("08c379a0")
_PANIC: Final = bytes.fromhex("4e487b71")


def wrong(what: str) -> AtollError:
    """Return the error for an answer that cannot be one."""
    return AtollError(
        Kind.CORRUPT,
        "ask chain",
        f"the chain's server answers nonsense: {what}",
        hint="name another server in chain.url",
    )


def quantity(value: Any, bits: int = 256) -> int:
    """Read a whole number below 2**bits. Raises ``CORRUPT``."""
    if not isinstance(value, str) or not value.startswith("0x") or not 3 <= len(value) <= 66:
        raise wrong("no number where one belongs")
    try:
        number = int(value, 16) if value.isascii() and value[2:].isalnum() else -1
    except ValueError:
        number = -1
    if not 0 <= number < 1 << bits:
        raise wrong("a number out of its range")
    return number


def data(value: Any, length: int | None = None) -> bytes:
    """Read bytes, of a given length if one is given. Raises ``CORRUPT``."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise wrong("no bytes where some belong")
    if len(value) > 2 + 2 * DATA_BYTES_MAX:
        raise wrong("more bytes than anything has")
    try:
        # ``fromhex`` skips blanks, which have no place here.
        found = bytes.fromhex(value[2:]) if value[2:].isalnum() or value == "0x" else None
    except ValueError:
        found = None
    if found is None or (length is not None and len(found) != length):
        raise wrong("bytes of another length")
    return found


def fields(value: Any, what: str) -> Mapping[str, Any]:
    """Read an object. Raises ``CORRUPT``."""
    if not isinstance(value, dict):
        raise wrong(f"no {what}")
    return value


def block(value: Any) -> ChainBlock:
    """Read a block's header. Raises ``CORRUPT``."""
    found = fields(value, "block")
    return ChainBlock(
        number=quantity(found.get("number"), 63),
        hash=data(found.get("hash"), WORD_BYTES),
        parent=data(found.get("parentHash"), WORD_BYTES),
        time_s=quantity(found.get("timestamp"), 63),
    )


def log(value: Any) -> ChainLog:
    """Read a log that stands in a block. Raises ``CORRUPT``."""
    found = fields(value, "log")
    topics = found.get("topics")
    if not isinstance(topics, list) or len(topics) > TOPICS_MAX or found.get("removed") is True:
        raise wrong("a log without its topics, or one that was removed")
    return ChainLog(
        address=data(found.get("address"), ADDRESS_BYTES),
        topics=tuple(data(topic, WORD_BYTES) for topic in topics),
        data=data(found.get("data")),
        block_number=quantity(found.get("blockNumber"), 63),
        block_hash=data(found.get("blockHash"), WORD_BYTES),
        transaction=data(found.get("transactionHash"), WORD_BYTES),
        index=quantity(found.get("logIndex"), 31),
    )


def logs(value: Any) -> list[ChainLog]:
    """Read logs in the order of their blocks. Raises ``CORRUPT``, ``TOO_LARGE``."""
    if not isinstance(value, list):
        raise wrong("no list of logs")
    if len(value) > LOGS_MAX:
        raise AtollError(Kind.TOO_LARGE, "ask chain", f"more than {LOGS_MAX} logs at once")
    found = [log(entry) for entry in value]
    places = [(entry.block_number, entry.index) for entry in found]
    if any(after <= before for before, after in pairwise(places)):
        raise wrong("logs out of order")
    return found


def receipt(value: Any, transaction: bytes) -> ChainReceipt | None:
    """Read the receipt of a transaction; None while it is in no block. Raises ``CORRUPT``."""
    if value is None:
        return None
    found = fields(value, "receipt")
    if found.get("blockHash") is None:
        return None
    if data(found.get("transactionHash"), WORD_BYTES) != transaction:
        raise wrong("the receipt of another transaction")
    status = quantity(found.get("status"), 8)
    if status not in (0, 1):
        raise wrong("a receipt that says neither yes nor no")
    contract = found.get("contractAddress")
    number, block_hash = quantity(found.get("blockNumber"), 63), data(found.get("blockHash"), 32)
    said = logs(found.get("logs"))
    if any((entry.transaction, entry.block_hash) != (transaction, block_hash) for entry in said):
        raise wrong("a receipt with another transaction's logs")
    return ChainReceipt(
        transaction=transaction,
        block_number=number,
        block_hash=block_hash,
        succeeded=status == 1,
        gas_used=quantity(found.get("gasUsed"), 63),
        contract=b"" if contract is None else data(contract, ADDRESS_BYTES),
        logs=tuple(said),
    )


def sent(value: Any, transaction: bytes) -> ChainCall | None:
    """Read what a transaction asked; None while it is in no block. Raises ``CORRUPT``."""
    if value is None:
        return None
    found = fields(value, "transaction")
    if found.get("blockHash") is None:
        return None
    if data(found.get("hash"), WORD_BYTES) != transaction:
        raise wrong("another transaction")
    to = found.get("to")
    return ChainCall(
        to=b"" if to is None else data(to, ADDRESS_BYTES),
        data=data(found.get("input")),
        sender=data(found.get("from"), ADDRESS_BYTES),
        value_wei=quantity(found.get("value")),
    )


def revert_reason(answer: bytes) -> str:
    """Return in words what a contract said when it reverted (Solidity ABI: Error, Panic)."""
    selector, rest = answer[:4], answer[4:]
    if selector == _ERROR_STRING and len(rest) >= 2 * WORD_BYTES:
        length = int.from_bytes(rest[WORD_BYTES : 2 * WORD_BYTES], "big")
        text = rest[2 * WORD_BYTES : 2 * WORD_BYTES + min(length, REASON_CHARACTERS_MAX)]
        return "".join(c if c.isprintable() else "?" for c in text.decode("utf-8", "replace"))
    if selector == _PANIC and len(rest) == WORD_BYTES:
        return f"panic {int.from_bytes(rest, 'big'):#x}"
    return f"error {selector.hex()}" if selector else "no reason given"


def hex_quantity(number: int) -> str:
    """Write a number as JSON-RPC wants it."""
    return hex(number)


def hex_data(content: bytes) -> str:
    """Write bytes as JSON-RPC wants them."""
    return "0x" + content.hex()


def check_logs(
    found: Sequence[ChainLog], first: int, last: int, addresses: Sequence[bytes]
) -> None:
    """Raise ``CORRUPT`` where logs are not those that were asked for."""
    wanted = frozenset(addresses)
    for entry in found:
        if not first <= entry.block_number <= last or entry.address not in wanted:
            raise wrong("logs that nobody asked for")
