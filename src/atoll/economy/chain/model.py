"""Nouns of the chain: intents, their signed attempts, events, contracts, and the limits on them."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

EMBEDDED_CHAIN_ID: Final = 31_337
"""The chain of a single machine: the number that tools know as a local one."""
GAS_MAX: Final = 1 << 24
"""Most gas of one transaction (EIP-7825)."""
KEY_CHARACTERS_MAX: Final = 200
DATA_BYTES_MAX: Final = 128 << 10
"""Longest data of a transaction that nodes pass on (geth's limit of a transaction)."""


class IntentState(IntEnum):
    """Where an intent is on its way to the chain. Numbers are kept in the database."""

    WANTED = 0
    """Not signed yet."""
    SIGNED = 1
    """Signed and durable; sent, perhaps."""
    MINED = 2
    """Stands in a block that may still be replaced."""
    FINAL = 3
    """Stands under enough blocks."""
    FAILED = 4
    """As ``FINAL``, but the contract undid it."""
    REFUSED = 5
    """Never signed: the contract would undo it, or it is too large."""


ENDED: Final = frozenset({IntentState.FINAL, IntentState.FAILED, IntentState.REFUSED})


@dataclass(frozen=True, slots=True)
class Intent:
    """Something that is to happen on the chain once, whatever dies on the way.

    ``key`` names it: wanting the same key again does nothing. An empty ``to`` makes a contract.
    """

    key: str
    sender: bytes
    to: bytes
    data: bytes
    value_wei: int = 0
    gas: int = 0
    """Gas limit; 0: the chain is asked."""


@dataclass(frozen=True, slots=True)
class IntentStatus:
    """How an intent stands."""

    serial: int
    intent: Intent
    state: IntentState
    nonce: int
    """-1 until it is signed."""
    transaction: bytes
    """Hash of the attempt in a block, else of the newest attempt; empty before the first."""
    block_number: int
    """-1 while it is in none."""
    block_hash: bytes
    succeeded: bool
    gas_used: int
    contract: bytes
    """Address of the contract that it made; empty where it made none."""
    problem: str
    """What keeps it from going on, in words; empty for nothing."""
    created_ms: int
    missing_block: int = -1
    """Length of the chain when its nonce was first seen used by something else."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed transaction of an intent."""

    hash: bytes
    serial: int
    nonce: int
    raw: bytes
    fee_wei_max: int
    tip_wei: int
    signed_ms: int
    sent_ms: int
    """0: not since it was signed, or since the chain lost it."""


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """What a contract said, once its block is under enough others.

    ``transaction``, ``address`` and ``ordinal`` name it for good: after a reorganisation, or on an
    embedded chain that lost its memory, the same event comes in another block and is not told
    twice; unless its content is another one, which makes it new, with a new serial.
    """

    serial: int
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    transaction: bytes
    ordinal: int
    """Counts from 0 what this contract said in this transaction."""
    block_number: int
    block_hash: bytes
    retracted: bool = False
    """Told once, and lost by the chain since."""


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract of ours on a chain."""

    name: str
    address: bytes
    code_hash: bytes
    """Keccak-256 of the code, immutables included."""
    source_sha256: str
    """As in its artifact."""
    transaction: bytes
    block_number: int


@dataclass(frozen=True, slots=True)
class ChainProfile:
    """How one kind of chain is treated. Times in milliseconds, fees in wei per unit of gas."""

    confirmations: int
    """Blocks that must hold a transaction, its own included, until it counts."""
    fee_wei_max: int
    """Above this nothing is signed."""
    fee_wei_floor: int
    """Least fee limit that is signed; only what the block asks is paid."""
    resend_ms: int
    """After this a transaction that is in no block is sent again."""
    bump_ms: int
    """After this its fee is raised."""
    refuse_ms: int
    """What a contract would undo for so long is given up; its time may only be about to come."""


EMBEDDED: Final = ChainProfile(
    confirmations=1,  # one producer: it replaces nothing by itself
    fee_wei_max=1_000_000_000_000,
    fee_wei_floor=20_000_000_000,
    resend_ms=3_000,
    bump_ms=30_000,
    refuse_ms=60_000,
)
PUBLIC: Final = ChainProfile(
    confirmations=12,
    fee_wei_max=200_000_000_000,
    fee_wei_floor=0,
    resend_ms=20_000,
    bump_ms=60_000,
    refuse_ms=3_600_000,
)
