"""A provider's own terms: capacity, traffic, price, calendar, exit, evacuation.

Two conversations. The provider speaks to his own node (``/v1/owner/…``, signed by the node's own
key); the node speaks to its coordinators about pieces it moves elsewhere.
"""

from atoll.core.messages.base import Message
from atoll.core.messages.objects import PieceGrant

TERMS_PATH = "/v1/owner/terms"
"""GET shows a node's terms, POST ``SetTerms`` changes them; both answer ``TermsShown``."""
EXIT_PATH = "/v1/owner/exit"
"""POST ``SetExit``; answers ``TermsShown``."""
MOVES_MAX = 64
"""Pieces in one ``PlanMoves`` or ``ReportMoves``."""
REFUSERS_MAX = 256
DEPARTURE_PURPOSE = b"departure/1"

# --- provider and node ---------------------------------------------------------------------------


class ProviderTerms(Message, frozen=True):
    """All that a provider decides about his node."""

    capacity_bytes: int
    bandwidth_bytes_per_s: int = 0
    """In each direction; 0 for no limit."""
    traffic_bytes_month: int = 0
    """Both directions together in a calendar month (UTC); 0 for no limit."""
    price_micro: int = 0
    """Micro-euro per TB and month asked."""
    calendar: str = ""
    """``core.calendar``; empty for always."""
    tier: str = "home"
    site: str = ""
    region: str = ""
    country: str = ""
    parent_country: str = ""
    asn: int = 0


class SetTerms(Message, frozen=True):
    """Change some terms; what is None stays. ``reset`` names terms that go back to the folder's."""

    capacity_bytes: int | None = None
    bandwidth_bytes_per_s: int | None = None
    traffic_bytes_month: int | None = None
    price_micro: int | None = None
    calendar: str | None = None
    tier: str | None = None
    site: str | None = None
    region: str | None = None
    country: str | None = None
    parent_country: str | None = None
    asn: int | None = None
    reset: list[str] = []


class SetExit(Message, frozen=True):
    """Begin to leave, or (``exiting`` false) stay after all: also after an evacuation."""

    exiting: bool


class MoveProgress(Message, frozen=True):
    """How far a node is with moving its pieces elsewhere."""

    reason: str = ""
    """``evacuate``, ``exit``, ``shrink``, or empty where nothing is to be moved."""
    state: str = "idle"
    """``idle``, ``moving``, ``waiting`` (``detail`` says for what) or ``done``."""
    began_ms: int = 0
    total_pieces: int = 0
    total_bytes: int = 0
    left_pieces: int = 0
    left_bytes: int = 0
    """To be moved still; whole records."""
    moved_pieces: int = 0
    moved_bytes: int = 0
    bytes_per_s: int = 0
    """Lately; 0 where nothing moved lately."""
    detail: str = ""


class PressureShown(Message, frozen=True):
    """How busy the machine is with other work, and what the node does about it."""

    level: int = 0
    """0 calm; 1 and 2 less and least background work; 3 transfers slowed down, too."""
    cpu_percent: float = 0.0
    """Share of the last ten seconds in which something waited for a processor (PSI)."""
    io_percent: float = 0.0
    memory_percent: float = 0.0
    known: bool = False
    """Whether this machine tells."""


class TermsShown(Message, frozen=True):
    """A node's terms and how it stands by them."""

    node_id: bytes
    terms: ProviderTerms
    changed: list[str] = []
    """Terms that differ from the folder's settings because the provider set them live."""
    effective_capacity_bytes: int = 0
    """Less than offered where the disk fills up with other files."""
    used_bytes: int = 0
    trash_bytes: int = 0
    pieces: int = 0
    month: str = ""
    month_bytes: int = 0
    """Traffic of this calendar month so far."""
    refuses: str = ""
    """Why new pieces are refused now; empty where they are not."""
    online: bool = True
    """By the calendar, now."""
    next_change_ms: int = 0
    """When the calendar next changes that; 0 for never."""
    exiting: bool = False
    evacuating: str = ""
    progress: MoveProgress = MoveProgress()
    pressure: PressureShown = PressureShown()
    statements: list[bytes] = []
    """Encoded ``DepartureStatement`` of coordinators that the node left."""


# --- node and coordinator ------------------------------------------------------------------------


class MovePiece(Message, frozen=True):
    """A piece that its node wants to move."""

    segment: bytes
    index: int


class PlanMoves(Message, frozen=True):
    """Where may these pieces go? At most ``MOVES_MAX``."""

    reason: str
    """``evacuate``, ``exit`` or ``shrink``."""
    pieces: list[MovePiece]
    refused: list[int] = []
    """Aliases of nodes that lately did not take a piece."""


class PlannedMove(Message, frozen=True):
    """What becomes of one piece."""

    segment: bytes
    index: int
    outcome: str
    """``go`` (with a grant), ``not_recorded`` (nobody counts on it), ``no_room`` (ask later),
    ``busy`` (repair is at its segment; ask later)."""
    grants: list[PieceGrant] = []
    """One ``REPAIR_PUT`` grant, or none."""


class MovePlan(Message, frozen=True):
    """The answer, in the order to go by: what is least safe first in an evacuation, else last."""

    moves: list[PlannedMove]
    left_pieces: int
    """Pieces that the coordinator still records at the node."""


class MovedPiece(Message, frozen=True):
    """A piece that its new holder has acknowledged."""

    segment: bytes
    index: int
    alias: int
    """The new holder."""
    receipt: bytes
    """Its signed piece receipt."""
    piece_roots: list[bytes]
    """Roots of all pieces of the segment: they must make the recorded segment root."""


class ReportMoves(Message, frozen=True):
    """These pieces lie elsewhere now. At most ``MOVES_MAX``."""

    reason: str
    moved: list[MovedPiece]


class MovesRecorded(Message, frozen=True):
    """What was recorded, in the order of the request."""

    outcomes: list[str]
    """``recorded`` (the old copy may go), ``changed`` (the segment is another by now, ask again) or
    ``wrong`` (the receipt or the roots do not show the move)."""
    left_pieces: int


class EndDeparture(Message, frozen=True):
    """All is moved: confirm it. Errors: ``CONFLICT`` while pieces are recorded at the node."""


class Departure(Message, frozen=True):
    """What a coordinator confirms about a node that left, or emptied itself."""

    node_id: bytes
    coordinator_key: bytes
    alias: int
    reason: str
    began_ms: int
    ended_ms: int
    moved_pieces: int
    moved_bytes: int
    left_pieces: int
    """Pieces recorded at the node when it was signed: 0."""


class DepartureStatement(Message, frozen=True):
    """An encoded ``Departure`` with the coordinator's signature for ``departure/1``."""

    departure: bytes
    signature: bytes


NODE_REQUESTS: dict[type[Message], type[Message]] = {
    PlanMoves: MovePlan,
    ReportMoves: MovesRecorded,
    EndDeparture: DepartureStatement,
}
"""Requests of nodes of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of gateways of this family and their answers."""
