"""Keys of the chain (secp256k1) and what they sign (EIP-1559 transactions, EIP-155 chain ids).

Keys are derived from an identity's seed, one per role, so that nothing more has to be kept safe
than is kept already; a key of its own may be given instead. Signatures are deterministic
(RFC 6979): what is signed again has the same hash.
"""

from dataclasses import dataclass
from typing import Final

from atoll.core.crypto import expand_key
from atoll.core.errors import AtollError, Kind
from atoll.economy.keccak import keccak_256

KEY_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Order of the group of secp256k1 (SEC 2, version 2.0)."""
_WIDE_BYTES: Final = 48
"""128 bits more than the order has, so that the remainder is even (FIPS 186-5, A.2.1)."""
TRANSACTION_TYPE: Final = 2


def checksum_address(address: bytes) -> str:
    """Write an address with the mixed case that guards against typing errors (EIP-55)."""
    digits = address.hex()
    mask = keccak_256(digits.encode()).hex()
    return "0x" + "".join(
        c.upper() if int(m, 16) > 7 else c for c, m in zip(digits, mask, strict=False)
    )


def parse_address(text: str) -> bytes:
    """Read an address; mixed case must be right (EIP-55). Raises ``BAD_REQUEST``."""
    digits = text.removeprefix("0x")
    try:
        address = bytes.fromhex(digits) if digits.isalnum() else b""
    except ValueError:
        address = b""
    plain = digits in (digits.lower(), digits.upper())
    if len(address) != ADDRESS_BYTES or not (plain or checksum_address(address) == "0x" + digits):
        raise AtollError(
            Kind.BAD_REQUEST,
            "read address",
            f"{text[:64]!r} is no address of a chain, or is mistyped",
            hint="an address is 0x and 40 hexadecimal digits",
        )
    return address


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Return where a contract stands that ``sender`` makes with this nonce (Yellow Paper, 7)."""
    import rlp

    return keccak_256(rlp.encode([sender, nonce]))[-ADDRESS_BYTES:]


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A transaction before it is signed. An empty ``to`` makes a contract."""

    chain_id: int
    nonce: int
    to: bytes
    data: bytes
    value_wei: int
    gas: int
    fee_wei_max: int
    """Per unit of gas, base fee and tip together."""
    tip_wei: int


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction, as it is sent."""

    hash: bytes
    raw: bytes


class Signer:
    """One key of the chain. Never printed."""

    __slots__ = ("_secret", "address")

    def __init__(self, secret: bytes) -> None:
        """Take a key of 32 bytes. Raises ``CONFIG`` for one that is none."""
        try:
            from coincurve import PublicKey
        except ImportError as cause:
            raise AtollError(
                Kind.CONFIG,
                "open key of the chain",
                "the libraries of the chain are not installed",
                hint="pip install 'atoll[chain]'",
            ) from cause
        if len(secret) != KEY_BYTES or not 0 < int.from_bytes(secret, "big") < ORDER:
            raise AtollError(Kind.CONFIG, "open key of the chain", "this is no key of a chain")
        self._secret = secret
        public = PublicKey.from_valid_secret(secret).format(compressed=False)
        self.address = keccak_256(public[1:])[-ADDRESS_BYTES:]

    @classmethod
    def derived(cls, seed: bytes, role: str) -> "Signer":
        """Derive the key for a role (``operator``, ``deployer``) from an identity's seed."""
        wide = expand_key(seed, f"chain/{role}/1".encode(), _WIDE_BYTES)
        number = int.from_bytes(wide, "big") % (ORDER - 1) + 1
        return cls(number.to_bytes(KEY_BYTES, "big"))

    def __repr__(self) -> str:
        return f"Signer({checksum_address(self.address)})"

    def sign(self, transaction: Unsigned) -> Signed:
        """Sign a transaction; the same one gives the same hash."""
        import rlp
        from coincurve import PrivateKey

        fields: list[object] = [
            transaction.chain_id,
            transaction.nonce,
            transaction.tip_wei,
            transaction.fee_wei_max,
            transaction.gas,
            transaction.to,
            transaction.value_wei,
            transaction.data,
            [],
        ]
        kind = bytes([TRANSACTION_TYPE])
        digest = keccak_256(kind + rlp.encode(fields))
        signature = PrivateKey(self._secret).sign_recoverable(digest, hasher=None)
        r, s = (int.from_bytes(signature[i : i + 32], "big") for i in (0, 32))
        raw = kind + rlp.encode([*fields, signature[64], r, s])
        return Signed(keccak_256(raw), raw)

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes that are a hash: r, s and v (27 or 28), 65 bytes, as contracts check."""
        from coincurve import PrivateKey

        if len(digest) != KEY_BYTES:
            raise ValueError("a digest has 32 bytes")
        signature = PrivateKey(self._secret).sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([27 + signature[64]])


def recover_account(digest: bytes, signature: bytes) -> bytes:
    """Return whose signature (r, s, v; 65 bytes) of a digest this is: an account, 20 bytes.

    Raises ``BAD_REQUEST`` where it is nobody's. Any bytes may turn out to be somebody's: whether
    that one counts is for the caller to say.
    """
    from coincurve import PublicKey

    if len(digest) != KEY_BYTES or len(signature) != 65 or signature[64] not in (27, 28):
        raise _no_signature()
    try:
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), digest, hasher=None
        )
    except Exception as cause:
        raise _no_signature() from cause
    return keccak_256(key.format(compressed=False)[1:])[-ADDRESS_BYTES:]


def _no_signature() -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "read signature", "this is nobody's signature")
