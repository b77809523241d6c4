"""The nouns of metering: counts, lines, epochs, proofs."""

import hashlib
from dataclasses import dataclass

import msgspec

from atoll.core.money import MONTH_MS

LINE_LABEL = b"atoll/meter-line/1\0"
PROOFS_LABEL = b"atoll/meter-proofs/1\0"
REPAIR_LABEL = b"atoll/meter-repair/1\0"
NOBODY = 0
"""In place of an alias: the piece that was rebuilt lay nowhere any more."""
EPOCH_MS_MAX = MONTH_MS


@dataclass(frozen=True, slots=True)
class MeteringConfig:
    """How often meters are read."""

    pause_s: float
    """What comes and goes between two readings is not charged."""


PROFILES = {
    "local": MeteringConfig(5.0),
    "demo": MeteringConfig(2.0),
    "wan": MeteringConfig(900.0),
}
"""By timer profile."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Pieces of one bucket at one node."""

    alias: int
    bucket: bytes


@dataclass(frozen=True, slots=True)
class Count:
    """What lies in a place at one moment."""

    account: bytes
    """Whose bucket it is."""
    piece_bytes: int


@dataclass(frozen=True, slots=True)
class Line:
    """So many bytes, in one place, from one time until another, at one price."""

    place: Place
    account: bytes
    piece_bytes: int
    price_pico: int
    """As the node had posted it, per GB-month; 0: the reference."""
    from_ms: int
    until_ms: int
    """0 while it goes on: until the last reading."""
    epoch: int = 0
    """In which it is settled; 0 while none was closed over it."""
    head: bytes = b""
    """SHA-256 of the head of the node's sum tree that both sides had signed last."""

    @property
    def byte_ms(self) -> int:
        """Bytes times time."""
        return self.piece_bytes * (self.until_ms - self.from_ms)

    def evidence(self, node_id: bytes) -> bytes:
        """Return the hash that stands for this line, with the head it rests on."""
        body = msgspec.msgpack.encode(
            (
                node_id,
                self.place.bucket,
                self.account,
                self.piece_bytes,
                self.price_pico,
                self.from_ms,
                self.until_ms,
                self.head,
            )
        )
        return hashlib.sha256(LINE_LABEL + body).digest()


@dataclass(frozen=True, slots=True)
class RepairWork:
    """Pieces of one node that a worker rebuilt in one task, shown by receipts."""

    task: bytes
    worker: int
    failed: int
    """Alias of the node that held them last; ``NOBODY`` where no row says so."""
    piece_bytes: int
    done_ms: int
    receipts: bytes
    """The targets' signed receipts, one after the other."""

    def evidence(self) -> bytes:
        """Return the hash that stands for this work."""
        head = self.failed.to_bytes(4, "big") + self.piece_bytes.to_bytes(8, "big")
        return hashlib.sha256(REPAIR_LABEL + self.task + head + self.receipts).digest()


@dataclass(frozen=True, slots=True)
class ClosedEpoch:
    """An epoch whose lines are fixed."""

    epoch: int
    from_ms: int
    until_ms: int
    slots_end: int
    """First slot of the next epoch."""


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What a slot brought for one node, as the audit wrote it."""

    alias: int
    slot: int
    outcome: str
    samples: int
    failed: int
    verdict: bytes


@dataclass(frozen=True, slots=True)
class NodeProofs:
    """A node's slots of one epoch together."""

    alias: int
    slots_due: int
    slots_missed: int
    samples: int
    failed: int
    evidence: bytes
