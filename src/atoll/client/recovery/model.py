"""The nouns of recovery: nodes to ask, objects found, what became of them."""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address


class NodePlace(msgspec.Struct, frozen=True):
    """Where a node listens."""

    node_id: str
    """Hex."""
    host: str
    port: int
    fingerprint: str = ""
    """SHA-256 of its certificate in hex; empty for plain HTTP on loopback."""

    @property
    def address(self) -> Address:
        """The address as transports take it."""
        return Address(self.host, self.port, bytes.fromhex(self.fingerprint))


class NodeList(msgspec.Struct, frozen=True):
    """The content of ``nodes.json``."""

    nodes: list[NodePlace]
    saved_ms: int = 0


def decode_nodes(content: bytes) -> NodeList:
    """Read a node list. Raises ``BAD_REQUEST``."""
    try:
        listed = msgspec.json.decode(content, type=NodeList)
        for node in listed.nodes:
            if len(bytes.fromhex(node.node_id)) != 32 or len(
                bytes.fromhex(node.fingerprint)
            ) not in (
                0,
                32,
            ):
                raise ValueError("an id or fingerprint has another length")
    except (msgspec.MsgspecError, ValueError, UnicodeDecodeError) as cause:
        raise AtollError(
            Kind.BAD_REQUEST,
            "read node list",
            f"this is no list of nodes: {cause}",
            hint="a running cloud writes nodes.json into its folder",
        ) from cause
    return listed


class Source(StrEnum):
    """What an object is known from."""

    MANIFEST = "manifest"
    CAPSULES = "capsules"
    """It is in no manifest: uploaded shortly before the end, perhaps never acknowledged."""


@dataclass(slots=True)
class NodeOutcome:
    """What a node did when it was asked."""

    place: NodePlace
    pieces: int = 0
    fault: str = ""
    lies: int = 0
    """Pieces it served with wrong bytes, or claimed and did not have."""


@dataclass(slots=True)
class RecoveryFigures:
    """Progress, for people and for the report."""

    nodes: int = 0
    nodes_answered: int = 0
    pieces: int = 0
    segments: int = 0
    buckets: int = 0
    manifests: int = 0
    objects: int = 0
    """Found, from manifests and capsules together."""
    objects_from_capsules: int = 0
    object_bytes: int = 0
    restored: int = 0
    restored_bytes: int = 0
    skipped: int = 0
    """Restored by an earlier run."""
    failed: int = 0
    stage: str = "begin"


@dataclass(slots=True)
class Problem:
    """Something that could not be brought back, and why."""

    what: str
    why: str


@dataclass(slots=True)
class RecoveryReport:
    """All that a recovery has to say at its end."""

    figures: RecoveryFigures
    nodes: list[NodeOutcome] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    problems_total: int = 0
    notes: list[Problem] = field(default_factory=list)
    """What was left out on purpose: it was never acknowledged as far as is known."""
    buckets: list[str] = field(default_factory=list)

    def joined(self, other: "RecoveryReport") -> "RecoveryReport":
        """Return this report and that of another account of the same phrase as one."""
        ours, theirs = self.figures, other.figures
        figures = RecoveryFigures(
            nodes=ours.nodes, nodes_answered=ours.nodes_answered, stage="done"
        )
        for name in _SUMMED:
            setattr(figures, name, getattr(ours, name) + getattr(theirs, name))
        for mine, more in zip(self.nodes, other.nodes, strict=True):
            mine.pieces += more.pieces
            mine.lies += more.lies
            mine.fault = mine.fault or more.fault
        return RecoveryReport(
            figures=figures,
            nodes=self.nodes,
            problems=(self.problems + other.problems)[:PROBLEMS_MAX],
            problems_total=self.problems_total + other.problems_total,
            notes=(self.notes + other.notes)[:PROBLEMS_MAX],
            buckets=sorted({*self.buckets, *other.buckets}),
        )


_SUMMED = (
    "pieces",
    "segments",
    "buckets",
    "manifests",
    "objects",
    "objects_from_capsules",
    "object_bytes",
    "restored",
    "restored_bytes",
    "skipped",
    "failed",
)

PROBLEMS_MAX = 10_000
"""Problems told one by one; further ones are counted."""
