"""How a cloud's owner reaches the coordinator that runs in his folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from atoll.cli.places import COORDINATOR_SEED, read_coordinator, read_running
from atoll.core.errors import AtollError, Kind

if TYPE_CHECKING:
    from atoll.core.identity import Identity
    from atoll.core.ports import Address


def coordinator_of(folder: Path, operation: str) -> "tuple[Address, Identity]":
    """Return where a cloud's coordinator listens, and its key.

    Raises ``UNREACHABLE`` where none runs; ``operation`` says what it was wanted for.
    """
    from atoll.cli import wire
    from atoll.core.ports import Address

    running, alone = read_running(folder), read_coordinator(folder)
    if running is not None:
        address = wire.address_of(running.coordinator, "")
    elif alone is not None:
        tls = wire.tls_of(folder, alone.host)
        host = "127.0.0.1" if alone.host in ("0.0.0.0", "::") else alone.host  # noqa: S104
        address = Address(host, alone.port, tls.fingerprint if tls is not None else b"")
    else:
        raise AtollError(
            Kind.UNREACHABLE,
            operation,
            f"no cloud runs in {folder}, and it is no node's folder",
            hint="name a node's or a cloud's folder with --data",
        )
    return address, wire.identity_of(folder, COORDINATOR_SEED)
