"""Possession: what nodes and verifiers ask a coordinator, and verifiers each other.

Signed statements travel as bytes, exactly as they were signed: ``core.proofs`` reads them.
"""

from atoll.core.messages.base import Message

RANGES_MAX = 4096
"""Ranges in one answer."""
ENTRIES_MAX = 4096
"""Entries in one answer; all of the last serial are given."""
MISSING_MAX = 4096
"""Pieces a node may call missing in one message."""
VERDICTS_MAX = 512
"""Verdicts in one message of a verifier."""
RESULTS_MAX = 200


class VerifierPlace(Message, frozen=True):
    """A verifier and where it listens."""

    key: bytes
    host: str
    port: int
    fingerprint: bytes
    operator: str


class ProofSync(Message, frozen=True):
    """A node asks where the proofs stand."""


class ProofState(Message, frozen=True):
    """What is to be proven now."""

    time_ms: int
    epoch: int
    """Latest epoch: its head should be agreed upon soon."""
    head_epoch: int
    """Epoch of the latest head that both sides signed; -1 for none."""
    slot: int
    slot_ms: int
    beacon: bytes
    """Encoded signed ``BeaconValue`` of this slot; empty while there is none."""
    samples: int
    """Samples asked of this node in this slot; 0: no proof, the beacon only tells the time."""
    verifiers: list[VerifierPlace]
    pause_ms: int
    """Ask again after so long."""


class RangeInfo(Message, frozen=True):
    """One range of a tree, as the coordinator's metadata make it."""

    range: int
    entries: int
    leaves: int
    piece_bytes: int
    digest: bytes


class GetProofRanges(Message, frozen=True):
    """A node asks what it should hold. The first page (``after`` -1) takes the set anew."""

    after: int


class ProofRanges(Message, frozen=True):
    """Ranges in order."""

    epoch: int
    """Epoch of the head that these ranges will make: the slot in which the set was taken."""
    ranges: list[RangeInfo]
    more: bool
    frozen_ms: int


class EntryInfo(Message, frozen=True):
    """One piece that the node should hold."""

    serial: int
    segment: bytes
    index: int
    segment_root: bytes
    piece_bytes: int


class GetProofEntries(Message, frozen=True):
    """A node asks for the pieces of a range in which the two sides differ."""

    epoch: int
    range: int
    after_serial: int


class ProofEntries(Message, frozen=True):
    """Pieces of a range by serial, as the coordinator has them now, and what they make together."""

    entries: list[EntryInfo]
    more: bool
    top: RangeInfo | None
    """Given with the last page; None where nothing is left of the range."""


class MissingPiece(Message, frozen=True):
    """A piece that the node should hold and does not."""

    serial: int
    index: int


class AgreeHead(Message, frozen=True):
    """A node says what root it makes of the set, without what it misses, and signs the answer.

    First with the root alone; then, with the head that came back, its signature.
    """

    epoch: int
    root: bytes
    missing: list[MissingPiece] = []
    signature: bytes = b""


class HeadAnswer(Message, frozen=True):
    """The head, if both roots are the same; else empty: compare the ranges again."""

    head: bytes
    """Encoded ``SignedHead``; the node's signature is in it once it was given."""


class VerifierSync(Message, frozen=True):
    """A verifier says that it is there, and hands over what it has."""

    time_ms: int
    host: str
    port: int
    fingerprint: bytes
    operator: str
    chain: bytes
    """Encoded signed ``ChainCommit`` of the period, or the next one; empty at first contact."""
    reveal: bytes = b""
    """Encoded ``Reveal`` for the current slot."""
    verdicts: list[bytes] = []
    """Encoded ``SignedVerdict``s."""
    evidence: list[bytes] = []
    """Encoded ``Evidence``."""


class VerifierState(Message, frozen=True):
    """What a verifier needs to know."""

    time_ms: int
    coordinator_key: bytes
    slot: int
    slot_ms: int
    reveal_slot: int
    """A reveal is wanted for this slot; 0 for none."""
    beacon: bytes
    """Encoded signed ``BeaconValue`` of this slot; empty while there is none."""
    verifiers: list[VerifierPlace]
    chains: list[bytes]
    """Encoded signed ``ChainCommit`` of every verifier."""
    excluded: list[bytes]
    """Keys of verifiers that were proven liars."""
    pause_ms: int
    chain_known: bool


class GetProofs(Message, frozen=True):
    """Ask for the latest verdicts, newest first: of one node, or of all (``alias`` 0)."""

    alias: int = 0
    node: str = ""
    """Or by the beginning of its id in hex (with or without ``n-``)."""
    before_slot: int = 0
    """Only older ones; 0 for the newest."""
    limit: int = 20
    failed_only: bool = False


class ProofResult(Message, frozen=True):
    """The outcome of one slot for one node."""

    slot: int
    slot_ms: int
    alias: int
    node_id: bytes
    outcome: str
    """``passed``, ``failed`` or ``missed``."""
    samples: int
    failed: int
    verdict: bytes
    """Encoded ``SignedVerdict``; empty where the proof was missed."""
    pieces: list[bytes] = []
    """Ids of the pieces that failed."""


class ProofList(Message, frozen=True):
    """Verdicts, and where proofs are kept."""

    time_ms: int
    slot: int
    epoch: int
    coordinator_key: bytes
    results: list[ProofResult]
    verifiers: list[VerifierPlace]
    excluded: list[bytes]
    heads: list[bytes]
    """Encoded ``SignedHead``: the newest that is agreed, of each node asked for."""
    chains: list[bytes]
    """Encoded signed ``ChainCommit`` of every verifier."""
    evidence: list[bytes]
    """Encoded ``Evidence`` against verifiers and nodes, newest first."""


NODE_REQUESTS: dict[type[Message], type[Message]] = {
    ProofSync: ProofState,
    GetProofRanges: ProofRanges,
    GetProofEntries: ProofEntries,
    AgreeHead: HeadAnswer,
    VerifierSync: VerifierState,
}
"""Requests of nodes (and verifiers) of this family and their answers."""
CONTROL_REQUESTS: dict[type[Message], type[Message]] = {GetProofs: ProofList}
"""Requests of gateways of this family and their answers."""
