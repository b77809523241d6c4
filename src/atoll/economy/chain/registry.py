"""A node's entry in ``NodeRegistry``: what its node and its owner's account sign.

Bytes, Keccak-256 and SHA-256 only; accounts' keys are in ``signer``. Normative:
``docs/spec/contracts.md``.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from atoll.core.identity import Identity
from atoll.core.proofs.signed import Signed, check_signed, encode_statement, sign_statement
from atoll.economy.keccak import keccak_256

DESCRIPTION_PURPOSE: Final = b"node-description/1"
_WORD: Final = 32
_DOMAIN_TYPE: Final = keccak_256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_REGISTER_TYPE: Final = keccak_256(
    b"Register(bytes32 node_id,address owner,address payout,bytes32 uri_hash,uint256 nonce,"
    b"uint256 deadline)"
)


class NodeDescription(msgspec.Struct, frozen=True, array_like=True):
    """What a node says of itself, by its own key: which owner's entry is meant."""

    node_key: bytes
    owner: bytes
    chain_id: int
    registry: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """What an owner signs to have its node entered."""

    chain_id: int
    registry: bytes
    node_id: bytes
    owner: bytes
    payout: bytes
    description_hash: bytes
    nonce: int
    deadline_s: int

    def digest(self) -> bytes:
        """Return the 32 bytes that the owner's key signs (EIP-712)."""
        domain = keccak_256(
            _DOMAIN_TYPE
            + keccak_256(b"Atoll NodeRegistry")
            + keccak_256(b"1")
            + _number(self.chain_id)
            + _address(self.registry)
        )
        body = keccak_256(
            _REGISTER_TYPE
            + self.node_id
            + _address(self.owner)
            + _address(self.payout)
            + self.description_hash
            + _number(self.nonce)
            + _number(self.deadline_s)
        )
        return keccak_256(b"\x19\x01" + domain + body)


def describe(identity: Identity, owner: bytes, chain_id: int, registry: bytes) -> bytes:
    """Return a node's signed description."""
    said = NodeDescription(identity.public_key, owner, chain_id, registry)
    return encode_statement(sign_statement(identity, DESCRIPTION_PURPOSE, encode_statement(said)))


def read_description(signed: Signed) -> NodeDescription:
    """Return what a node said. Raises ``UNAUTHENTICATED``, ``CORRUPT``."""
    said = check_signed(signed, DESCRIPTION_PURPOSE, NodeDescription)
    return check_signed(signed, DESCRIPTION_PURPOSE, NodeDescription, said.node_key)


def description_hash(description: bytes) -> bytes:
    """Return the hash by which an entry names a description."""
    return hashlib.sha256(description).digest()


def _number(value: int) -> bytes:
    return value.to_bytes(_WORD, "big")


def _address(address: bytes) -> bytes:
    return address.rjust(_WORD, b"\0")
