"""Settings of every part: defaults < TOML file < environment < flags, each with its origin.

A setting is one field of one section. ``[node] capacity_bytes`` in the file is
``ATOLL_NODE_CAPACITY_BYTES`` in the environment. A field's unit is the last word of its name; sizes
may be written with a unit (``500 GB``) and are shown so that they read back the same. Secrets are
no settings: they live in files of the data folder.
"""

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError, Kind
from atoll.core.units import exact_bytes, parse_bytes

PREFIX = "ATOLL_"
FILE_NAME = "atoll.toml"
FILE_BYTES_MAX = 1 << 20
TIERS = ("edge", "home", "pro", "dc")
REACH_MODES = ("auto", "direct", "relay")
PROFILES = ("local", "wan", "demo")


def _setting(
    default: Any,
    doc: str,
    *,
    least: int | None = None,
    most: int | None = None,
    choices: Sequence[str] = (),
) -> Any:
    return field(
        default=default, metadata={"doc": doc, "least": least, "most": most, "choices": choices}
    )


def _port(default: int, doc: str, *, least: int = 0) -> Any:
    return _setting(default, doc, least=least, most=65_535)


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """A whole cloud on one machine: ``atoll up``."""

    nodes: int = _setting(12, "Node processes to run.", least=1, most=250)
    port: int = _port(
        9000, "Port of the S3 endpoint; the three ports after it serve the other parts. 0: any."
    )
    workers: int = _setting(2, "Gateway processes that share the port.", least=1, most=64)
    node_capacity_bytes: int = _setting(
        20 << 30, "Room that each node offers, before the disk itself is full.", least=64 << 20
    )
    verifiers: int = _setting(
        3, "Verifier processes: two thirds must agree. 0: nothing is proven.", least=0, most=4
    )
    watchers: int = _setting(
        1, "Watcher processes, where epochs are settled on a chain of its own.", least=0, most=4
    )
    relayed_nodes: int = _setting(
        0, "Nodes, the last ones, that are reached through two relays, run as well.", least=0
    )
    node_log_bytes: int = _setting(
        64 << 20, "Size at which a node starts its next log file.", least=40 << 20
    )
    profile: str = _setting(
        "local", "Timers, as for the coordinator: local, demo or wan.", choices=PROFILES
    )
    ready_timeout_s: int = _setting(60, "Longest wait for the cloud to serve.", least=1, most=3600)
    chain: str = _setting(
        "embedded",
        "The chain to settle on: one of this machine, or none but what chain.url names.",
        choices=("embedded", "none"),
    )
    epochs: str = _setting(
        "on",
        "Whether use is charged and pay is settled on its own chain, epoch by epoch, "
        "as long as coordinator.epoch_s or the profile say.",
        choices=("on", "off"),
    )
    allowance_euro: int = _setting(
        100,
        "Euros of its own chain, which are worth nothing, that the first account is kept at; "
        "0: none, so it pays in.",
        least=0,
        most=1_000_000,
    )


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """A coordinator: ``atoll coordinator run``."""

    host: str = _setting("127.0.0.1", "Address to listen on; beyond loopback always with TLS.")
    port: int = _port(9001, "Port for nodes and gateways.")
    page_port: int = _port(9002, "Port of the live page, on loopback only. 0: none.")
    database: str = _setting(
        "", "SQL database as a URL (postgresql://… or sqlite:///…); empty: SQLite in the folder."
    )
    profile: str = _setting(
        "wan",
        "Timers: local (dead after 10 s), demo (25 s) or wan (4 h).",
        choices=PROFILES,
    )
    packing_age_s: int = _setting(
        0, "Age at which small objects are packed; 0: the profile's.", least=0
    )
    upgrade_hold_s: int = _setting(
        0,
        "So long must operators have stayed until old segments get a wider scheme; "
        "0: the profile's.",
        least=0,
    )
    upgrade_bytes_per_hour: int = _setting(
        0, "Data copied into wider schemes in an hour; 0: the profile's.", least=0
    )
    surplus_age_s: int = _setting(
        0,
        "Age from which pieces that nobody counts are moved to the trash; 0: the profile's.",
        least=0,
    )
    repair_bytes_per_s: int = _setting(
        0, "What its own repairs may move, down and up together; 0: the profile's.", least=0
    )
    repair_workers: int = _setting(
        0, "Segments it repairs at a time; 0: the profile's.", least=0, most=256
    )
    epoch_s: int = _setting(
        0,
        "Length of an epoch, after which use is charged and pay is posted; 0: no epochs.",
        least=0,
        most=2_592_000,
    )
    epoch_max_s: int = _setting(
        0,
        "Length that epochs grow to while it runs on, each a tenth of that time; "
        "0: all have epoch_s.",
        least=0,
        most=2_592_000,
    )
    allowance_euro: int = _setting(
        0,
        "Euros of the embedded chain, which are worth nothing, that its own account is kept at; "
        "0: none.",
        least=0,
        most=1_000_000,
    )
    time_factor: int = _setting(
        1,
        "So many times longer is time for fees of storage: demonstrations only, on a chain of "
        "one's own.",
        least=1,
        most=1_000_000_000,
    )

    prepaid: str = _setting(
        "open",
        "What an empty balance of a customer means: nothing (open), or notice, read-only, grace "
        "and deletion (enforced).",
        choices=("open", "enforced"),
    )
    prepaid_notice_s: int = _setting(
        0, "With an empty balance everything works for so long yet; 0: the profile's.", least=0
    )
    prepaid_read_only_s: int = _setting(
        0, "Then uploads are refused for so long; 0: the profile's.", least=0
    )
    prepaid_grace_s: int = _setting(
        0, "Then deletion is announced for so long; 0: the profile's.", least=0
    )
    mirror: str = _setting(
        "", "Folder that documents of epochs are copied to, best on another disk; empty: none."
    )
    operator: str = _setting("", "Who runs it; policies of buckets may ask.")
    country: str = _setting("", "Country it runs in, two letters; empty: not said.")
    parent_country: str = _setting(
        "", "Country whose law binds the operator's parent; empty: the same country."
    )
    database_country: str = _setting("", "Country its database runs in; empty: the same country.")
    addresses: str = _setting(
        "", "Table of addresses, lines CIDR,COUNTRY: nodes' countries are compared; empty: none."
    )


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """An S3 gateway: ``atoll gateway run``."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _port(9000, "Port of the S3 endpoint.")
    workers: int = _setting(2, "Processes that share the port.", least=1, most=64)
    region: str = _setting("us-east-1", "Region name that clients sign for.")
    domain: str = _setting("", "Domain whose sub-domains are bucket names; empty: paths only.")
    coordinator: str = _setting("", "URL of the coordinator; empty: share its database.")
    fingerprint: str = _setting("", "SHA-256 of the coordinator's certificate, in hex.")
    certificate: str = _setting("", "TLS certificate of the endpoint (PEM); empty: plain HTTP.")
    certificate_key: str = _setting("", "Its private key (PEM).")
    operator: str = _setting("", "Who runs it; policies of buckets may ask.")
    country: str = _setting("", "Country it runs in, two letters; empty: not said.")
    parent_country: str = _setting(
        "", "Country whose law binds the operator's parent; empty: the same country."
    )
    epoch_bucket: str = _setting(
        "",
        "Bucket of the owner that documents of epochs are put into, if it is there; empty: none.",
    )
    transfer_bytes_max: int = _setting(
        96 << 20, "Buffers for bodies on their way, per process.", least=16 << 20
    )


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A storage node: ``atoll node run``, ``atoll join``."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _port(9003, "Port to listen on.")
    advertise: str = _setting("", "Host (or host:port) that others reach it at; empty: as bound.")
    coordinator: str = _setting("http://127.0.0.1:9001", "URL, or URLs, of coordinators.")
    fingerprint: str = _setting("", "SHA-256 of the coordinator's certificate, in hex.")
    capacity_bytes: int = _setting(100 << 30, "Room offered.", least=64 << 20)
    log_bytes: int = _setting(1 << 30, "Size at which the next log file starts.", least=40 << 20)
    operator: str = _setting("", "Who runs it; nodes of one operator count as one risk.")
    site: str = _setting("", "Where it stands, as one word; nodes of one site count as one risk.")
    region: str = _setting("", "Region, as eu-central.")
    country: str = _setting("", "Country, two letters (ISO 3166).")
    tier: str = _setting("home", "Kind of place.", choices=TIERS)
    price_micro: int = _setting(0, "Price asked, in micro-euro per TB and month.", least=0)
    bandwidth_bytes_per_s: int = _setting(
        0, "What it may use of the line, in each direction. 0: no limit.", least=0
    )
    traffic_bytes_month: int = _setting(
        0, "What it may transfer in a calendar month. 0: no limit.", least=0
    )
    calendar: str = _setting("", "When it is online (docs/providing.md); empty: always.")
    parent_country: str = _setting("", "Country of the operator's parent company, two letters.")
    asn: int = _setting(0, "Autonomous system of its line. 0: unknown.", least=0)
    yields: str = _setting(
        "auto",
        "What gives way to other work on the machine: nothing, background work, transfers too. "
        "auto: transfers at home and edge, background elsewhere.",
        choices=("auto", "nothing", "background", "transfers"),
    )
    repair_tasks: int = _setting(
        1, "Repairs of others' segments taken over at a time, for pay. 0: none.", least=0, most=16
    )
    repair_bytes_per_s: int = _setting(
        8 << 20, "Pace of that work, reading and sending together.", least=64 << 10
    )
    reach: str = _setting(
        "auto", "How others reach it: find out, only directly, or by relays.", choices=REACH_MODES
    )
    relays: str = _setting("", "Relays to be reached by: HOST:PORT#FINGERPRINT, with commas.")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """A relay: ``atoll relay run``."""

    host: str = _setting("127.0.0.1", "Address to listen on, for nodes and their callers.")
    port: int = _port(9005, "Port at which nodes build their tunnels.")
    port_first: int = _setting(
        9100, "First of the ports given to nodes. 0: any that is free.", least=0, most=65_000
    )
    nodes_max: int = _setting(200, "Nodes served.", least=1, most=10_000)
    bytes_per_s: int = _setting(0, "Of one node, in each direction. 0: no limit.", least=0)
    operator: str = _setting("", "Who runs it; a node uses relays of different operators.")


@dataclass(frozen=True, slots=True)
class VerifierSettings:
    """A verifier: ``atoll verifier run``."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _port(9004, "Port to listen on.")
    advertise: str = _setting("", "Host (or host:port) that others reach it at; empty: as bound.")
    coordinator: str = _setting("http://127.0.0.1:9001", "URL of the coordinator.")
    fingerprint: str = _setting("", "SHA-256 of the coordinator's certificate, in hex.")
    operator: str = _setting("", "Who runs it.")
    keep_bytes: int = _setting(
        4 << 30, "Proofs and verdicts kept to be shown; the oldest go first.", least=64 << 20
    )


@dataclass(frozen=True, slots=True)
class WatcherSettings:
    """A watcher of what is proposed on the chain: ``atoll watcher run``."""

    contracts: str = _setting(
        "", "Address book of the cloud that is watched (a file), or its distributor's address."
    )
    sources: str = _setting(
        "",
        "Who may have documents of epochs, with commas: https://HOST:PORT#FINGERPRINT or folders.",
    )
    demands_max: int = _setting(
        64,
        "Chunks of leaves that are demanded of one proposal; each costs a fee that is lost where "
        "the leaves are shown.",
        least=1,
        most=4096,
    )
    accuse: str = _setting(
        "off",
        "Whether verifiers who signed a root that was shown to be wrong are taken to the court; "
        "they lose their bond and do not stand any more.",
        choices=("off", "on"),
    )


@dataclass(frozen=True, slots=True)
class BankSettings:
    """The operator's bank account, and what stands on his invoices."""

    holder: str = _setting("", "Name of the account's holder: who writes invoices.")
    iban: str = _setting("", "IBAN that customers pay to; empty: no transfers, no invoices.")
    bic: str = _setting("", "Its BIC, where a bank asks for one.")
    address: str = _setting("", "Postal address on invoices; lines with semicolons between.")
    vat_number: str = _setting("", "VAT identification number on invoices.")
    vat_bps: int = _setting(0, "Rate of VAT in 1/10,000: 1900 is 19 %.", least=0, most=5_000)
    vat_note: str = _setting(
        "no VAT is charged", "What invoices say with a rate of 0: you answer for it."
    )
    series: str = _setting("A", "Letters before invoices' numbers: A-2026-000001.")


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """The settlement chain: ``atoll chain``, and the coordinator that settles on it."""

    url: str = _setting(
        "",
        "JSON-RPC server of the chain; empty: the cloud's own, or none. One whose URL holds a "
        "password belongs into secrets/chain.url instead.",
    )
    id: int = _setting(31_337, "Number of the chain (EIP-155); 31337: the embedded one.", least=1)
    confirmations: int = _setting(
        0, "Blocks that must hold a transaction; 0: 1 embedded, 12 elsewhere.", least=0, most=1000
    )
    fee_wei_max: int = _setting(
        0, "Most that is paid for a unit of gas, in wei; 0: 200 gwei on a public chain.", least=0
    )
    stable: str = _setting("", "Address of the EUR stablecoin; empty: the embedded chain's own.")
    first_block: int = _setting(0, "Nothing of ours is below this block.", least=0)
    time_divisor: int = _setting(
        0,
        "So many times shorter are the windows of an embedded chain's contracts; 0: 3600.",
        least=0,
        most=86_400,
    )
    host: str = _setting("127.0.0.1", "Address that an embedded chain listens on: loopback.")
    port: int = _port(8545, "Its port.")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The S3 commands: ``atoll cp``, ``ls`` and the others."""

    endpoint: str = _setting("", "S3 endpoint; empty: the cloud that runs on this machine.")
    region: str = _setting("us-east-1", "Region name to sign for.")
    part_bytes: int = _setting(32 << 20, "Part of a large file.", least=5 << 20, most=5 << 30)
    parallel: int = _setting(4, "Parts on their way at once.", least=1, most=64)
    attempts: int = _setting(5, "Tries of one request.", least=1, most=20)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a process writes to standard error."""

    level: str = _setting(
        "info",
        "Least important line that is written.",
        choices=("debug", "info", "warning", "error"),
    )
    form: str = _setting("text", "Form of a line.", choices=("text", "json"))


@dataclass(frozen=True, slots=True)
class Config:
    """All settings."""

    cloud: CloudSettings = field(default_factory=CloudSettings)
    coordinator: CoordinatorSettings = field(default_factory=CoordinatorSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    node: NodeSettings = field(default_factory=NodeSettings)
    verifier: VerifierSettings = field(default_factory=VerifierSettings)
    relay: RelaySettings = field(default_factory=RelaySettings)
    watcher: WatcherSettings = field(default_factory=WatcherSettings)
    bank: BankSettings = field(default_factory=BankSettings)
    chain: ChainSettings = field(default_factory=ChainSettings)
    client: ClientSettings = field(default_factory=ClientSettings)
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as ``atoll config show`` prints it."""

    name: str
    """``section.field``"""
    value: str | int
    origin: str
    """``default``, ``file PATH``, ``environment NAME`` or ``flag --NAME``."""
    doc: str

    @property
    def text(self) -> str:
        """The value as it may be written in the file."""
        if isinstance(self.value, int) and _is_size(self.name):
            return exact_bytes(self.value)
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where each value came from."""

    config: Config
    origins: Mapping[str, str]

    def shown(self) -> Iterator[Shown]:
        """Yield every setting in the order of the sections."""
        for section, setting in _settings():
            name = f"{section}.{setting.name}"
            value = getattr(getattr(self.config, section), setting.name)
            yield Shown(name, value, self.origins.get(name, "default"), setting.metadata["doc"])


def _settings() -> Iterator[tuple[str, "dataclasses.Field[Any]"]]:
    for section in dataclasses.fields(Config):
        for setting in dataclasses.fields(section.type):  # type: ignore[arg-type]
            yield section.name, setting


_KNOWN = {f"{section}.{setting.name}": setting for section, setting in _settings()}


def load(
    files: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    """Merge defaults, files (later ones win; absent ones are skipped), environment and flags.

    ``flags`` maps ``section.field`` to a value; None means not given. Raises ``CONFIG`` for an
    unknown name, a value of the wrong type or outside its range, naming where it came from.
    """
    values: dict[str, str | int] = {}
    origins: dict[str, str] = {}
    sources: list[tuple[str, str, object]] = []
    for path in files:
        sources += [(name, f"file {path}", value) for name, value in _read_file(path)]
    for name in _KNOWN:
        variable = PREFIX + name.replace(".", "_").upper()
        if environment is not None and variable in environment:
            sources.append((name, f"environment {variable}", environment[variable]))
    for name, value in (flags or {}).items():
        if value is not None:
            word = name.split(".")[1].removesuffix("_bytes").replace("_", "-")
            sources.append((name, f"flag --{word}", value))
    for name, origin, value in sources:
        values[name] = _checked(name, value, origin)
        origins[name] = origin
    sections = {
        section.name: section.type(  # type: ignore[operator]
            **{k.split(".")[1]: v for k, v in values.items() if k.startswith(section.name + ".")}
        )
        for section in dataclasses.fields(Config)
    }
    return Loaded(Config(**sections), origins)


def load_here(
    data: Path | None = None, file: Path | None = None, flags: Mapping[str, object] | None = None
) -> Loaded:
    """Load for a command: ``atoll.toml`` of the data folder, a named file, this environment."""
    named = file or (Path(os.environ["ATOLL_CONFIG"]) if "ATOLL_CONFIG" in os.environ else None)
    if named is not None and not named.is_file():
        raise _wrong(f"there is no configuration file {named}", "check --config or ATOLL_CONFIG")
    found = [data / FILE_NAME] if data is not None else []
    return load([*found, *([named] if named else [])], os.environ, flags)


def _read_file(path: Path) -> Iterator[tuple[str, object]]:
    try:
        raw = path.read_bytes()[: FILE_BYTES_MAX + 1]
    except FileNotFoundError:
        return
    except OSError as cause:
        raise _wrong(f"{path}: {cause.strerror}", "make it readable") from cause
    try:
        tree = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise _wrong(f"{path} is not TOML: {cause}", "correct the file") from cause
    for section, entries in tree.items():
        if not isinstance(entries, dict):
            raise _unknown(section, f"file {path}")
        for name, value in entries.items():
            if f"{section}.{name}" not in _KNOWN:
                raise _unknown(f"{section}.{name}", f"file {path}")
            yield f"{section}.{name}", value


def _checked(name: str, value: object, origin: str) -> str | int:
    setting = _KNOWN.get(name)
    if setting is None:
        raise _unknown(name, origin)
    wants_number = isinstance(setting.default, int)
    checked: str | int
    if wants_number:
        checked = _number(name, value, origin)
        least, most = setting.metadata["least"], setting.metadata["most"]
        if (least is not None and checked < least) or (most is not None and checked > most):
            span = f"at least {least}" if most is None else f"{least} to {most}"
            raise _wrong(f"{name} is {checked}, allowed: {span}", f"change it in {origin}")
    elif isinstance(value, str):
        checked = value
        choices = setting.metadata["choices"]
        if choices and value not in choices:
            raise _wrong(f"{name} is {value!r}, allowed: {', '.join(choices)}", f"see {origin}")
    else:
        raise _wrong(f"{name} wants a text, not {value!r}", f"change it in {origin}")
    return checked


def _is_size(name: str) -> bool:
    return name.removesuffix("_max").endswith("_bytes")


def _number(name: str, value: object, origin: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        if _is_size(name):
            return parse_bytes(value)
        try:
            return int(value)
        except ValueError:
            pass
    raise _wrong(f"{name} wants a whole number, not {value!r}", f"change it in {origin}")


def _unknown(name: str, origin: str) -> AtollError:
    near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.8)
    hint = f"did you mean {near[0]}?" if near else "`atoll config show` lists all settings"
    return _wrong(f"there is no setting {name} (from {origin})", hint)


def _wrong(message: str, hint: str) -> AtollError:
    return AtollError(Kind.CONFIG, "read configuration", message, hint=hint)


def to_toml(section: str, values: object) -> str:
    """Write one section as TOML with its documentation; a default value stays a comment."""
    lines = [f"[{section}]"]
    for setting in dataclasses.fields(values):  # type: ignore[arg-type]
        shown = Shown(f"{section}.{setting.name}", getattr(values, setting.name), "", "")
        quoted = isinstance(shown.value, str) or _is_size(setting.name)
        text = _toml_text(shown.text) if quoted else shown.text
        mark = "# " if shown.value == setting.default else ""
        lines += [f"# {setting.metadata['doc']}", f"{mark}{setting.name} = {text}"]
    return "\n".join(lines) + "\n"


def _toml_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in escaped) + '"'
