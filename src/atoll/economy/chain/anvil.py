"""The embedded chain: where its program is, how it is started, what it starts from.

Anvil (the Foundry project) is a real EVM with one producer of blocks and no consensus: right for a
single machine, worthless as a witness. It believes every caller, so it listens on loopback only;
it holds no key of anybody's, so nobody's signature comes from it.
"""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import platformdirs

from atoll.core.ports import Chain
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
from atoll.economy.chain.rpc import RpcChain

VARIABLE: Final = "ATOLL_ANVIL"
"""Environment variable that names the program."""
VERSION: Final = "1.7.1"
FOLDER: Final = "atoll-anvil"
PROGRAM: Final = "anvil"
HARDFORK: Final = "osaka"
"""With the limits of today's chains, such as 2^24 gas in a transaction (EIP-7825)."""
STATE_INTERVAL_S: Final = 30
"""How often it writes its state down; what it loses between is sent again by the outbox."""
STATE_FILE: Final = "state.json"
STATE_BYTES_MAX: Final = 4 << 30
FUNDS_WEI: Final = 10**24
FUNDS_WEI_MIN: Final = 10**22


@dataclass(frozen=True, slots=True)
class Package:
    """The npm package with the program for one kind of machine."""

    name: str
    integrity: str
    """Subresource Integrity of the package's archive; empty where it was never seen here: then
    the registry's own word counts."""


PACKAGES: Final[Mapping[tuple[str, str], Package]] = {
    ("Linux", "x86_64"): Package(
        "@foundry-rs/anvil-linux-amd64",
        "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
    ),
    ("Linux", "aarch64"): Package("@foundry-rs/anvil-linux-arm64", ""),
}
"""By operating system and processor, as ``platform`` names them."""


def package_here() -> Package | None:
    """Return the package for this machine; None where there is none."""
    return PACKAGES.get((platform.system(), platform.machine()))


def install_folder() -> Path:
    """Return where ``make setup`` puts the program: in the virtual environment, else the user's."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix) / "share" / FOLDER
    return Path(platformdirs.user_data_dir("atoll", appauthor=False)) / FOLDER


def find_anvil() -> Path | None:
    """Return the program: of ``ATOLL_ANVIL``, as installed, or of the PATH; None without one.

    ``ATOLL_ANVIL`` naming nothing that exists means that there is to be none.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named and Path(named).is_file() else None
    installed = install_folder() / PROGRAM
    if installed.is_file():
        return installed
    found = shutil.which(PROGRAM)
    return Path(found) if found else None


def arguments(program: Path, host: str, port: int, state: Path) -> list[str]:
    """Return how to start it. ``state`` is read if it is there, and written at its end."""
    return [
        str(program),
        *("--host", host, "--port", str(port)),
        *("--chain-id", str(EMBEDDED_CHAIN_ID), "--hardfork", HARDFORK),
        *("--accounts", "0", "--order", "fifo", "--no-cors", "--quiet"),
        *("--state", str(state), "--state-interval", str(STATE_INTERVAL_S)),
    ]


def set_aside_broken(state: Path) -> Path | None:
    """Move a state file away that was cut off while it was written; return where, if so.

    The chain then begins anew, and the outbox sends again what it had.
    """
    try:
        if 0 < state.stat().st_size <= STATE_BYTES_MAX:
            msgspec.json.decode(state.read_bytes(), type=dict[str, msgspec.Raw])
            return None
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    broken = state.with_suffix(".broken")
    os.replace(state, broken)
    return broken


async def fund(chain: Chain, *addresses: bytes) -> None:
    """See that accounts can pay fees on an embedded chain. Does nothing to any other chain."""
    if not isinstance(chain, RpcChain) or await chain.chain_id() != EMBEDDED_CHAIN_ID:
        return
    for address in addresses:
        if await chain.balance(address) < FUNDS_WEI_MIN:
            await chain.ask("anvil_setBalance", "0x" + address.hex(), hex(FUNDS_WEI))
