"""Makes the pages of residency attestations. Nothing is kept between two pages but the seal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.store import objects
from atoll.coordinator.metadata.store.objects import ObjectRow
from atoll.coordinator.placement.drift import violations
from atoll.coordinator.placement.model import Candidate, Policy
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.residency.store import Lying, lying
from atoll.core.attestation import (
    NodeLine,
    PieceLine,
    Seal,
    SegmentLine,
    Sums,
    extended,
    line_hash,
    line_of,
    page_leaf,
    root_of,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.policy.model import Evidence

PAGE_SEGMENTS_MAX = 200
PAGE_OBJECTS_MAX = 1000
_LAST_KEY = b"\xff" * 1100
"""Above every key."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: the first key not done, and the position within that object."""

    key: bytes = b""
    position: int = 0
    number: int = 0

    def text(self) -> str:
        """Return the form in a seal."""
        return f"{self.key.hex()}:{self.position}:{self.number}"


def read_cursor(text: str) -> Cursor:
    """Read a seal's cursor. Raises ``BAD_REQUEST``."""
    try:
        key, position, number = text.split(":")
        return Cursor(bytes.fromhex(key), int(position), int(number))
    except ValueError:
        raise AtollError(Kind.BAD_REQUEST, "attest", "the seal has no cursor") from None


@dataclass(frozen=True, slots=True)
class Found:
    """One segment of a page, with the object it belongs to."""

    key: bytes
    number: int
    segment: Lying


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a page will say, before it is judged."""

    found: tuple[Found, ...]
    objects: int
    """Objects that begin on this page, empty ones included."""
    after: Cursor | None
    """Where the next page begins; None at the end."""


def gather(connection: Connection, bucket: bytes, start: Cursor) -> Gathered:
    """Read the segments of one page."""
    found: list[Found] = []
    begun = 0
    rows = objects.list_objects(connection, bucket, start.key, _LAST_KEY, PAGE_OBJECTS_MAX)
    for row in rows:
        place = start if row.key == start.key else Cursor(row.key)
        after = _gather_object(connection, row, place, found)
        begun += place.number == 0 and after != place
        if after is not None:
            return Gathered(tuple(found), begun, after)
    if len(rows) < PAGE_OBJECTS_MAX:
        return Gathered(tuple(found), begun, None)
    return Gathered(tuple(found), begun, Cursor(rows[-1].key + b"\0"))


def _gather_object(
    connection: Connection, row: ObjectRow, place: Cursor, found: list[Found]
) -> Cursor | None:
    """Add an object's segments; return where to go on if the page is full."""
    if not row.segments:
        return None
    room = PAGE_SEGMENTS_MAX - len(found)
    if room <= 0:
        return place
    pages = lying(connection, row.stream, place.position, room)
    found += [Found(row.key, place.number + i, one) for i, one in enumerate(pages)]
    number = place.number + len(pages)
    if pages and number < row.segments:
        return Cursor(row.key, pages[-1].position + 1, number)
    return None


# --- lines ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ground:
    """What a page is judged by."""

    nodes: Mapping[int, Candidate]
    view_of: Callable[[int], NodeView | None]
    """Returns a node by its alias."""
    country_of: Callable[[str], str]
    """Returns an address's country, as far as it is known."""
    policy: Policy


def page_lines(gathered: Gathered, ground: Ground, *, hashed: bool) -> tuple[list[bytes], Sums]:
    """Return a page's lines (nodes, then segments) and what they count."""
    aliases = sorted({p.alias for one in gathered.found for p in one.segment.pieces})
    views = [ground.view_of(alias) for alias in aliases if alias in ground.nodes]
    lines = [line_of(_node_line(view, ground)) for view in views if view is not None]
    sums = Sums(objects=gathered.objects)
    for one in gathered.found:
        line, sums = _segment_line(one, ground, sums, hashed=hashed)
        lines.append(line_of(line))
    return lines, sums


def _node_line(view: NodeView, ground: Ground) -> NodeLine:
    subject = ground.nodes[view.alias].subject
    return NodeLine(
        alias=view.alias,
        facts=view.signed_facts.hex(),
        signature=view.signature.hex(),
        by_address=ground.country_of(view.facts.host),
        country=subject.country,
        parent_country=subject.parent_country or subject.country,
        region=subject.region,
        tier=subject.tier,
        evidence=subject.evidence.word,
        labels=sorted(subject.certificates),
        state=view.state.value,
    )


def _segment_line(
    one: Found, ground: Ground, sums: Sums, *, hashed: bool
) -> tuple[SegmentLine, Sums]:
    lies = one.segment
    against = {
        v.piece.index: v.text
        for v in violations(lies.pieces, ground.nodes, ground.policy)
        if v.hard
    }
    pieces = []
    counted = msgspec.structs.asdict(sums)
    counted["segments"] += 1
    for piece in lies.pieces:
        node = ground.nodes.get(piece.alias)
        text = against.get(piece.index, "")
        if node is None:
            text = "its node is not known here"
            counted["unknown"] += 1
        else:
            counted[Evidence(node.subject.evidence).word] += 1
        counted["pieces"] += 1
        counted["outside"] += bool(text)
        pieces.append(PieceLine(piece.index, piece.alias, text))
    line = SegmentLine(
        object=shown_key(one.key, hashed=hashed),
        number=one.number,
        segment=lies.segment.hex(),
        plain_bytes=lies.plain_bytes,
        k=lies.k,
        n=lies.n,
        packed=lies.packed,
        pieces=pieces,
    )
    return line, Sums(**counted)


def shown_key(key: bytes, *, hashed: bool) -> str:
    """Return how a line names an object."""
    return line_hash(key) if hashed else key.decode("utf-8", "replace")


def added(before: Sums, page: Sums) -> Sums:
    """Return the sums after a further page."""
    first, second = msgspec.structs.asdict(before), msgspec.structs.asdict(page)
    return Sums(**{name: first[name] + second[name] for name in first})


@dataclass(frozen=True, slots=True)
class Opening:
    """What all seals of one attestation say alike."""

    attestation: str
    head: str
    policy: int
    begun_ms: int
    objections: bool


def seal_of(
    opening: Opening,
    before: Seal | None,
    lines: Sequence[bytes],
    sums: Sums,
    after: Cursor | None,
    now_ms: int,
) -> Seal:
    """Return the seal of a page, which continues the one before."""
    hashes = [line_hash(line) for line in lines]
    page = 0 if before is None else before.page + 1
    peaks = [] if before is None else [bytes.fromhex(peak) for peak in before.peaks]
    peaks = extended(peaks, page, page_leaf(hashes))
    total = sums if before is None else added(before.sums, sums)
    last = after is None
    verdict = ""
    if last:
        good = not total.outside and not opening.objections
        verdict = "no policy" if opening.policy == 1 else "within" if good else "outside"
    return Seal(
        attestation=opening.attestation,
        page=page,
        lines=hashes,
        peaks=[peak.hex() for peak in peaks],
        sums=total,
        cursor="" if after is None else after.text(),
        policy=opening.policy,
        begun_ms=opening.begun_ms,
        time_ms=now_ms,
        last=last,
        root=root_of(peaks, page + 1).hex() if last else "",
        verdict=verdict,
        head=opening.head,
    )
