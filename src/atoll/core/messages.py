"""What the parties say to each other: requests and answers of the control plane.

Two families, both msgspec structs, both MessagePack on the wire:

* ``NodeRequest``: a node to a coordinator, signed by the node's key.
* ``ControlRequest``: a gateway to the metadata. In process where it shares the database, over TLS
  where it does not; one port (``ControlPlane``), one suite of tests.

Every request type has exactly one answer type, named in ``ANSWERS``.
Byte strings are ids, hashes or opaque blobs; ``*_ms`` are milliseconds since the Unix epoch.
"""

from typing import Any, Protocol, TypeVar

import msgspec

from atoll.core.errors import AtollError, Kind, kind_named

MESSAGE_BYTES_MAX = 8 << 20
"""A control message longer than this is refused unread."""
LIST_KEYS_MAX = 1000


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages. Unknown fields of newer versions are ignored."""


# --- nodes ---------------------------------------------------------------------------------------


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


NodeRequest = Register | Heartbeat

# --- what gateways ask ---------------------------------------------------------------------------


class GetCredential(Message, frozen=True):
    """The secret behind an access key (for a gateway that the coordinator trusts with it)."""

    access_key: str


class Credential(Message, frozen=True):
    """An access key. ``secret`` is clear here and encrypted at rest."""

    access_key: str
    secret: str
    account: bytes
    owner_name: str
    status: str = "active"


class BucketInfo(Message, frozen=True):
    """A bucket."""

    bucket: bytes
    account: bytes
    name: str
    region: str
    mode: str
    """``managed`` or ``sealed``."""
    created_ms: int


class CreateBucket(Message, frozen=True):
    """Make a bucket. Errors: ``BUCKET_OWNED``, ``BUCKET_EXISTS``."""

    account: bytes
    name: str
    region: str
    mode: str = "managed"


class GetBucket(Message, frozen=True):
    """Find a bucket by name. Error: ``BUCKET_NOT_FOUND``."""

    name: str


class ListBuckets(Message, frozen=True):
    """An account's buckets in name order after ``after``."""

    account: bytes
    prefix: str = ""
    after: str = ""
    limit: int = 10_000


class BucketList(Message, frozen=True):
    """Buckets, and whether there are more."""

    buckets: list[BucketInfo]
    truncated: bool


class DeleteBucket(Message, frozen=True):
    """Remove an empty bucket. Errors: ``BUCKET_NOT_FOUND``, ``BUCKET_NOT_EMPTY``."""

    name: str
    account: bytes


class Done(Message, frozen=True):
    """It is done; nothing more to say."""


class PieceGrant(Message, frozen=True):
    """One order limit, ready to show to its node."""

    index: int
    alias: int
    node_id: bytes
    host: str
    port: int
    fingerprint: bytes
    order: bytes
    """Encoded ``orders.SignedOrder``."""


class OrderSegment(Message, frozen=True):
    """Ask for a new segment: a scheme by size and network, and limits for its pieces.

    Error: ``TOO_FEW_NODES`` with what is missing in words.
    """

    bucket: bytes
    plain_bytes: int
    gateway_key: bytes


class SegmentGrant(Message, frozen=True):
    """A segment to fill. The first ``n`` grants carry indexes 0..n-1, later ones spare nodes.

    A spare's ``index`` is 255: its order admits any one piece of this segment, so a failed or slow
    node is replaced without another question; ``ReplaceGrants`` gives more when spares run out.
    """

    segment: bytes
    k: int
    n: int
    durable: int
    commit: int
    unit_bytes: int
    grants: list[PieceGrant]


class ReplaceGrants(Message, frozen=True):
    """Some pieces found no home: give other nodes for these indexes of a segment being filled."""

    bucket: bytes
    segment: bytes
    plain_bytes: int
    k: int
    n: int
    indexes: list[int]
    used_aliases: list[int]
    """Nodes that hold or refused a piece of this segment; none of them is given again."""
    gateway_key: bytes


class GrantList(Message, frozen=True):
    """Order limits; may be fewer than asked when nodes run out."""

    grants: list[PieceGrant]


class StoredPiece(Message, frozen=True):
    """Where one piece lies."""

    index: int
    alias: int


class SegmentRecord(Message, frozen=True):
    """A committed (or about to be committed) segment of an object or part."""

    segment: bytes
    plain_bytes: int
    k: int
    n: int
    unit_bytes: int
    root: bytes
    """Segment root (core.merkle)."""
    wrapped_key: bytes
    pieces: list[StoredPiece]
    serial: int = 0
    """Given by the coordinator at commit; 0 before."""


class ObjectFacts(Message, frozen=True):
    """What S3 knows about an object besides its bytes."""

    size: int
    etag: str
    """Without quotes."""
    content_type: str
    headers: dict[str, str] = {}
    """Stored system headers, lower case: cache-control, content-disposition, content-encoding,
    content-language, expires."""
    user_metadata: dict[str, str] = {}
    checksums: dict[str, str] = {}
    """Algorithm (CRC32, CRC32C, CRC64NVME, SHA1, SHA256) to base64 value."""
    checksum_type: str = "FULL_OBJECT"
    part_sizes: list[int] = []
    """Sizes of the parts of a multipart object; empty otherwise."""
    part_checksums: list[dict[str, str]] = []


class Condition(Message, frozen=True):
    """Conditional write: ``if_none_match`` is ``*`` or an ETag, ``if_match`` an ETag or ``*``."""

    if_match: str = ""
    if_none_match: str = ""


class AbandonedSegment(Message, frozen=True):
    """A segment that will not be committed, and every node that may hold a piece of it."""

    segment: bytes
    pieces: list[StoredPiece]


class DiscardSegments(Message, frozen=True):
    """An upload failed: let the pieces it left be deleted.

    A segment that was committed after all is left alone; one discarded is never committed later.
    """

    bucket: bytes
    segments: list[AbandonedSegment]


class CommitObject(Message, frozen=True):
    """Make an object visible: all its segments lie durably on nodes.

    Replaces what was there; what it replaced is collected. Errors: ``BUCKET_NOT_FOUND``,
    ``PRECONDITION_FAILED``, ``OBJECT_NOT_FOUND`` (if_match on nothing).
    """

    bucket: bytes
    key: str
    facts: ObjectFacts
    segments: list[SegmentRecord]
    condition: Condition = Condition()


class ObjectInfo(Message, frozen=True):
    """An object as listings and HEAD show it."""

    key: str
    modified_ms: int
    facts: ObjectFacts


class ReadObject(Message, frozen=True):
    """Look an object up; with ``segments``, also where its bytes are.

    Errors: ``BUCKET_NOT_FOUND``, ``OBJECT_NOT_FOUND``.
    """

    bucket: bytes
    key: str
    segments: bool = True


class ObjectRead(Message, frozen=True):
    """The object and, if asked, its segments in order."""

    info: ObjectInfo
    segments: list[SegmentRecord] = []


class GrantReads(Message, frozen=True):
    """Ask for limits to read pieces of one committed segment.

    All pieces whose nodes are registered are granted, best first: nodes alive before suspects.
    Dead nodes are left out. ``byte_cap`` bounds the bytes served per piece.
    """

    segment: bytes
    pieces: list[StoredPiece]
    byte_cap: int
    gateway_key: bytes


class ListObjects(Message, frozen=True):
    """Keys in UTF-8 order after ``after`` under ``prefix``, rolled up at ``delimiter``.

    With a delimiter, ``after`` that ends in a common prefix already listed skips all under it.
    """

    bucket: bytes
    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    limit: int = LIST_KEYS_MAX


class ObjectList(Message, frozen=True):
    """One page. ``next_after`` continues it where ``truncated``."""

    objects: list[ObjectInfo]
    prefixes: list[str]
    truncated: bool
    next_after: str = ""


class DeleteObjects(Message, frozen=True):
    """Remove keys (at most 1,000); an absent key counts as removed."""

    bucket: bytes
    keys: list[str]
    condition: Condition = Condition()
    """For a single key: ``if_match``."""


class DeletedKeys(Message, frozen=True):
    """The keys that existed."""

    existed: list[str]


class CreateUpload(Message, frozen=True):
    """Start a multipart upload; ``facts.size`` and ``etag`` are still empty."""

    bucket: bytes
    key: str
    facts: ObjectFacts
    checksum_algorithm: str = ""


class UploadInfo(Message, frozen=True):
    """A multipart upload in progress."""

    upload: bytes
    bucket: bytes
    key: str
    facts: ObjectFacts
    checksum_algorithm: str
    created_ms: int


class GetUpload(Message, frozen=True):
    """Find an upload. Error: ``UPLOAD_NOT_FOUND``."""

    bucket: bytes
    key: str
    upload: bytes


class PartInfo(Message, frozen=True):
    """One uploaded part."""

    number: int
    size: int
    etag: str
    modified_ms: int
    checksums: dict[str, str] = {}


class CommitPart(Message, frozen=True):
    """Store a part (1..10,000); replaces the part of that number."""

    bucket: bytes
    key: str
    upload: bytes
    part: PartInfo
    segments: list[SegmentRecord]


class ListParts(Message, frozen=True):
    """Parts of an upload after a number."""

    bucket: bytes
    key: str
    upload: bytes
    after: int = 0
    limit: int = 1000


class PartList(Message, frozen=True):
    """Parts in order; the upload they belong to."""

    upload: UploadInfo
    parts: list[PartInfo]
    truncated: bool


class ListUploads(Message, frozen=True):
    """Uploads of a bucket in (key, upload id) order."""

    bucket: bytes
    prefix: str = ""
    delimiter: str = ""
    after_key: str = ""
    after_upload: bytes = b""
    limit: int = 1000


class UploadList(Message, frozen=True):
    """One page of uploads."""

    uploads: list[UploadInfo]
    prefixes: list[str]
    truncated: bool
    next_key: str = ""
    next_upload: bytes = b""


class CompletePart(Message, frozen=True):
    """A part as the client names it in CompleteMultipartUpload."""

    number: int
    etag: str
    checksums: dict[str, str] = {}


class CompleteUpload(Message, frozen=True):
    """Make the object of these parts; repeated with the same parts it answers the same.

    Errors: ``UPLOAD_NOT_FOUND``, ``INVALID_PART``, ``INVALID_PART_ORDER``, ``PART_TOO_SMALL``,
    ``PRECONDITION_FAILED``. ``facts`` is final: size, ETag, checksums computed by the caller from
    ``ListParts``.
    """

    bucket: bytes
    key: str
    upload: bytes
    parts: list[CompletePart]
    facts: ObjectFacts
    condition: Condition = Condition()


class AbortUpload(Message, frozen=True):
    """Forget an upload and collect its parts. Error: ``UPLOAD_NOT_FOUND``."""

    bucket: bytes
    key: str
    upload: bytes


class ReportLiar(Message, frozen=True):
    """A client saw a node serve wrong bytes for a piece: name it, treat the piece as lost.

    The coordinator checks for itself before it judges.
    """

    segment: bytes
    index: int
    alias: int
    reason: str


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


ControlRequest = (
    GetCredential
    | CreateBucket
    | GetBucket
    | ListBuckets
    | DeleteBucket
    | OrderSegment
    | ReplaceGrants
    | CommitObject
    | DiscardSegments
    | ReadObject
    | GrantReads
    | ListObjects
    | DeleteObjects
    | CreateUpload
    | GetUpload
    | CommitPart
    | ListParts
    | ListUploads
    | CompleteUpload
    | AbortUpload
    | ReportLiar
    | GetStatus
)

ANSWERS: dict[type[Message], type[Message]] = {
    Register: Registered,
    Heartbeat: HeartbeatAnswer,
    GetCredential: Credential,
    CreateBucket: BucketInfo,
    GetBucket: BucketInfo,
    ListBuckets: BucketList,
    DeleteBucket: Done,
    OrderSegment: SegmentGrant,
    ReplaceGrants: GrantList,
    CommitObject: ObjectInfo,
    DiscardSegments: Done,
    ReadObject: ObjectRead,
    GrantReads: GrantList,
    ListObjects: ObjectList,
    DeleteObjects: DeletedKeys,
    CreateUpload: UploadInfo,
    GetUpload: UploadInfo,
    CommitPart: Done,
    ListParts: PartList,
    ListUploads: UploadList,
    CompleteUpload: ObjectInfo,
    AbortUpload: Done,
    ReportLiar: Done,
    GetStatus: CloudStatus,
}


class Failure(Message, frozen=True):
    """An ``AtollError`` on the wire."""

    kind: str
    operation: str
    message: str
    hint: str = ""
    about: str = ""

    def to_error(self) -> AtollError:
        """Return the error this failure tells of."""
        return AtollError(
            kind_named(self.kind), self.operation, self.message, hint=self.hint, about=self.about
        )


def failure_of(error: AtollError) -> Failure:
    """Return the wire form of an error."""
    return Failure(
        kind=error.kind.value,
        operation=error.operation,
        message=error.message,
        hint=error.hint,
        about=error.about,
    )


Answer = TypeVar("Answer", bound=Message)


class ControlPlane(Protocol):
    """Where a gateway's questions go: the metadata in process, or a coordinator over TLS."""

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Send a ``ControlRequest``; return its answer. Raises ``AtollError``."""


_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Message) -> bytes:
    """Return the MessagePack form of a message."""
    return _ENCODER.encode(message)


def decode(body: bytes, types: Any) -> Any:
    """Read a message of one of ``types`` (a Message class or a union of them).

    Raises ``BAD_REQUEST`` for anything else.
    """
    decoder = _DECODERS.get(types)
    if decoder is None:
        decoder = _DECODERS[types] = msgspec.msgpack.Decoder(types)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
        raise AtollError(Kind.BAD_REQUEST, "decode message", str(cause)) from cause
