"""Every failure Atoll names: one error type, one append-only list of kinds, one table.

A kind crosses the wire as its name. The table says what each kind means to an HTTP caller, to an
S3 client (``s3_code``; empty where S3 has no word for it) and to a shell (``exit_code``).
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What went wrong. Append only: names are part of the wire format."""

    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    PRECONDITION_FAILED = "precondition_failed"
    TOO_LARGE = "too_large"
    CORRUPT = "corrupt"
    EXPIRED = "expired"
    REPLAYED = "replayed"
    DISK_FULL = "disk_full"
    RETAINED = "retained"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TOO_FEW_NODES = "too_few_nodes"
    DATA_LOST = "data_lost"
    NOT_IMPLEMENTED = "not_implemented"
    INTERNAL = "internal"
    BUCKET_NOT_FOUND = "bucket_not_found"
    BUCKET_EXISTS = "bucket_exists"
    BUCKET_OWNED = "bucket_owned"
    BUCKET_NOT_EMPTY = "bucket_not_empty"
    OBJECT_NOT_FOUND = "object_not_found"
    UPLOAD_NOT_FOUND = "upload_not_found"
    INVALID_PART = "invalid_part"
    INVALID_PART_ORDER = "invalid_part_order"
    PART_TOO_SMALL = "part_too_small"
    KEY_NOT_FOUND = "key_not_found"
    CLOCK_SKEW = "clock_skew"
    CONFIG = "config"
    PORT_TAKEN = "port_taken"
    WRONG_FOLDER = "wrong_folder"
    NEWER_FORMAT = "newer_format"
    CANCELLED = "cancelled"
    UNPAID = "unpaid"


@dataclass(frozen=True, slots=True)
class Meaning:
    """How one kind of failure looks from outside."""

    http_status: int
    s3_code: str
    exit_code: int
    transient: bool = False


_MEANINGS: dict[Kind, Meaning] = {
    Kind.BAD_REQUEST: Meaning(400, "InvalidRequest", 64),
    Kind.UNAUTHENTICATED: Meaning(403, "AccessDenied", 77),
    Kind.FORBIDDEN: Meaning(403, "AccessDenied", 77),
    Kind.NOT_FOUND: Meaning(404, "NoSuchKey", 66),
    Kind.CONFLICT: Meaning(409, "OperationAborted", 75, transient=True),
    Kind.PRECONDITION_FAILED: Meaning(412, "PreconditionFailed", 65),
    Kind.TOO_LARGE: Meaning(400, "EntityTooLarge", 65),
    Kind.CORRUPT: Meaning(400, "BadDigest", 65),
    Kind.EXPIRED: Meaning(403, "AccessDenied", 77),
    Kind.REPLAYED: Meaning(409, "OperationAborted", 75),
    Kind.DISK_FULL: Meaning(507, "ServiceUnavailable", 74, transient=True),
    Kind.RETAINED: Meaning(403, "AccessDenied", 77),
    Kind.OVERLOADED: Meaning(503, "SlowDown", 75, transient=True),
    Kind.TIMEOUT: Meaning(503, "ServiceUnavailable", 75, transient=True),
    Kind.UNREACHABLE: Meaning(503, "ServiceUnavailable", 69, transient=True),
    Kind.TOO_FEW_NODES: Meaning(503, "ServiceUnavailable", 69, transient=True),
    Kind.DATA_LOST: Meaning(503, "ServiceUnavailable", 74, transient=True),
    Kind.NOT_IMPLEMENTED: Meaning(501, "NotImplemented", 64),
    Kind.INTERNAL: Meaning(500, "InternalError", 70, transient=True),
    Kind.BUCKET_NOT_FOUND: Meaning(404, "NoSuchBucket", 66),
    Kind.BUCKET_EXISTS: Meaning(409, "BucketAlreadyExists", 73),
    Kind.BUCKET_OWNED: Meaning(409, "BucketAlreadyOwnedByYou", 73),
    Kind.BUCKET_NOT_EMPTY: Meaning(409, "BucketNotEmpty", 73),
    Kind.OBJECT_NOT_FOUND: Meaning(404, "NoSuchKey", 66),
    Kind.UPLOAD_NOT_FOUND: Meaning(404, "NoSuchUpload", 66),
    Kind.INVALID_PART: Meaning(400, "InvalidPart", 65),
    Kind.INVALID_PART_ORDER: Meaning(400, "InvalidPartOrder", 65),
    Kind.PART_TOO_SMALL: Meaning(400, "EntityTooSmall", 65),
    Kind.KEY_NOT_FOUND: Meaning(403, "InvalidAccessKeyId", 77),
    Kind.CLOCK_SKEW: Meaning(403, "RequestTimeTooSkewed", 77),
    Kind.CONFIG: Meaning(500, "", 78),
    Kind.PORT_TAKEN: Meaning(500, "", 69),
    Kind.WRONG_FOLDER: Meaning(500, "", 78),
    Kind.NEWER_FORMAT: Meaning(500, "", 78),
    Kind.CANCELLED: Meaning(499, "", 130),
    Kind.UNPAID: Meaning(403, "AccountProblem", 77),
}


class AtollError(Exception):
    """A failure with a kind, the operation it happened in and, if a person can act, a hint.

    ``about`` names the thing concerned (a node, a key, a path), never a secret.
    """

    def __init__(
        self, kind: Kind, operation: str, message: str, *, hint: str = "", about: str = ""
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.operation = operation
        self.message = message
        self.hint = hint
        self.about = about

    @property
    def meaning(self) -> Meaning:
        """How this failure looks to HTTP, S3 and the shell."""
        return _MEANINGS[self.kind]

    def __str__(self) -> str:
        about = f" ({self.about})" if self.about else ""
        hint = f" — {self.hint}" if self.hint else ""
        return f"{self.operation}: {self.message}{about}{hint}"


def meaning_of(kind: Kind) -> Meaning:
    """Return the table's row for a kind."""
    return _MEANINGS[kind]


def kind_named(name: str) -> Kind:
    """Return the kind with this wire name; a name of a newer version is ``INTERNAL``."""
    try:
        return Kind(name)
    except ValueError:
        return Kind.INTERNAL
