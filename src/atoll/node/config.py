"""What a node's operator decides, with defaults that suit a home server."""

from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.core.ports import Address

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class PayoutAccess:
    """What a node may use to let its earnings go."""

    account: bytes
    """On the chain, 20 bytes."""
    sign: Callable[[bytes], bytes]
    """Signs 32 bytes with that account's key."""
    iban: Callable[[], str]
    """The bank account that the provider named last, from the node's own folder; blocks. Empty:
    nothing is let go."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How pieces are kept. Sizes in bytes."""

    capacity_bytes: int = 100 * GIB
    """What the operator offers: the logs never take more for new pieces."""
    log_bytes: int = GIB
    log_step_bytes: int = 64 * MIB
    reserve_bytes: int = 2 * GIB
    """Kept free on the disk for deletions and compaction; new pieces are refused before."""
    sync_window_ms: int = 5
    """How long a busy store gathers writes before a sync (0..10)."""
    trash_ms: int = 7 * DAY_MS
    """Deleted pieces stay so long, whatever a coordinator says."""
    maintenance_interval_s: float = 60.0
    compaction_bytes_per_s: int = 32 * MIB
    compaction_live_percent: int = 50
    """A log with a smaller share of live bytes is copied together."""
    scrub_bytes_per_s: int = 8 * MIB
    """Rate of the background check; 0 turns it off. 8 MiB/s read 10 TB in two weeks."""
    scrub_pause_s: float = 6 * 3600.0
    """Between two rounds of it: a small store is not read without end."""

    def __post_init__(self) -> None:
        if not 0 <= self.sync_window_ms <= 10:
            raise ValueError("sync_window_ms is 0..10")
        if not 0 < self.log_step_bytes <= self.log_bytes:
            raise ValueError("a log grows in steps no larger than itself")
        if not 0 <= self.compaction_live_percent <= 90:
            raise ValueError("compaction_live_percent is 0..90")


def small_store(capacity_bytes: int) -> StoreConfig:
    """Return the store's settings for a node of a local cloud: small logs, small reserve."""
    return StoreConfig(
        capacity_bytes=capacity_bytes,
        log_bytes=64 * MIB,
        log_step_bytes=8 * MIB,
        reserve_bytes=128 * MIB,
        maintenance_interval_s=10.0,
        scrub_bytes_per_s=MIB,
    )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Who this node is, what it offers, whom it serves."""

    operator: str
    site: str
    region: str
    country: str
    tier: str
    """``edge``, ``home``, ``pro`` or ``dc``."""
    host: str
    """Where others reach it."""
    port: int
    fingerprint: bytes = b""
    """SHA-256 of its TLS certificate; empty on loopback."""
    certificates: tuple[bytes, ...] = ()
    """What issuers certify about the node or its operator, as encoded."""
    price_micro: int = 0
    """Micro-euro per TB and month asked."""
    bandwidth_bytes_per_s: int = 0
    """In each direction; 0 for no limit. This and what follows may be changed while it runs."""
    traffic_bytes_month: int = 0
    """Both directions together in a calendar month; 0 for no limit."""
    calendar: str = ""
    """``core.calendar``; empty for always online."""
    parent_country: str = ""
    asn: int = 0
    payout_account: bytes = b""
    """Account on the settlement chain (20 bytes); empty where the chain's libraries are not there:
    the node earns nothing."""
    payout: PayoutAccess | None = None
    """How the node lets go what is paid out in euros; None where it cannot."""
    coordinators: tuple[Address, ...] = ()
    yields_level_max: int = 3
    """How far it gives way to other work on the machine (``node.pressure``): 0 not at all, 2 with
    its background work, 3 with transfers, too."""
    watch_interval_s: float = 10.0
    """How often the disk's room and health are looked at."""
    moves_at_once: int = 4
    """Pieces on their way to other nodes when this one leaves or shrinks."""
    repair_tasks: int = 1
    """Repairs of others' segments taken over at a time, for pay; 0 for none."""
    repair_bytes_per_s: int = 8 * MIB
    """The pace of that work, reading and sending together."""
    store: StoreConfig = field(default_factory=StoreConfig)
    transfer_memory_bytes: int = 24 * MIB
    """What pieces on their way in and out may hold in memory; more wait their turn."""
    transfers_waiting_max: int = 1024
    transfer_wait_s: float = 8.0
    """A transfer that finds no turn within this time is refused as ``OVERLOADED``."""
    deletes_max: int = 8
    """Requests for deletion worked on at the same time; more are refused as ``OVERLOADED``."""
    order_skew_ms: int = 60_000
    """How far the clocks of node and coordinator may differ."""
    heartbeat_timeout_s: float = 10.0
    body_stall_s: float = 30.0
    """A download that does not move for so long is ended; so is an upload that takes longer than
    this and the time its bytes need at 16 KiB/s."""
