"""Where things lie in a data folder, and how commands find the cloud that runs on this machine.

A cloud's folder::

    atoll.json, lock, atoll.toml     marker, lock of the supervisor, settings (by hand)
    secrets/                         root key, keys of coordinator and gateway, S3 access key
    metadata.db                      the coordinator's database, where none is named
    nodes/1 …                        one complete data folder per node
    verifiers/1 …                    the same per verifier
    watchers/1                       the watcher's
    trusted-verifiers                their keys: whose verdicts count
    logs/                            output of every child
    contracts-31337.json             where the contracts of a chain stand: the address book
    epochs/                          documents of settled epochs, as they are published
    run/cloud.json                   what runs now: endpoint, page, pid; no secrets
    run/coordinator.json             the same of a coordinator started by itself
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.runtime.folder import default_folder, lock_holder, read_secret

ROOT_KEY = "root.key"
COORDINATOR_SEED = "coordinator.seed"
GATEWAY_SEED = "gateway.seed"
NODE_SEED = "node.seed"
VERIFIER_SEED = "verifier.seed"
RELAY_SEED = "relay.seed"
WATCHER_SEED = "watcher.seed"
ACCESS = "access.json"
COORDINATOR_PARTY = "coordinator"
GATEWAY_PARTY = "gateway"
"""Folders of what is only the coordinator's or only the gateway's where both share one."""
TRUSTED_GATEWAYS = "trusted-gateways"
TRUSTED_VERIFIERS = "trusted-verifiers"
VERIFIER_ACCOUNTS = "verifier-accounts"
"""Keys of verifiers with the accounts of the chain they sign epochs with: a court on an embedded
chain is made with them."""
DATABASE = "metadata.db"
EPOCHS = "epochs"
RUNNING = Path("run") / "cloud.json"
RUNNING_COORDINATOR = Path("run") / "coordinator.json"
RUNNING_NODE = Path("run") / "node.json"


class AccessKey(msgspec.Struct, frozen=True):
    """The S3 key that the first start made. A secret."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"AccessKey({self.access_key})"


class Running(msgspec.Struct, frozen=True):
    """What runs in a folder now."""

    endpoint: str
    region: str
    coordinator: str
    page: str
    pid: int
    ephemeral: bool
    chain: str = ""
    """URL of the chain that it settles on; empty for none of its own."""


class RunningCoordinator(msgspec.Struct, frozen=True):
    """Where the coordinator of a folder, started by itself, listens now: as its flags said."""

    host: str
    port: int
    page_port: int
    """0: it shows no page."""
    pid: int


class RunningNode(msgspec.Struct, frozen=True):
    """Where the node of a folder listens now."""

    host: str
    port: int
    fingerprint: str
    """SHA-256 of its certificate, in hex; empty for plain HTTP."""
    pid: int


@dataclass(frozen=True, slots=True)
class Found:
    """A running cloud and the key to it."""

    folder: Path
    running: Running
    access: AccessKey


def cloud_folder(data: Path | None) -> Path:
    """Return the folder of ``--data``, else of the last ephemeral cloud's variable or XDG."""
    return (data or default_folder("cloud")).expanduser().absolute()


def read_running(folder: Path) -> Running | None:
    """Return what runs in a folder, or None."""
    try:
        running = msgspec.json.decode((folder / RUNNING).read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None
    return running if lock_holder(folder) == running.pid else None


def read_coordinator(folder: Path) -> RunningCoordinator | None:
    """Return where a coordinator started by itself listens, or None where none runs."""
    try:
        raw = (folder / RUNNING_COORDINATOR).read_bytes()
        running = msgspec.json.decode(raw, type=RunningCoordinator)
    except (OSError, msgspec.MsgspecError):
        return None
    return running if lock_holder(folder) == running.pid else None


def read_node(folder: Path) -> RunningNode | None:
    """Return where the node of a folder listens, or None where none runs."""
    try:
        running = msgspec.json.decode((folder / RUNNING_NODE).read_bytes(), type=RunningNode)
    except (OSError, msgspec.MsgspecError):
        return None
    return running if lock_holder(folder) == running.pid else None


def find_running(data: Path | None) -> Found:
    """Return the cloud that runs in a folder. Raises ``UNREACHABLE`` where none does."""
    folder = cloud_folder(data)
    running = read_running(folder)
    if running is None:
        raise AtollError(
            Kind.UNREACHABLE,
            "find cloud",
            f"no cloud runs in {folder}",
            hint="start one with `atoll up`, or name another with --data or --endpoint",
        )
    access = msgspec.json.decode(read_secret(folder, ACCESS), type=AccessKey)
    return Found(folder, running, access)


def keys_in_environment() -> bool:
    """Say whether the environment names S3 keys."""
    return bool(os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"))
