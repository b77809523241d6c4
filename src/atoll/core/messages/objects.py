"""What gateways ask: credentials, buckets, objects, segments, uploads."""

from atoll.core.messages.base import Message

LIST_KEYS_MAX = 1000


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
    policy: int = 1
    """Id of the newest version of its policy; 1 where it has none."""
    manifests: str = "group"
    """``group`` (manifests follow within a second) or ``sync`` (a write waits for its own)."""
    lock_mode: str = ""
    """What new objects are locked by: ``governance``, ``compliance`` or nothing."""
    lock_days: int = 0


class CreateBucket(Message, frozen=True):
    """Make a bucket. Errors: ``BUCKET_OWNED``, ``BUCKET_EXISTS``."""

    account: bytes
    name: str
    region: str
    mode: str = "managed"
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


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
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


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

    Errors: ``TOO_FEW_NODES`` with what is missing in words, ``UNPAID``.
    """

    bucket: bytes
    plain_bytes: int
    gateway_key: bytes
    policy: int = 0
    """The bucket's policy as the gateway knows it: nothing older is applied."""
    upkeep: bool = False
    """For what keeps stored data in order (manifests, packs, copies), not for new data: it goes on
    when uploads are refused."""


class SegmentGrant(Message, frozen=True):
    """A segment to fill. The first ``n`` grants carry indexes 0..n-1, later ones spare nodes.

    A spare's ``index`` is 255: its order admits any one piece of this segment, so a failed or slow
    node is replaced without another question; ``ReplaceGrants`` gives more when spares run out.
    """

    segment: bytes
    serial: int
    """The segment's number at this coordinator: the commit names it."""
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
    serial: int
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


class PackPlace(Message, frozen=True):
    """Where a small segment lies since it was merged with others (``core.packing``).

    The pack is a segment of its own, whose plaintext is the ciphertexts of many.
    """

    segment: bytes
    plain_bytes: int
    k: int
    n: int
    unit_bytes: int
    root: bytes
    wrapped_key: bytes
    """Wrapped under the bucket's pack key."""
    pieces: list[StoredPiece]
    serial: int
    offset: int
    """First byte of the small segment in the pack's plaintext."""

    def record(self) -> "SegmentRecord":
        """Return the pack as a segment."""
        return SegmentRecord(
            segment=self.segment,
            plain_bytes=self.plain_bytes,
            k=self.k,
            n=self.n,
            unit_bytes=self.unit_bytes,
            root=self.root,
            wrapped_key=self.wrapped_key,
            pieces=self.pieces,
            serial=self.serial,
        )


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
    """The segment's number at its coordinator, as its grant gave it; 0 is none."""
    packed: PackPlace | None = None
    """Where it has no pieces of its own any more: ``pieces`` is then empty."""


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
    serial: int
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
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


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
    serial: int = 0
    """The segment's number at its coordinator."""


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
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


class DeletedKeys(Message, frozen=True):
    """The keys that existed, and those that stay because they are locked."""

    existed: list[str]
    locked: list[str] = []


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
    writer: bytes = b""
    """Who will write this change into a manifest: an id of the asking process, or empty."""


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


CONTROL_REQUESTS: dict[type[Message], type[Message]] = {
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
}
"""Requests of this family and their answers."""
