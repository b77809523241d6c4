"""What verifiers sign with their keys of the chain, and how signatures are counted.

A statement is (kind, subject, epoch, stated), signed by EIP-712 in the domain of one court on one
chain (``SlashCourt``). A key that states two different things about one (kind, subject, epoch)
loses its bond: so whoever signs keeps what he stated, durably, before anybody hears it.

Everything here is bytes and Keccak-256; keys are in ``economy.chain.signer``. Normative:
``docs/spec/contracts.md``.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.economy.keccak import keccak_256

WORD_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
SIGNATURE_BYTES: Final = 65
"""r, s, v; v is 27 or 28."""
VERIFIERS_MAX: Final = 64
"""Keys that a court knows at most, so signatures of one statement."""
DOMAIN_NAME: Final = b"Atoll SlashCourt"
DOMAIN_VERSION: Final = b"1"
_ORDER_HALF: Final = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0
"""Half of the order of secp256k1: of two signatures that say the same, the lower s counts."""
_DOMAIN_TYPE: Final = keccak_256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_STATEMENT_TYPE: Final = keccak_256(
    b"Statement(uint256 kind,bytes32 subject,uint256 epoch,bytes32 stated)"
)


class StatementKind(IntEnum):
    """What a statement is about. The numbers are the contract's."""

    ROOT = 1
    """The root and the document of an epoch, for one attempt to propose it."""
    VERDICT = 2
    """What a node did, and what it costs it."""
    LEAF = 3
    """The leaf of one account."""


@dataclass(frozen=True, slots=True)
class Court:
    """Where signatures count: the court, on its chain. Both are part of every signature."""

    chain_id: int
    address: bytes
    """Of ``SlashCourt``, 20 bytes."""
    distributor: bytes
    """Of ``EpochDistributor``, 20 bytes."""


class Statement(msgspec.Struct, frozen=True, array_like=True):
    """What is signed."""

    kind: int
    subject: bytes
    """32 bytes."""
    epoch: int
    stated: bytes
    """32 bytes."""

    def check(self) -> None:
        """Raise ``BAD_REQUEST`` for what cannot be a statement."""
        words = (self.subject, self.stated)
        if any(len(word) != WORD_BYTES for word in words):
            raise _bad("subject and stated have 32 bytes")
        if not 0 < self.kind < 1 << 16 or not 0 <= self.epoch < 1 << 40:
            raise _bad("its kind or its epoch is out of range")


class RootStated(msgspec.Struct, frozen=True, array_like=True):
    """What a statement of kind ``ROOT`` stands for: its ``body``, in MessagePack."""

    epoch: int
    attempt: int
    """Number that the next proposal will have at the distributor; counted from 1."""
    root: bytes
    content: bytes
    """Content hash of the document."""


def root_statement(court: Court, stated: RootStated) -> Statement:
    """Return the statement over an epoch's root and document, as ``EpochDistributor`` makes it."""
    return Statement(
        kind=int(StatementKind.ROOT),
        subject=keccak_256(_address(court.distributor) + _number(stated.attempt)),
        epoch=stated.epoch,
        stated=keccak_256(_word(stated.root) + _word(stated.content)),
    )


def statement_digest(court: Court, statement: Statement) -> bytes:
    """Return the 32 bytes that a key signs for a statement (EIP-712), as ``digest_of`` does.

    Raises ``BAD_REQUEST`` for what cannot be a statement.
    """
    statement.check()
    domain = keccak_256(
        _DOMAIN_TYPE
        + keccak_256(DOMAIN_NAME)
        + keccak_256(DOMAIN_VERSION)
        + _number(court.chain_id)
        + _address(court.address)
    )
    body = keccak_256(
        _STATEMENT_TYPE
        + _number(statement.kind)
        + statement.subject
        + _number(statement.epoch)
        + statement.stated
    )
    return keccak_256(b"\x19\x01" + domain + body)


def statement_key(statement: Statement) -> bytes:
    """Return the name that the distributor keeps fraudulent statements under."""
    return keccak_256(
        _number(statement.kind) + statement.subject + _number(statement.epoch) + statement.stated
    )


def quorum_of(verifiers: int) -> int:
    """Return how many signatures are two thirds of so many verifiers; one at least."""
    return max(1, -(-2 * verifiers // 3))


def split_signature(signature: bytes) -> tuple[int, int, int]:
    """Return v, r and s as the contracts take them. Raises ``BAD_REQUEST`` for what is none."""
    if len(signature) != SIGNATURE_BYTES:
        raise _bad(f"a signature has {SIGNATURE_BYTES} bytes")
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:64], "big")
    v = signature[64]
    if v not in (27, 28) or not r or not 0 < s <= _ORDER_HALF:
        raise _bad("the signature is not in its one form")
    return v, r, s


def _number(value: int) -> bytes:
    return value.to_bytes(WORD_BYTES, "big")


def _address(address: bytes) -> bytes:
    if len(address) != ADDRESS_BYTES:
        raise _bad("an address has 20 bytes")
    return address.rjust(WORD_BYTES, b"\0")


def _word(word: bytes) -> bytes:
    if len(word) != WORD_BYTES:
        raise _bad("a hash has 32 bytes")
    return word


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "read statement", message)
