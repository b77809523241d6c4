"""Keeps bank accounts sealed at rest: who has the database alone reads none."""

from dataclasses import dataclass

import msgspec

from atoll.core.crypto import NONCE_BYTES, open_secret, seal_secret
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Rng
from atoll.economy.payments.accounts import BankAccount


class _Plain(msgspec.Struct, frozen=True, array_like=True):
    name: str
    iban: str
    bic: str


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals under a key that only this coordinator's identity derives."""

    key: bytes
    rng: Rng

    def __repr__(self) -> str:
        return "Seal()"

    def close(self, owner: bytes, account: BankAccount | None) -> bytes:
        """Return a bank account sealed for the row of ``owner``; empty for none."""
        if account is None:
            return b""
        plain = msgspec.msgpack.encode(_Plain(account.name, account.iban, account.bic))
        nonce = self.rng.bytes(NONCE_BYTES)
        return seal_secret(self.key, _label(owner), plain, nonce)

    def open(self, owner: bytes, sealed: bytes) -> BankAccount | None:
        """Return what was sealed; None for nothing. Raises ``CORRUPT``."""
        if not sealed:
            return None
        plain = open_secret(self.key, _label(owner), sealed)
        try:
            found = msgspec.msgpack.decode(plain, type=_Plain)
        except msgspec.MsgspecError:
            # Without the cause: it may quote what is secret.
            raise AtollError(
                Kind.CORRUPT, "open bank account", "what is sealed is no bank account"
            ) from None
        return BankAccount(found.name, found.iban, found.bic)


def _label(owner: bytes) -> str:
    return f"bank-account/{owner.hex()}"
