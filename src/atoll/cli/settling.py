"""Which chain a coordinator settles on, as its folder and its settings say."""

import hashlib
from pathlib import Path

from atoll.coordinator.settlement.service import CHAIN_KEYS, SettlementConfig
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ports import Chain, Compute
from atoll.economy.chain.embedded import TIME_DIVISOR
from atoll.economy.chain.link import LinkConfig, profile_of
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer, parse_address
from atoll.runtime.config import ChainSettings
from atoll.runtime.folder import SECRETS, read_secret, write_file

CHAIN_URL = "chain.url"
"""The server's URL where it holds a password."""
BOOK_MODE = 0o644
PAYOUT = "payout"
"""Role of the key that a node's pay goes to."""


def chain_seed(identity: Identity) -> bytes:
    """Return the seed of a coordinator's keys of the chain, as its rooms derive it."""
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

    return SettlementConfig(open_chain, link_config(settings), publish)


def book_name(chain_id: int) -> str:
    """Return the file in a coordinator's folder that says where its contracts stand."""
    return f"contracts-{chain_id}.json"


def _write_book(path: Path, content: bytes) -> None:
    write_file(path, content, mode=BOOK_MODE)
