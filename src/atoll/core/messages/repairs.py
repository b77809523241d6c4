"""Repair work that nodes take over, and what repair has measured.

A node asks for work, gets one segment's rebuild with all orders for it, carries it out and shows
the receipts of the nodes that hold the new pieces. It is not believed anything: the committed roots
and the signatures of the targets say what was done.
"""

from atoll.core.messages.base import Message
from atoll.core.messages.objects import PieceGrant
from atoll.core.messages.upgrades import UpgradeStatus

TASK_RECEIPTS_MAX = 255


class AskRepairWork(Message, frozen=True):
    """A node has time for one repair that moves at most so many bytes (read and sent together)."""

    bytes_max: int


class RepairTask(Message, frozen=True):
    """One segment's repair. ``sources`` are read, ``targets`` get what is built."""

    task: bytes
    """16 random bytes."""
    segment: bytes
    segment_root: bytes
    k: int
    n: int
    unit_bytes: int
    plain_bytes: int
    data_bytes: int
    payer_tag: bytes
    """Goes into the heads of the new pieces."""
    move: bool
    """Each target gets the piece of the source with its index, as it is; else ``k`` are decoded."""
    sources: list[PieceGrant]
    targets: list[PieceGrant]
    until_ms: int
    """The work is taken away and given to another after this, by the coordinator's clock."""


class RepairOffer(Message, frozen=True):
    """The answer: a task or none, and when to ask again."""

    task: RepairTask | None
    again_ms: int


class FinishRepairWork(Message, frozen=True):
    """A task's end: what the targets signed, or why there is nothing."""

    task: bytes
    trailer: bytes = b""
    """The segment's committed roots as a source served them (``docs/spec/piece.md``)."""
    receipts: list[bytes] = []
    """Of the targets that hold their piece now."""
    released: bool = False
    """Whether any target may hold a piece, receipt or not."""
    wrong: list[int] = []
    """Indexes of sources whose bytes are not what was committed to: they will be looked at."""
    failure: str = ""
    """In words, where nothing was stored."""


class RepairSettled(Message, frozen=True):
    """The answer: what was recorded, and the bytes that count for pay."""

    pieces: int
    downloaded_bytes: int
    uploaded_bytes: int


class GetRepairFigures(Message, frozen=True):
    """What has repair measured in the last so many days?"""

    days: int = 30


class WorkerFigures(Message, frozen=True):
    """What one node's repair work came to."""

    alias: int
    tasks: int
    failed: int
    """Taken and not finished, or finished with nothing."""
    false_claims: int
    """Receipts or roots shown that are not what was committed to."""
    pieces: int
    downloaded_bytes: int
    uploaded_bytes: int
    last_ms: int


class SchemeHold(Message, frozen=True):
    """How many segments of one scheme there are, and what those hold."""

    k: int
    n: int
    segments: int
    plain_bytes: int
    piece_bytes: int
    survives: list[list[int]]
    """Pairs (N, segments): so many survive the loss of any N more nodes, and not of N + 1."""
    shared_pieces_max: int
    """Most pieces of one segment in one operator, network or site."""


class RepairFigures(Message, frozen=True):
    """The answer to ``GetRepairFigures``: what durability is computed from."""

    days: int
    node_days: float
    """Time of nodes observed that were not lost."""
    nodes_lost: int
    healed: int
    healed_hours_mean: float
    """How long segments waited until they were whole again."""
    healed_hours_max: float
    noticed_hours: float
    """After so long a silent node's pieces count as gone: comes before the healing."""
    holds: list[SchemeHold]
    workers: list[WorkerFigures]
    operators: int
    """Independent operators with a node alive."""
    nodes: int
    one_machine: bool
    frozen: bool
    upgrades: UpgradeStatus = UpgradeStatus()
    """Filled in by the gateway that is asked (``GetUpgrades``)."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {
    AskRepairWork: RepairOffer,
    FinishRepairWork: RepairSettled,
}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {GetRepairFigures: RepairFigures}
"""Requests of gateways of this family and their answers."""
