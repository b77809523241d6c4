"""Permits of EIP-2612: an account lets exactly one amount go to one spender, by a signature.

The signer pays nothing and sends nothing; whoever is to get the amount brings the permit to the
token's contract. A nonce makes it good for once.
"""

from dataclasses import dataclass
from typing import Final

from atoll.core.messages.payouts import PayoutOrder
from atoll.economy.chain.signer import ADDRESS_BYTES
from atoll.economy.keccak import keccak_256

WORD_BYTES: Final = 32
PERMIT_BYTES: Final = 65
"""r, s and v."""
PERMIT_TYPE: Final = keccak_256(
    b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)


@dataclass(frozen=True, slots=True)
class Permit:
    """What an account lets go."""

    domain: bytes
    """The token's EIP-712 domain separator, 32 bytes: the chain and the contract are in it."""
    owner: bytes
    spender: bytes
    value: int
    """In units of the token."""
    nonce: int
    """The owner's, in the token's contract."""
    deadline_s: int
    """Seconds since 1970, by the chain's clock."""

    def digest(self) -> bytes:
        """Return what the owner signs. Raises ``ValueError`` for figures that cannot be."""
        if len(self.domain) != WORD_BYTES or not (
            len(self.owner) == len(self.spender) == ADDRESS_BYTES
        ):
            raise ValueError("a domain has 32 bytes, an account 20")
        words = [self.value, self.nonce, self.deadline_s]
        if any(not 0 <= word < 1 << 256 for word in words):
            raise ValueError("a figure does not fit a word")
        body = PERMIT_TYPE + b"".join(
            account.rjust(WORD_BYTES, b"\0") for account in (self.owner, self.spender)
        )
        body += b"".join(word.to_bytes(WORD_BYTES, "big") for word in words)
        return keccak_256(b"\x19\x01" + self.domain + keccak_256(body))


def permit_of(order: PayoutOrder) -> Permit:
    """Return what a node signs for a payout, and its coordinator brings to the stablecoin."""
    return Permit(
        domain=order.domain,
        owner=order.account,
        spender=order.spender,
        value=order.amount_micro,
        nonce=order.nonce,
        deadline_s=order.deadline_s,
    )


def parts_of(permit: bytes) -> tuple[int, bytes, bytes]:
    """Return v, r and s as a contract takes them."""
    return permit[64], permit[:32], permit[32:64]
