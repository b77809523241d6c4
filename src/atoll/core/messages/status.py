"""The whole cloud at a glance."""

from atoll.core.messages.base import Message
from atoll.core.messages.upgrades import UpgradeStatus


class GetStatus(Message, frozen=True):
    """The whole cloud at a glance."""


class NodeStatus(Message, frozen=True):
    """One node as the coordinator sees it."""

    alias: int
    node_id: bytes
    operator: str
    site: str
    region: str
    country: str
    tier: str
    address: str
    state: str
    """``alive``, ``suspect``, ``dead``, ``lost``."""
    last_seen_ms: int
    capacity_bytes: int
    used_bytes: int
    free_bytes: int
    pieces: int
    full: bool
    errors: int
    standing: str = "vetted"
    """What reputation thinks of it: ``unvetted``, ``vetted``, ``trusted``, ``suspect``,
    ``suspended``, ``exiting`` or ``disqualified``."""


class RepairStatus(Message, frozen=True):
    """What repair is doing."""

    segments_degraded: int
    """Segments below full strength."""
    segments_urgent: int
    """Segments at or below their repair threshold."""
    pieces_missing: int
    pieces_repaired: int
    """Since the coordinator's first start."""
    bytes_downloaded: int
    bytes_uploaded: int
    running: int
    frozen: bool
    """Held back because too many nodes vanished at once."""


class SetsStatus(Message, frozen=True):
    """Whether nodes hold what the coordinator counts, by their latest comparisons."""

    nodes_compared: int = 0
    nodes_agreed: int = 0
    """Of them: those that counted the same, to the byte."""
    differing_bytes: int = 0
    """Sum of what the others are apart."""
    missing_pieces: int = 0
    """Pieces that nodes found missing in their latest comparison; they are rebuilt."""


class EpochsStatus(Message, frozen=True):
    """How far epochs are: use is charged and pay is settled by them."""

    epoch: int = 0
    """The newest that is closed; 0 before the first, and where there are none."""
    state: str = ""
    """Of that one: ``closed``, ``computed`` or ``published``."""
    until_ms: int = 0
    """When it ended."""
    epoch_final: int = 0
    """The newest whose root is final on the chain."""
    time_factor: int = 1
    """So many times longer is stored bytes' time: more than 1 in demonstrations only."""


class Survival(Message, frozen=True):
    """How many more nodes may die now."""

    any_nodes: int
    """Any that many may die at once with nothing unreadable."""
    nodes_alive: int
    next_loss_objects: int
    """Objects unreadable (until one returns) after the worst loss of one node more."""


class CloudStatus(Message, frozen=True):
    """The answer to ``GetStatus``."""

    time_ms: int
    nodes: list[NodeStatus]
    repair: RepairStatus
    survival: Survival
    buckets: int
    objects: int
    object_bytes: int
    segments: int
    pieces: int
    stored_bytes: int
    """Bytes of pieces on nodes, by the metadata."""
    garbage_pieces: int
    put_bytes: int
    """Sum over the nodes, since their first starts; two polls give a rate."""
    get_bytes: int
    one_machine: bool
    """All nodes are loopback addresses: no protection against the loss of this machine."""
    profile: str
    packs: int = 0
    """Segments that hold the ciphertexts of many small objects."""
    packed_objects: int = 0
    pack_dead_bytes: int = 0
    """Bytes in packs whose objects are gone; packs more dead than alive are written anew."""
    sets: SetsStatus = SetsStatus()
    upgrades: UpgradeStatus = UpgradeStatus()
    epochs: EpochsStatus = EpochsStatus()


CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    GetStatus: CloudStatus,
}
"""Requests of this family and their answers."""
