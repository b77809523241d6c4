"""Which coordinator takes over, and with whose key it is asked."""

from pathlib import Path
from typing import TYPE_CHECKING

from atoll.cli.places import (
    COORDINATOR_SEED,
    GATEWAY_SEED,
    ROOT_KEY,
    RUNNING,
    Running,
    read_coordinator,
)
from atoll.client.recovery.takeover import Takeover
from atoll.client.remote import RemoteControl
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ports import Address
from atoll.runtime.clock import SystemClock
from atoll.runtime.folder import SECRETS, default_folder, open_folder, read_secret, write_secret

if TYPE_CHECKING:
    from atoll.cli.recover.wiring import Recovery


async def take_over(recovery: "Recovery", where: str, data: Path | None, only: str) -> None:
    """Give what was found to a coordinator: a URL, or the folder of one on this machine.

    Raises ``FORBIDDEN`` where it does not trust this machine's key, ``UNREACHABLE``.
    """
    address, identity = _place_of(recovery.root, where, data)
    work = Takeover(
        recovery.finder,
        recovery.store,
        recovery.nodes,
        recovery.owner,
        recovery.transport,
        RemoteControl(recovery.transport, [address], identity, SystemClock()),
        recovery.report,
    )
    await work.run(only)


def _place_of(root: bytes, where: str, data: Path | None) -> tuple[Address, Identity]:
    from atoll.cli.wire import address_of, identity_of, tls_of

    if where.startswith(("http://", "https://")):
        folder = data or default_folder("gateway")
        return address_of(where, ""), identity_of(folder, GATEWAY_SEED)
    folder = Path(where).expanduser().absolute()
    prepare_folder(folder, root)
    identity = identity_of(folder, COORDINATOR_SEED)
    if (folder / RUNNING).is_file():
        import msgspec

        running = msgspec.json.decode((folder / RUNNING).read_bytes(), type=Running)
        return address_of(running.coordinator, ""), identity
    place = read_coordinator(folder)
    if place is None:
        raise AtollError(
            Kind.UNREACHABLE,
            "take over",
            f"no coordinator runs in {folder}; the folder is ready for one",
            hint=f"start `atoll coordinator run --data {folder}`, let the nodes join it, run again",
        )
    tls = tls_of(folder, place.host)
    return Address(place.host, place.port, tls.fingerprint if tls else b""), identity


def prepare_folder(folder: Path, root: bytes) -> None:
    """Make a coordinator's folder with this root key, unless it is there.

    Raises ``WRONG_FOLDER`` for the folder of another phrase.
    """
    secret = folder / SECRETS / ROOT_KEY
    if not secret.exists():
        open_folder(folder, "coordinator", SystemClock().now_ms()).close()
        write_secret(folder, ROOT_KEY, root.hex().encode())
    if bytes.fromhex(read_secret(folder, ROOT_KEY).decode()) != root:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "take over",
            f"{folder} belongs to another recovery phrase",
            hint="name an empty folder",
        )
