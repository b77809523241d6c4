"""Recovery without a coordinator: owners at nodes, changes on their way into manifests."""

from atoll.core.messages.base import Message
from atoll.core.messages.objects import BucketInfo, Done, ObjectFacts, SegmentRecord
from atoll.core.messages.retention import LockState, SegmentLock

OWNED_PIECES_MAX = 1000
"""Pieces of one page of ``OwnedPieces``."""
CHANGES_MAX = 1000
"""Changes of one ``ChangeBatch``."""
ENTRIES_MAX = 500
"""Objects of one ``ManifestPage``."""


# --- an owner at a node (with his proof, see docs/spec/owner-access.md) ---------------------------


class ListOwned(Message, frozen=True):
    """Pieces of the owner who proves himself, by piece id after ``after``."""

    tag: bytes = b""
    """Bucket tag (16 bytes), or empty for all."""
    after: bytes = b""
    limit: int = OWNED_PIECES_MAX


class OwnedPiece(Message, frozen=True):
    """One piece that a node holds."""

    piece: bytes
    segment: bytes
    index: int
    segment_root: bytes
    tag: bytes
    """Empty where the record has none."""
    issuer: int
    """Short name of the coordinator under whose orders it is kept."""
    segment_serial: int
    trash: bool
    """A coordinator had it deleted; it can still be read."""


class OwnedPieces(Message, frozen=True):
    """One page; ``more`` where another follows."""

    pieces: list[OwnedPiece]
    more: bool


class AdoptPiece(Message, frozen=True):
    """A piece and the serial that its segment has at the new coordinator."""

    piece: bytes
    segment_serial: int


class AdoptPieces(Message, frozen=True):
    """These pieces of the owner shall obey another coordinator, which the node serves already."""

    coordinator_key: bytes
    pieces: list[AdoptPiece]


class SignedAdoption(Message, frozen=True):
    """Encoded ``AdoptPieces`` with the owner's signature for purpose ``adopt/1``."""

    body: bytes
    signature: bytes


class PiecesAdopted(Message, frozen=True):
    """One word per piece: empty where it obeys the new coordinator now, else a failure's kind."""

    outcomes: list[str]


# --- changes on their way into manifests ----------------------------------------------------------


class ObjectEntry(Message, frozen=True, tag="e"):
    """An object as manifests keep it."""

    key: str
    modified_ms: int
    facts: ObjectFacts
    segments: list[SegmentRecord]
    """Without pieces: repair moves those, their holders name them."""
    lock: LockState | None = None
    """How it is locked; None where it never was. Its holders' records may be newer."""


class ObjectChange(Message, frozen=True, tag="c"):
    """What a transaction did to one key, in the order of ``sequence`` among those of the key."""

    sequence: int
    key: str
    time_ms: int
    entry: ObjectEntry | None
    """None: the key was deleted."""


class CatalogueEntry(Message, frozen=True, tag="b"):
    """A bucket as the catalogue of its account keeps it, its default lock included."""

    bucket: BucketInfo
    policy_text: str = ""
    """The policy's canonical text; empty where it has none."""


class SegmentMove(Message, frozen=True, tag="m"):
    """A small segment lies in a pack by now, whatever entries of before say."""

    record: SegmentRecord
    """With its place in the pack, without pieces."""


class TakeChanges(Message, frozen=True):
    """A manifest writer asks for changes to write: its own first, then those of writers gone."""

    writer: bytes
    """16 bytes per process: 8 that name the root key it has, 8 random ones. Changes go to writers
    with the keys of those that made them."""
    limit: int = CHANGES_MAX


class ChangeBatch(Message, frozen=True):
    """Changes of one bucket, or news of an account's buckets, leased to the writer."""

    bucket: BucketInfo | None = None
    """None: nothing waits (then ``account`` is empty) or the account's catalogue changed."""
    account: bytes = b""
    """The account whose catalogue is to be written anew; ``buckets`` are all it has."""
    number: int = 0
    """Of the manifest that these become."""
    changes: list[ObjectChange] = []
    moves: list[SegmentMove] = []
    buckets: list[CatalogueEntry] = []
    sequences: list[int] = []
    """All outbox rows of the batch, to be acknowledged together."""
    compact: bool = False
    """The bucket's deltas have outgrown its snapshot: the writer should make a new one."""


class CommitManifest(Message, frozen=True):
    """A manifest lies durably on nodes: keep its segments, drop what it carries on.

    A snapshot replaces all manifests up to ``covers``. Error: ``CONFLICT`` where another writer
    holds the batch by now (the segments are then collected).
    """

    writer: bytes
    bucket: bytes
    """The bucket, or the account for its catalogue."""
    number: int
    snapshot: bool
    segments: list[SegmentRecord]
    covers: int = 0
    sequences: list[int] = []


class BeginSnapshot(Message, frozen=True):
    """Ask for the lease to compact a bucket's manifests. Error: ``CONFLICT`` (another does)."""

    writer: bytes
    bucket: bytes


class SnapshotLease(Message, frozen=True):
    """A snapshot of this number may be written; it will cover all manifests up to ``covers``."""

    number: int
    covers: int


class ReadEntries(Message, frozen=True):
    """Objects of a bucket in key order after ``after``, as manifests keep them."""

    bucket: bytes
    after: str = ""
    limit: int = ENTRIES_MAX


class EntryPage(Message, frozen=True):
    """One page; ``pending_sequence`` is the newest change that the page may reflect."""

    entries: list[ObjectEntry]
    more: bool
    pending_sequence: int


class ManifestLag(Message, frozen=True):
    """Ask how far a bucket's manifests are behind."""

    bucket: bytes


class ManifestState(Message, frozen=True):
    """What waits, and what is there."""

    oldest_sequence: int
    """Of the changes that wait; 0 for none."""
    oldest_ms: int
    waiting: int
    manifests: int
    manifest_bytes: int


class SetManifestMode(Message, frozen=True):
    """Set how a bucket's writes wait for manifests: ``group`` or ``sync``."""

    bucket: bytes
    mode: str
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


# --- a bucket taken over by another coordinator ---------------------------------------------------


class AdoptBucket(Message, frozen=True):
    """Make a bucket that exists elsewhere, under its own id and for its own account.

    Its default lock and the mode of its manifests go with it. Errors: ``BUCKET_EXISTS`` (another
    bucket has the name), ``BAD_REQUEST`` (a policy or a default that cannot be read here).
    """

    bucket: BucketInfo
    owner_name: str
    manifest_number: int
    """The highest number of its manifests that was met: new ones get higher numbers."""
    catalogue_number: int
    """The same of the account's catalogue."""
    policy_text: str = ""
    """Canonical text of its policy; empty where it has none."""


class AdoptSerials(Message, frozen=True):
    """Ask for the serials that segments to be adopted have, or get now, at this coordinator."""

    bucket: bytes
    segments: list[bytes]


class AdoptedSerials(Message, frozen=True):
    """Serials in the order of the segments, and what nodes need to know."""

    serials: list[int]
    coordinator_key: bytes
    nodes: dict[str, int] = {}
    """Id (hex) of each node registered here, and its alias."""


class AdoptedLock(Message, frozen=True):
    """The signed records behind one object's lock."""

    key: str
    records: list[SegmentLock]
    """One for each segment that is not in a pack, saying what ``ObjectEntry.lock`` says."""


class AdoptObjects(Message, frozen=True):
    """Write objects whose segments' pieces obey this coordinator by now; keys that exist stay.

    Errors: ``BUCKET_NOT_FOUND``, ``BAD_REQUEST``.
    """

    bucket: bytes
    entries: list[ObjectEntry]
    """With pieces and serials. A lock without ``locks`` is one that is still to be signed."""
    locks: list[AdoptedLock] = []
    grant: bytes = b""
    """The owner's grant for the lock key of these records."""


class ObjectsAdopted(Message, frozen=True):
    """How many keys were written; the others were there already."""

    written: int


CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
    TakeChanges: ChangeBatch,
    CommitManifest: Done,
    BeginSnapshot: SnapshotLease,
    ReadEntries: EntryPage,
    ManifestLag: ManifestState,
    SetManifestMode: BucketInfo,
    AdoptBucket: BucketInfo,
    AdoptSerials: AdoptedSerials,
    AdoptObjects: ObjectsAdopted,
}
"""Requests of gateways of this family and their answers."""
NODE_REQUESTS: dict[type[Message], type[Message]] = {}
"""Requests of nodes of this family and their answers."""
