"""Which chain a coordinator settles on, as its folder and its settings say."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.cli.places import VERIFIER_ACCOUNTS
from atoll.coordinator.settlement.service import CHAIN_KEYS, SettlementConfig
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import node_id_of
from atoll.core.ports import Chain, Compute
from atoll.economy.chain.embedded import TIME_DIVISOR
from atoll.economy.chain.link import LinkConfig, profile_of
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer, parse_address
from atoll.economy.settlement.slashes import entry_key
from atoll.node.config import PayoutAccess
from atoll.runtime.config import ChainSettings
from atoll.runtime.folder import SECRETS, read_secret, write_file

CHAIN_URL = "chain.url"
"""The server's URL where it holds a password."""
BOOK_MODE = 0o644
PAYOUT_IBAN = "payout.iban"
"""In a node's folder: the bank account that its earnings may go to. A secret."""
PAYOUT = "payout"
"""Role of the key that a node's pay goes to."""
VERIFIER = "verifier"
"""Role of the key that a verifier signs epochs with."""


def chain_seed(identity: Identity) -> bytes:
    """Return the seed of an identity's keys of the chain, as a coordinator's rooms derive it."""
    return hashlib.sha256(identity.sign(CHAIN_KEYS, b"")).digest()


def payout_account(identity: Identity) -> bytes:
    """Return where a provider is paid on the chain: an account that its node's identity derives.

    Empty where the libraries of the chain are not installed.
    """
    try:
        return Signer.derived(chain_seed(identity), PAYOUT).address
    except AtollError as error:
        if error.kind is not Kind.CONFIG:
            raise
        return b""


def verifier_signer(identity: Identity) -> Signer | None:
    """Return the key that a verifier signs epochs with: it follows from its identity.

    None where the libraries of the chain are not installed.
    """
    try:
        return Signer.derived(chain_seed(identity), VERIFIER)
    except AtollError as error:
        if error.kind is not Kind.CONFIG:
            raise
        return None


def keep_accounts(folder: Path, verifiers: Iterable[Identity]) -> None:
    """Write down which accounts verifiers sign with, beside those that are written down."""
    for identity in verifiers:
        signer = verifier_signer(identity)
        if signer is not None:
            keep_account(folder, identity.public_key, signer.address)


def keep_account(folder: Path, key: bytes, account: bytes) -> None:
    """Write down which account a verifier signs with; a key has one, the one named last."""
    path = folder / VERIFIER_ACCOUNTS
    known = path.read_text().splitlines() if path.exists() else []
    lines = [one for one in known if not one.startswith(key.hex())]
    lines.append(f"{key.hex()} {account.hex()}")
    if lines != known:
        write_file(path, "".join(f"{one}\n" for one in lines).encode())


def court_values(folder: Path) -> dict[str, Any]:
    """Return the court's first verifiers, and whose bonds answer for them: the verifiers' own.

    A bond's name is that of ``NodeRegistry``: its owner is the verifier's account. Raises
    ``CONFIG`` for a file that cannot be read.
    """
    path = folder / VERIFIER_ACCOUNTS
    keys: list[bytes] = []
    nodes: list[bytes] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            public_key, account = (bytes.fromhex(word) for word in line.split())
        except ValueError as cause:
            raise AtollError(
                Kind.CONFIG, "read verifiers", f"a line of {path} is no key and account"
            ) from cause
        keys.append(account)
        nodes.append(entry_key(node_id_of(public_key), account))
    return {"SlashCourt.keys": keys, "SlashCourt.nodes": nodes} if keys else {}


def payout_access(folder: Path, identity: Identity) -> PayoutAccess | None:
    """Return how a node lets go what is paid out; None without the libraries of the chain."""
    try:
        signer = Signer.derived(chain_seed(identity), PAYOUT)
    except AtollError as error:
        if error.kind is not Kind.CONFIG:
            raise
        return None
    return PayoutAccess(signer.address, signer.sign_digest, lambda: read_payout_iban(folder))


def read_payout_iban(folder: Path) -> str:
    """Return the bank account that a node's provider named last; empty for none."""
    if not (folder / SECRETS / PAYOUT_IBAN).exists():
        return ""
    return read_secret(folder, PAYOUT_IBAN).decode()


def chain_url(folder: Path, settings: ChainSettings) -> str:
    """Return where the chain's server is; empty for nowhere."""
    if not settings.url and (folder / SECRETS / CHAIN_URL).exists():
        return read_secret(folder, CHAIN_URL).decode().strip()
    return settings.url


def link_config(settings: ChainSettings) -> LinkConfig:
    """Return how the chain of the settings is treated. Raises ``CONFIG``."""
    try:
        stable = parse_address(settings.stable) if settings.stable else b""
    except AtollError as error:
        raise AtollError(
            Kind.CONFIG, "read configuration", f"chain.stable: {error.message}", hint=error.hint
        ) from error
    return LinkConfig(
        chain_id=settings.id,
        profile=profile_of(settings.id, settings.confirmations, settings.fee_wei_max),
        stable=stable,
        first_block=settings.first_block,
        time_divisor=settings.time_divisor or TIME_DIVISOR,
    )


def settlement_of(
    folder: Path, settings: ChainSettings, compute: Compute
) -> SettlementConfig | None:
    """Return what a coordinator settles on; None for nothing."""
    url = chain_url(folder, settings)
    if not url:
        return None

    async def open_chain() -> Chain:
        return await RpcChain.open(url, compute)

    async def publish(content: bytes) -> None:
        # Public, unlike most of the folder: others check epochs by it.
        await compute.run(_write_book, folder / book_name(settings.id), content)

    config = link_config(settings)
    if config.embedded:
        config = replace(config, values={**config.values, **court_values(folder)})
    return SettlementConfig(open_chain, config, publish)


def book_name(chain_id: int) -> str:
    """Return the file in a coordinator's folder that says where its contracts stand."""
    return f"contracts-{chain_id}.json"


def _write_book(path: Path, content: bytes) -> None:
    write_file(path, content, mode=BOOK_MODE)
