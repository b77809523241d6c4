"""What a node tells a coordinator, signed by the node's key: facts, heartbeats."""

from atoll.core.messages.base import Message


class RelayPlace(Message, frozen=True):
    """One relay that carries a node's connections."""

    relay_id: bytes
    """SHA-256 of the relay's key, as a node id."""
    operator: str
    host: str
    port: int
    """The port at which the relay listens for this node."""


class NodeFacts(Message, frozen=True):
    """What a node says about itself; signed by its key, believed only as far as stated."""

    public_key: bytes
    operator: str
    site: str
    region: str
    country: str
    tier: str
    """``edge``, ``home``, ``pro`` or ``dc``."""
    host: str
    port: int
    fingerprint: bytes
    """SHA-256 of the TLS certificate; empty on loopback."""
    capacity_bytes: int
    price_micro: int
    """Micro-euro per TB and month asked."""
    version: str
    parent_country: str = ""
    """Country whose law binds the operator's parent; empty where that is ``country`` itself."""
    asn: int = 0
    """Autonomous system of the address; 0 where it is not known."""
    certificates: list[bytes] = []
    """Certificates about this node or its operator (``core.certificates``)."""
    calendar: str = ""
    """When the node is online (``core.calendar``); empty for always."""
    bandwidth_bytes_per_s: int = 0
    """What the node offers in each direction; 0 for no limit."""
    traffic_bytes_month: int = 0
    """What it serves in a calendar month; 0 for no limit."""
    exiting: bool = False
    """It leaves gracefully: nothing new for it, its pieces move elsewhere."""
    evacuating: str = ""
    """Why its pieces must move before they are lost (a failing disk); empty for no reason."""
    relays: list[RelayPlace] = []
    """Where it is reached when it has no address of its own; ``host`` and ``port`` are then the
    first relay's."""
    payout_account: bytes = b""
    """Account on the settlement chain (20 bytes) that the node is paid to; empty: it names none
    and earns nothing."""


class SignedFacts(Message, frozen=True):
    """Encoded ``NodeFacts`` with the node's signature for purpose ``node-facts/1``."""

    facts: bytes
    signature: bytes


class Register(Message, frozen=True):
    """A node asks to take part, or says that its facts changed."""

    signed_facts: SignedFacts


class Registered(Message, frozen=True):
    """The answer: the node's alias, and whose orders it may obey."""

    alias: int
    coordinator_key: bytes
    heartbeat_interval_ms: int
    time_ms: int
    link_key: bytes = b""
    """Lets a MAC stand for an order's signature (``orders.check_order``); empty for none."""


class NodeCounters(Message, frozen=True):
    """A node's own figures, monotone since its first start where they count."""

    used_bytes: int
    trash_bytes: int
    free_bytes: int
    pieces: int
    put_bytes: int
    get_bytes: int
    errors: int


class Heartbeat(Message, frozen=True):
    """I am here; what I hold; what I know I lost."""

    time_ms: int
    incarnation: int
    """Grows at every start of the node."""
    full: bool
    counters: NodeCounters
    lost_pieces: list[bytes] = []
    """Piece ids found corrupt or missing by the node itself (at most 1,000 at a time)."""


class HeartbeatAnswer(Message, frozen=True):
    """Go on; register again if ``known`` is false."""

    known: bool
    time_ms: int
    heartbeat_interval_ms: int


NODE_REQUESTS: dict[type[Message], type[Message]] = {
    Register: Registered,
    Heartbeat: HeartbeatAnswer,
}
"""Requests of this family and their answers."""
