"""A whole cloud in one data folder: what its first start makes, and which processes it is.

Local clouds give node ``i`` the address 127.0.i.1, an operator and a site of its own, so that
placement's caps mean something. Secrets pass to the children in files of the folder, settings in
their environment; nothing secret is ever in an argument.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from atoll.cli.drill.liars import liars_of_environment
from atoll.cli.places import (
    ACCESS,
    COORDINATOR_SEED,
    EPOCHS,
    GATEWAY_SEED,
    NODE_SEED,
    ROOT_KEY,
    RUNNING,
    TRUSTED_VERIFIERS,
    VERIFIER_SEED,
    AccessKey,
    Running,
)
from atoll.cli.settling import book_name, keep_accounts
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SEED_BYTES, Identity
from atoll.core.ports import Rng
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
from atoll.economy.settlement.source import MIRROR_NAME
from atoll.runtime.config import (
    FILE_NAME,
    CloudSettings,
    Config,
    NodeSettings,
    VerifierSettings,
    to_toml,
)
from atoll.runtime.folder import SECRETS, Folder, open_folder, read_secret, write_file, write_secret
from atoll.runtime.logs import turn_over
from atoll.runtime.server import check_port_free
from atoll.runtime.supervisor import ChildSpec

LOOPBACK = "127.0.0.1"
CHAIN = "chain"
"""Name of the embedded chain's process, and of its folder."""
PHRASE_UNSEEN = "recovery-phrase.unseen"
"""The phrase from the first start until it has been shown; then the file is removed."""
DATABASE_URL = "database.url"
"""Where the metadata is; empty for SQLite in the folder. A secret: it may hold a password."""
PHRASE_ENTROPY_BYTES = 16
ACCESS_KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
FREE_BYTES_MIN = 64 << 20
"""Room that a start needs at least, for metadata and for each node's first log."""
ORPHANS_S_MAX = 15.0
ORPHANS_POLL_S = 0.2
PORT_BLOCK = 4
PORT_FIRST, PORT_LAST = 20_000, 32_000
"""Where ``--port 0`` looks: below the ports that systems give to outgoing connections."""
PORT_TRIES_MAX = 200
_PLACES = (
    ("eu-central", "DE"),
    ("eu-west", "FR"),
    ("eu-north", "SE"),
    ("eu-south", "IT"),
    ("us-east", "US"),
    ("ap-south", "SG"),
)
_TIERS = ("home", "pro", "dc", "edge")
EPOCHS_S = {"local": (30, 3_600), "demo": (12, 0), "wan": (86_400, 0)}
"""How long epochs are by profile, and what they grow to (0: they do not), in seconds. Of ``local``
and ``demo``: three slots of proofs at first."""
RELAYS = 2
"""Run where any node is to be reached through relays."""
_STAGE_GATEWAY, _STAGE_COORDINATOR, _STAGE_NODE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a local cloud: a block of four from the S3 endpoint's."""

    gateway: int

    @property
    def coordinator(self) -> int:
        """Where nodes and gateways ask."""
        return self.gateway + 1

    @property
    def page(self) -> int:
        """The live page."""
        return self.gateway + 2

    @property
    def node(self) -> int:
        """The same at every node's address."""
        return self.gateway + 3

    def places(self, nodes: int) -> list[tuple[str, int]]:
        """Return every address that the cloud binds."""
        own = [(LOOPBACK, self.gateway), (LOOPBACK, self.coordinator), (LOOPBACK, self.page)]
        return own + [(node_host(i), self.node) for i in range(1, nodes + 1)]


def verifier_host(number: int) -> str:
    """Return the address of verifier ``number`` (1..4): above those of all nodes."""
    return f"127.0.{250 + number}.1"


def relay_host(number: int) -> str:
    """Return the address of relay ``number`` (1..2): apart from all others."""
    return f"127.1.{number}.1"


CHAIN_HOST = "127.2.1.1"
"""Where the embedded chain listens: apart from all others."""


def node_host(number: int) -> str:
    """Return the address of node ``number`` (1..250)."""
    return f"127.0.{number}.1"


def choose_ports(wanted: int, nodes: int, rng: Rng) -> Ports:
    """Return free ports: those wanted, or for 0 any block. Raises ``PORT_TAKEN``, ``CONFIG``."""
    if wanted:
        if wanted + PORT_BLOCK > 65_535:
            raise AtollError(
                Kind.CONFIG, "start cloud", "four ports are needed", hint="choose a lower --port"
            )
        ports = Ports(wanted)
        _check(ports, nodes)
        return ports
    for _ in range(PORT_TRIES_MAX):
        ports = Ports(PORT_FIRST + rng.below((PORT_LAST - PORT_FIRST) // PORT_BLOCK) * PORT_BLOCK)
        try:
            _check(ports, nodes)
        except AtollError as error:
            if error.kind is not Kind.PORT_TAKEN:
                raise
            continue
        return ports
    raise AtollError(Kind.PORT_TAKEN, "start cloud", "no four free ports were found")


def _ports_soon(path: Path, settings: CloudSettings, rng: Rng) -> Ports:
    """Return the ports; after an unclean end wait for the orphans, who are about to end.

    Children end with their supervisor, however it died, but they end in order, which takes a
    moment. The note of what ran is still there then.
    """
    patience = ORPHANS_S_MAX if (path / RUNNING).exists() else 0.0
    deadline = time.monotonic() + patience
    while True:
        try:
            return choose_ports(settings.port, settings.nodes, rng)
        except AtollError as error:
            if error.kind is not Kind.PORT_TAKEN or time.monotonic() >= deadline:
                raise
        time.sleep(ORPHANS_POLL_S)


def _check(ports: Ports, nodes: int) -> None:
    for host, port in ports.places(nodes):
        try:
            check_port_free(host, port)
        except AtollError as error:
            if error.kind is not Kind.PORT_TAKEN:
                raise
            raise AtollError(
                Kind.PORT_TAKEN,
                "start cloud",
                f"port {port} on {host} is taken by another process",
                hint=f"choose another with --port, or see who has it: ss -ltnp 'sport = :{port}'",
                about=f"{host}:{port}",
            ) from error


@dataclass(frozen=True, slots=True)
class Cloud:
    """A prepared cloud: folder locked, secrets made, ports free."""

    folder: Folder
    settings: CloudSettings
    ports: Ports
    access: AccessKey
    region: str
    database: str
    own_chain: bool = False
    """Whether a chain of this machine runs beside it."""
    billing: Mapping[str, int] = field(default_factory=dict)
    """Settings of the coordinator for epochs, by name."""

    @property
    def chain(self) -> str:
        """URL of the embedded chain; empty for none."""
        return f"http://{CHAIN_HOST}:{self.ports.node}" if self.own_chain else ""

    @property
    def endpoint(self) -> str:
        """The S3 endpoint's URL."""
        return f"http://{LOOPBACK}:{self.ports.gateway}"

    @property
    def page(self) -> str:
        """The live page's URL."""
        return f"http://{LOOPBACK}:{self.ports.page}/"

    @property
    def coordinator(self) -> str:
        """The coordinator's URL."""
        return f"http://{LOOPBACK}:{self.ports.coordinator}"

    def node_folder(self, number: int) -> Path:
        """Return the data folder of a node."""
        return self.folder.path / "nodes" / str(number)

    def verifier_folder(self, number: int) -> Path:
        """Return the data folder of a verifier."""
        return self.folder.path / "verifiers" / str(number)

    def note_running(self) -> None:
        """Say in the folder what runs, for commands that look for it."""
        running = Running(
            endpoint=self.endpoint,
            region=self.region,
            coordinator=self.coordinator,
            page=self.page,
            pid=os.getpid(),
            ephemeral=self.folder.marker.ephemeral,
            chain=self.chain,
        )
        write_file(self.folder.path / RUNNING, msgspec.json.encode(running) + b"\n")

    def specs(self) -> list[ChildSpec]:
        """Return the processes of this cloud."""
        root = str(self.folder.path)
        shared = {
            "ATOLL_COORDINATOR_HOST": LOOPBACK,
            "ATOLL_COORDINATOR_PORT": str(self.ports.coordinator),
            "ATOLL_COORDINATOR_PAGE_PORT": str(self.ports.page),
            "ATOLL_COORDINATOR_PROFILE": self.settings.profile,
            "ATOLL_COORDINATOR_DATABASE": self.database,
            "ATOLL_GATEWAY_HOST": LOOPBACK,
            "ATOLL_GATEWAY_PORT": str(self.ports.gateway),
            "ATOLL_GATEWAY_COORDINATOR": "",
            "ATOLL_GATEWAY_WORKERS": "1",
            "ATOLL_GATEWAY_REGION": self.region,
            **({"ATOLL_CHAIN_URL": self.chain} if self.chain else {}),
            **{f"ATOLL_COORDINATOR_{n.upper()}": str(value) for n, value in self.billing.items()},
        }
        specs = [
            self._spec(
                "coordinator", ("coordinator", "run", "--data", root), shared, _STAGE_COORDINATOR
            ),
        ]
        for number in range(1, self.settings.nodes + 1):
            place = {
                "ATOLL_NODE_HOST": node_host(number),
                "ATOLL_NODE_PORT": str(self.ports.node),
                "ATOLL_NODE_ADVERTISE": "",
                "ATOLL_NODE_COORDINATOR": self.coordinator,
                "ATOLL_NODE_FINGERPRINT": "",
                **self._reach(number),
            }
            words = ("node", "run", "--data", str(self.node_folder(number)))
            specs.append(self._spec(f"node-{number}", words, place, _STAGE_NODE))
        for number in range(1, self.settings.verifiers + 1):
            place = {
                "ATOLL_VERIFIER_HOST": verifier_host(number),
                "ATOLL_VERIFIER_PORT": str(self.ports.node),
                "ATOLL_VERIFIER_ADVERTISE": "",
                "ATOLL_VERIFIER_COORDINATOR": self.coordinator,
                "ATOLL_VERIFIER_FINGERPRINT": "",
                "ATOLL_VERIFIER_OPERATOR": f"verifier-{number}",
            }
            words = ("verifier", "run", "--data", str(self.verifier_folder(number)))
            specs.append(self._spec(f"verifier-{number}", words, place, _STAGE_NODE))
        specs += self._relays()
        specs += self._chain()
        specs += self._watchers()
        for number in range(1, self.settings.workers + 1):
            words = ("gateway", "run", "--data", root)
            first = number == 1 and self.billing.get("epoch_s")
            bucket = {"ATOLL_GATEWAY_EPOCH_BUCKET": MIRROR_NAME if first else ""}
            specs.append(self._spec(f"gateway-{number}", words, shared | bucket, _STAGE_GATEWAY))
        return [_disguised(spec, liars_of_environment()) for spec in specs]

    def _reach(self, number: int) -> dict[str, str]:
        """Return how a node is reached: the last ones through relays, if any are."""
        if number <= self.settings.nodes - self.settings.relayed_nodes:
            return {}
        relays = ",".join(f"{relay_host(n)}:{self.ports.node}" for n in range(1, RELAYS + 1))
        return {"ATOLL_NODE_REACH": "relay", "ATOLL_NODE_RELAYS": relays}

    def _chain(self) -> list[ChildSpec]:
        if not self.own_chain:
            return []
        place = {"ATOLL_CHAIN_HOST": CHAIN_HOST, "ATOLL_CHAIN_PORT": str(self.ports.node)}
        words = ("chain", "run", "--data", str(self.folder.path / CHAIN))
        return [self._spec(CHAIN, words, place, _STAGE_NODE)]

    def _watchers(self) -> list[ChildSpec]:
        """Return who watches what is proposed: nobody where nothing is settled."""
        if not self.own_chain or not self.billing.get("epoch_s"):
            return []
        folder = self.folder.path
        place = {
            "ATOLL_CHAIN_URL": self.chain,
            "ATOLL_WATCHER_CONTRACTS": str(folder / book_name(EMBEDDED_CHAIN_ID)),
            "ATOLL_WATCHER_SOURCES": f"{self.coordinator},{folder / EPOCHS}",
        }
        return [
            self._spec(
                f"watcher-{number}",
                ("watcher", "run", "--data", str(folder / "watchers" / str(number))),
                place,
                _STAGE_NODE,
            )
            for number in range(1, self.settings.watchers + 1)
        ]

    def _relays(self) -> list[ChildSpec]:
        if not self.settings.relayed_nodes:
            return []
        specs = []
        for number in range(1, RELAYS + 1):
            place = {
                "ATOLL_RELAY_HOST": relay_host(number),
                "ATOLL_RELAY_PORT": str(self.ports.node),
                "ATOLL_RELAY_PORT_FIRST": "0",
                "ATOLL_RELAY_OPERATOR": f"relay-{number}",
            }
            words = ("relay", "run", "--data", str(self.folder.path / "relays" / str(number)))
            specs.append(self._spec(f"relay-{number}", words, place, _STAGE_NODE))
        return specs

    def _spec(
        self, name: str, words: tuple[str, ...], environment: dict[str, str], stage: int
    ) -> ChildSpec:
        log = self.folder.path / "logs" / f"{name}.log"
        turn_over(log)
        return ChildSpec(name, (sys.executable, "-m", "atoll", *words), log, stage, environment)


def _disguised(spec: ChildSpec, liars: Mapping[str, str]) -> ChildSpec:
    """Return a child as a drill wants it: some of them lie."""
    lie = liars.get(spec.name)
    if lie is None:
        return spec
    data = spec.arguments[spec.arguments.index("--data") + 1]
    words = (*spec.arguments[:3], "drill", "liar", "--lie", lie, "--data", data)
    return replace(spec, arguments=words)


def billing_settings(config: Config, own_chain: bool) -> dict[str, int]:
    """Return the coordinator's settings for epochs: those given, else the profile's.

    Without a chain of its own there are epochs only where ``coordinator.epoch_s`` asks for them:
    nothing would be settled, and nobody could pay in.
    """
    cloud, given = config.cloud, config.coordinator
    found = {"epoch_s": given.epoch_s, "epoch_max_s": given.epoch_max_s}
    if own_chain and not given.epoch_s:
        length_s, length_max_s = EPOCHS_S[cloud.profile]
        found = {"epoch_s": length_s, "epoch_max_s": given.epoch_max_s or length_max_s}
    if cloud.epochs == "off":
        return {"epoch_s": 0}
    allowance = (given.allowance_euro or cloud.allowance_euro) if own_chain else 0
    return {**found, "allowance_euro": allowance, "time_factor": given.time_factor}


def prepare(
    path: Path,
    settings: CloudSettings,
    node: NodeSettings,
    *,
    region: str,
    database: str,
    ephemeral: bool,
    own_chain: bool,
    billing: Mapping[str, int],
    rng: Rng,
    now_ms: int,
) -> Cloud:
    """Open or make a cloud's folder and check that it can start. Raises ``AtollError``."""
    folder = open_folder(path, "cloud", now_ms, ephemeral=ephemeral)
    try:
        _check_room(folder.path, settings.nodes)
        ports = _ports_soon(folder.path, settings, rng)
        access = make_secrets(folder.path, rng)
        database = _same_database(folder, database)
        cloud = Cloud(folder, settings, ports, access, region, database, own_chain, billing)
        for number in range(1, settings.nodes + 1):
            _make_node(cloud.node_folder(number), number, settings, node, rng, now_ms)
        _make_verifiers(cloud, settings.verifiers, rng, now_ms)
    except BaseException:
        folder.close()
        raise
    return cloud


def _make_verifiers(cloud: Cloud, count: int, rng: Rng, now_ms: int) -> None:
    """Make the verifiers' folders; their keys are those that the coordinator trusts."""
    identities = []
    for number in range(1, count + 1):
        folder = open_folder(cloud.verifier_folder(number), "verifier", now_ms)
        try:
            seed = folder.secret(VERIFIER_SEED, lambda: rng.bytes(SEED_BYTES))
            settings = VerifierSettings(
                host=verifier_host(number),
                port=cloud.ports.node,
                coordinator=cloud.coordinator,
                operator=f"verifier-{number}",
            )
            write_file(
                cloud.verifier_folder(number) / FILE_NAME, to_toml("verifier", settings).encode()
            )
        finally:
            folder.close()
        identities.append(Identity(seed))
    keep_accounts(cloud.folder.path, identities)
    trusted = cloud.folder.path / TRUSTED_VERIFIERS
    known = trusted.read_text().split() if trusted.exists() else []
    lines = list(dict.fromkeys([*known, *(one.public_key.hex() for one in identities)]))
    write_file(trusted, "".join(f"{line}\n" for line in lines).encode())


def unseen_phrase(path: Path) -> str:
    """Return a folder's recovery phrase if nobody has been shown it yet, else an empty text."""
    if not (path / SECRETS / PHRASE_UNSEEN).exists():
        return ""
    return read_secret(path, PHRASE_UNSEEN).decode()


def forget_phrase(path: Path) -> None:
    """Remove the phrase: it has been shown."""
    (path / SECRETS / PHRASE_UNSEEN).unlink(missing_ok=True)


def _check_room(path: Path, nodes: int) -> None:
    facts = os.statvfs(path)
    free, needed = facts.f_bavail * facts.f_frsize, FREE_BYTES_MIN + nodes * (16 << 20)
    if free < needed:
        raise AtollError(
            Kind.DISK_FULL,
            "start cloud",
            f"the disk that holds {path} has {free >> 20} MiB left, {needed >> 20} are needed",
            hint="free some space, or choose another folder with --data",
        )


def make_secrets(path: Path, rng: Rng) -> AccessKey:
    """Make what is missing of a coordinator's or gateway's secrets; return the S3 key."""
    _make_root(path, rng)
    for seed in (COORDINATOR_SEED, GATEWAY_SEED):
        read_secret(path, seed, lambda: rng.bytes(SEED_BYTES))
    return msgspec.json.decode(
        read_secret(path, ACCESS, lambda: msgspec.json.encode(new_access(rng))), type=AccessKey
    )


def _same_database(folder: Folder, database: str) -> str:
    """Return the database that this cloud began with: another one would look like lost data."""
    kept = read_secret(folder.path, DATABASE_URL, database.encode).decode()
    if database and database != kept:
        raise AtollError(
            Kind.CONFIG,
            "start cloud",
            f"{folder.path} keeps its metadata in another database",
            hint="leave out --database: the cloud remembers its own",
        )
    return kept


def _make_root(path: Path, rng: Rng) -> None:
    """Draw the recovery phrase and derive the root key, once in the life of a cloud."""
    if (path / SECRETS / ROOT_KEY).exists():
        return
    from atoll.core.crypto import new_phrase, root_from_phrase

    phrase = new_phrase(rng.bytes(PHRASE_ENTROPY_BYTES))
    # The phrase first: if we are cut off between the two, the next start draws another for both.
    write_secret(path, PHRASE_UNSEEN, phrase.encode())
    write_secret(path, ROOT_KEY, root_from_phrase(phrase).hex().encode())


def new_access(rng: Rng) -> AccessKey:
    """Draw an S3 access key: 160 bits of secret."""
    letters = "".join(ACCESS_KEY_LETTERS[rng.below(32)] for _ in range(16))
    return AccessKey(access_key=f"ATOL{letters}", secret_key=rng.bytes(20).hex())


def _make_node(
    path: Path,
    number: int,
    settings: CloudSettings,
    template: NodeSettings,
    rng: Rng,
    now_ms: int,
) -> None:
    if (path / FILE_NAME).exists():
        return
    folder = open_folder(path, "node", now_ms)
    try:
        folder.secret(NODE_SEED, lambda: rng.bytes(SEED_BYTES))
        region, country = _PLACES[(number - 1) % len(_PLACES)]
        facts = replace(
            template,
            operator=f"operator-{number}",
            site=f"site-{number}",
            region=region,
            country=country,
            tier=_TIERS[(number - 1) % len(_TIERS)],
            capacity_bytes=settings.node_capacity_bytes,
            log_bytes=settings.node_log_bytes,
        )
        write_file(path / FILE_NAME, to_toml("node", facts).encode())
    finally:
        folder.close()
