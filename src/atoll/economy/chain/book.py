"""The address book: which contract of ours stands where on a chain, and whether it still does."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain
from atoll.economy.artifacts.load import Artifact, load, names
from atoll.economy.chain.model import Contract
from atoll.economy.chain.signer import checksum_address, parse_address
from atoll.economy.keccak import keccak_256
from atoll.economy.sql import Statement

BOOK_FORMAT: Final = 1
BOOK_BYTES_MAX: Final = 1 << 20
_COLUMNS: Final = "name, address, code_hash, source_sha256, transaction_hash, block_number"
_ALL = Statement("SELECT {columns} FROM chain_contract WHERE chain_id = :chain", _COLUMNS)
_PUT = Statement(
    "INSERT INTO chain_contract (chain_id, {columns}) VALUES (:chain, :name, :address, :code_hash,"
    " :source, :hash, :number) ON CONFLICT (chain_id, name) DO UPDATE SET"
    " address = excluded.address, code_hash = excluded.code_hash,"
    " source_sha256 = excluded.source_sha256, transaction_hash = excluded.transaction_hash,"
    " block_number = excluded.block_number",
    _COLUMNS,
)


class _Entry(msgspec.Struct, frozen=True):
    """One contract in the file."""

    address: str
    code_hash: str
    source_sha256: str
    transaction: str
    block: int


class _Book(msgspec.Struct, frozen=True):
    """The file, by which others find our contracts."""

    chain_id: int
    contracts: dict[str, _Entry]
    format: int = BOOK_FORMAT


@dataclass(frozen=True, slots=True)
class Checked:
    """What a chain says about one contract of the book."""

    contract: Contract
    verdict: str
    """``as deployed``, ``absent`` (no code there), ``other code``."""
    current: bool
    """Whether it was built of the sources that this version ships."""


def contracts(connection: Connection, chain: int) -> dict[str, Contract]:
    """Return the contracts of a chain by name."""
    found = [_contract(row) for row in _ALL.all(connection, chain=chain)]
    return {contract.name: contract for contract in sorted(found, key=lambda c: c.name)}


def _contract(row: Any) -> Contract:
    return Contract(
        name=row[0],
        address=bytes(row[1]),
        code_hash=bytes(row[2]),
        source_sha256=row[3],
        transaction=bytes(row[4]),
        block_number=int(row[5]),
    )


def put_contract(connection: Connection, chain: int, contract: Contract) -> None:
    """Write a contract into the book."""
    _PUT.run(
        connection,
        chain=chain,
        name=contract.name,
        address=contract.address,
        code_hash=contract.code_hash,
        source=contract.source_sha256,
        hash=contract.transaction,
        number=contract.block_number,
    )


def write_book(chain: int, found: dict[str, Contract]) -> bytes:
    """Return the book as a file (JSON)."""
    entries = {
        name: _Entry(
            address=checksum_address(contract.address),
            code_hash=contract.code_hash.hex(),
            source_sha256=contract.source_sha256,
            transaction=contract.transaction.hex(),
            block=contract.block_number,
        )
        for name, contract in found.items()
    }
    return msgspec.json.format(msgspec.json.encode(_Book(chain, entries)), indent=1) + b"\n"


def read_book(content: bytes, chain: int) -> dict[str, Contract]:
    """Read a book's file. Raises ``CORRUPT``, ``NEWER_FORMAT``, ``CONFIG`` (another chain)."""
    try:
        if len(content) > BOOK_BYTES_MAX:
            raise ValueError("too long")
        book = msgspec.json.decode(content, type=_Book)
        found = {
            name: Contract(
                name=name,
                address=parse_address(entry.address),
                code_hash=bytes.fromhex(entry.code_hash),
                source_sha256=entry.source_sha256,
                transaction=bytes.fromhex(entry.transaction),
                block_number=entry.block,
            )
            for name, entry in book.contracts.items()
        }
    except (msgspec.MsgspecError, ValueError, AtollError) as cause:
        raise AtollError(
            Kind.CORRUPT, "read address book", f"this is no address book: {cause}"
        ) from cause
    if book.format > BOOK_FORMAT:
        raise AtollError(
            Kind.NEWER_FORMAT, "read address book", "a newer version wrote this address book"
        )
    if book.chain_id != chain:
        raise AtollError(
            Kind.CONFIG, "read address book", f"it is of chain {book.chain_id}, not of {chain}"
        )
    return found


async def check_contract(chain: Chain, contract: Contract) -> Checked:
    """Compare a contract of the book with the code on the chain and with what is shipped."""
    code = await chain.code(contract.address)
    verdict = "as deployed" if keccak_256(code) == contract.code_hash else "other code"
    if not code:
        verdict = "absent"
    current = False
    if contract.name in names():
        artifact: Artifact = load(contract.name)
        current = artifact.source_sha256 == contract.source_sha256
        if current and verdict == "as deployed" and not artifact.is_code_of(code):
            verdict = "other code"
    return Checked(contract, verdict, current)
