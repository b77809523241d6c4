"""Signatures of EIP-712 for tests, made from the standard's text, not by a library for it."""

import re
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

_DOMAIN = keccak(
    text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_PERMIT = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"


def domain(name: str, version: str, chain_id: int, contract: str) -> bytes:
    """Domain separator."""
    return keccak(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [_DOMAIN, keccak(text=name), keccak(text=version), chain_id, contract],
        )
    )


def sign(key: Any, separator: bytes, kind: str, *values: Any) -> tuple[int, bytes, bytes]:
    """Signature (v, r, s) over a struct of static types, spelt as EIP-712 spells it."""
    types = re.findall(r"(\w+) \w+[,)]", kind)
    body = keccak(encode(["bytes32", *types], [keccak(text=kind), *values]))
    signature = key.sign_msg_hash(keccak(b"\x19\x01" + separator + body))
    return (
        signature.v + 27,
        signature.r.to_bytes(32, "big"),
        signature.s.to_bytes(32, "big"),
    )


def sign_permit(
    key: Any, separator: bytes, spender: str, value: int, nonce: int, deadline_s: int
) -> tuple[int, bytes, bytes]:
    """Signature (v, r, s) of the key's owner over an EIP-2612 permit."""
    owner = key.public_key.to_canonical_address()
    return sign(key, separator, _PERMIT, owner, spender, value, nonce, deadline_s)
