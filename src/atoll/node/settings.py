"""A provider's terms as the node keeps them: folder settings, what was changed live, both checked.

What is changed live lies in ``node.settings`` beside the pieces and wins over the folder's settings
until it is reset. Which facts follow from it is told to the coordinators at once.
"""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from atoll.core.calendar import format_calendar, parse_calendar
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.terms import ProviderTerms, SetTerms
from atoll.core.ports import Compute, Disk
from atoll.node.config import NodeConfig

SETTINGS_FILE = "node.settings"
CAPACITY_BYTES_MIN = 1 << 20
CAPACITY_BYTES_MAX = 1 << 60
BANDWIDTH_BYTES_PER_S_MIN = 64 << 10
"""A slower line would time out its own transfers."""
TRAFFIC_BYTES_MIN = 1 << 20
PRICE_MICRO_MAX = 10**12
ASN_MAX = (1 << 32) - 1
WORD_CHARACTERS_MAX = 128
TIERS = ("edge", "home", "pro", "dc")
STATEMENTS_MAX = 16
NAMES = tuple(name for name in ProviderTerms.__struct_fields__)


class KeptSettings(msgspec.Struct, frozen=True, tag=True):
    """The content of ``node.settings``."""

    changes: SetTerms = SetTerms()
    """What the provider set live."""
    exiting: bool = False
    evacuating: str = ""
    """Why, as the disk's watch found it."""
    began_ms: int = 0
    """When the move under way began; 0 for none."""
    total_pieces: int = 0
    total_bytes: int = 0
    """What there was to move then."""
    statements: list[bytes] = []
    """Encoded ``DepartureStatement``s."""


class Settings:
    """The terms in force. ``load`` first; listeners hear of every change."""

    def __init__(self, disk: Disk, compute: Compute, config: NodeConfig) -> None:
        """Start from the folder's settings."""
        self._disk = disk
        self._compute = compute
        self.configured = ProviderTerms(
            capacity_bytes=config.store.capacity_bytes,
            bandwidth_bytes_per_s=config.bandwidth_bytes_per_s,
            traffic_bytes_month=config.traffic_bytes_month,
            price_micro=config.price_micro,
            calendar=config.calendar,
            tier=config.tier,
            site=config.site,
            region=config.region,
            country=config.country,
            parent_country=config.parent_country,
            asn=config.asn,
        )
        self.kept = KeptSettings()
        self.terms = self.configured
        self.listeners: list[Callable[[], None]] = []

    async def load(self) -> None:
        """Read what was kept. Raises ``WRONG_FOLDER`` where that cannot be read."""
        self.kept = await self._compute.run(_read, self._disk)
        self.terms = _merged(self.configured, self.kept.changes)

    @property
    def changed(self) -> list[str]:
        """Names of the terms that differ from the folder's."""
        return [n for n in NAMES if getattr(self.terms, n) != getattr(self.configured, n)]

    async def change(self, request: SetTerms) -> None:
        """Check and keep a change; it is in force when this returns. Raises ``BAD_REQUEST``."""
        checked = _checked(request)
        known = {name: getattr(self.kept.changes, name) for name in NAMES}
        given = {name: getattr(checked, name) for name in NAMES}
        kept = {name: value for name, value in known.items() if name not in checked.reset}
        kept |= {name: value for name, value in given.items() if value is not None}
        changes = SetTerms(**kept)
        await self.keep(msgspec.structs.replace(self.kept, changes=changes))

    async def keep(self, kept: KeptSettings) -> None:
        """Write settings down, then let them be in force and tell of them."""
        await self._compute.run(self._disk.replace, SETTINGS_FILE, msgspec.msgpack.encode(kept))
        self.take(kept)

    def take(self, kept: KeptSettings) -> None:
        """Let settings be in force, written down or not: a disk that fails must be left, too."""
        self.kept = kept
        self.terms = _merged(self.configured, kept.changes)
        for listener in self.listeners:
            listener()

    async def add_statement(self, statement: bytes) -> None:
        """Keep a coordinator's confirmation that the node left."""
        statements = [one for one in self.kept.statements if one != statement]
        statements = [*statements, statement][-STATEMENTS_MAX:]
        await self.keep(msgspec.structs.replace(self.kept, statements=statements))


def _merged(configured: ProviderTerms, changes: SetTerms) -> ProviderTerms:
    given = {name: getattr(changes, name) for name in NAMES}
    return msgspec.structs.replace(
        configured, **{name: value for name, value in given.items() if value is not None}
    )


def _read(disk: Disk) -> KeptSettings:
    if not disk.exists(SETTINGS_FILE):
        return KeptSettings()
    try:
        return msgspec.msgpack.decode(disk.read(SETTINGS_FILE), type=KeptSettings)
    except msgspec.MsgspecError as cause:
        raise AtollError(
            Kind.WRONG_FOLDER,
            "start node",
            f"{SETTINGS_FILE} cannot be read: {cause}",
            hint=f"remove {SETTINGS_FILE}; the folder's settings then hold again",
        ) from cause


def _checked(request: SetTerms) -> SetTerms:
    """Return a change in canonical form. Raises ``BAD_REQUEST`` that names the term."""
    bounds = (
        ("capacity_bytes", CAPACITY_BYTES_MIN, CAPACITY_BYTES_MAX, False),
        ("bandwidth_bytes_per_s", BANDWIDTH_BYTES_PER_S_MIN, CAPACITY_BYTES_MAX, True),
        ("traffic_bytes_month", TRAFFIC_BYTES_MIN, CAPACITY_BYTES_MAX, True),
        ("price_micro", 0, PRICE_MICRO_MAX, False),
        ("asn", 0, ASN_MAX, False),
    )
    for name, least, most, or_none in bounds:
        value = getattr(request, name)
        if value is None or (or_none and value == 0):
            continue
        if not least <= value <= most:
            alternative = ", or 0 for no limit" if or_none else ""
            raise _bad(f"{name} is {value}, allowed: {least} to {most}{alternative}")
    if request.tier is not None and request.tier not in TIERS:
        raise _bad(f"a tier is one of {', '.join(TIERS)}")
    for name in ("site", "region", "country"):
        value = getattr(request, name)
        if value is not None and not 0 < len(value) <= WORD_CHARACTERS_MAX:
            raise _bad(f"{name} is a word of up to {WORD_CHARACTERS_MAX} characters")
        if value is not None and not value.isprintable():
            raise _bad(f"{name} has a character that cannot be printed")
    for name in ("country", "parent_country"):
        value = getattr(request, name)
        if value and not (len(value) == 2 and value.isascii() and value.isalpha()):
            raise _bad(f"{name} is two letters, as DE")
    unknown = [name for name in request.reset if name not in NAMES]
    if unknown:
        raise _bad(f"there is no term {unknown[0]!r}")
    if request.calendar is None:
        return request
    return msgspec.structs.replace(
        request, calendar=format_calendar(parse_calendar(request.calendar))
    )


def _bad(message: str) -> AtollError:
    return AtollError(
        Kind.BAD_REQUEST, "set terms", message, hint="`atoll node set --help` lists the terms"
    )


def store_config_of(config: NodeConfig, capacity_bytes: int) -> NodeConfig:
    """Return a node's configuration with another capacity."""
    return replace(config, store=replace(config.store, capacity_bytes=capacity_bytes))
