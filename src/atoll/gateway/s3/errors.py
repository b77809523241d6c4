"""Every error code of S3 that this endpoint speaks, with status and message, and its XML.

The model knows 20 exceptions; this table is the rest of the truth. Source: "Error responses",
Amazon S3 API reference, and what real clients compare.
"""

from atoll.core.errors import AtollError, Kind, meaning_of

TABLE: dict[str, tuple[int, str]] = {
    "AccessControlListNotSupported": (400, "The bucket does not allow ACLs"),
    "AccessDenied": (403, "Access Denied"),
    "AccessForbidden": (403, "CORSResponse: CORS is not enabled for this bucket."),
    "AccountProblem": (
        403,
        "There is a problem with your account that prevents the operation from completing.",
    ),
    "AuthorizationHeaderMalformed": (400, "The authorization header you provided is invalid."),
    "AuthorizationQueryParametersError": (400, "The authorization query is invalid."),
    "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
    "BucketAlreadyExists": (
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users "
        "of the system. Please select a different name and try again.",
    ),
    "BucketAlreadyOwnedByYou": (
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
    "ConditionalRequestConflict": (
        409,
        "The conditional request cannot succeed due to a conflicting operation against this "
        "resource.",
    ),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (
        400,
        "Your proposed upload is smaller than the minimum allowed size",
    ),
    "IllegalLocationConstraintException": (
        400,
        "The location constraint is incompatible with the region of this endpoint.",
    ),
    "IncompleteBody": (
        400,
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    ),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidBucketAclWithObjectOwnership": (
        400,
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
    ),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found. The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedTrailerError": (
        400,
        "The request contained trailing data that was not well-formed or did not conform to our "
        "published schema.",
    ),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MaxMessageLengthExceeded": (400, "Your request was too big."),
    "MetadataTooLarge": (
        400,
        "Your metadata headers exceed the maximum allowed metadata size",
    ),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
    "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
    "NoSuchConfiguration": (404, "The specified configuration does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
    "NoSuchTagSet": (404, "The TagSet does not exist"),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed.",
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "NoSuchWebsiteConfiguration": (
        404,
        "The specified bucket does not have a website configuration",
    ),
    "NotImplemented": (
        501,
        "A header you provided implies functionality that is not implemented",
    ),
    "ObjectLockConfigurationNotFoundError": (
        404,
        "Object Lock configuration does not exist for this bucket",
    ),
    "OperationAborted": (
        409,
        "A conflicting conditional operation is currently in progress against this resource. "
        "Please try again.",
    ),
    "PreconditionFailed": (
        412,
        "At least one of the pre-conditions you specified did not hold",
    ),
    "ReplicationConfigurationNotFoundError": (
        404,
        "The replication configuration was not found",
    ),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
    ),
    "RequestTimeout": (
        400,
        "Your socket connection to the server was not read from or written to within the timeout "
        "period. Idle connections will be closed.",
    ),
    "ServiceUnavailable": (503, "Service is unable to handle request."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. Check "
        "your key and signing method.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "XAmzContentSHA256Mismatch": (
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
}
"""Code to HTTP status and default message."""

_KINDS = {
    403: Kind.FORBIDDEN,
    404: Kind.NOT_FOUND,
    409: Kind.CONFLICT,
    412: Kind.PRECONDITION_FAILED,
    500: Kind.INTERNAL,
    501: Kind.NOT_IMPLEMENTED,
    503: Kind.OVERLOADED,
}

_TOLD = frozenset(
    {
        Kind.BUCKET_NOT_FOUND,
        Kind.BUCKET_EXISTS,
        Kind.BUCKET_OWNED,
        Kind.BUCKET_NOT_EMPTY,
        Kind.OBJECT_NOT_FOUND,
        Kind.UPLOAD_NOT_FOUND,
        Kind.INVALID_PART,
        Kind.INVALID_PART_ORDER,
        Kind.PART_TOO_SMALL,
        Kind.PRECONDITION_FAILED,
        Kind.KEY_NOT_FOUND,
        Kind.CONFLICT,
    }
)
"""Kinds that S3 has its own words for; the table's message is used."""
_EXPLAINED = frozenset(
    {
        Kind.BAD_REQUEST,
        Kind.TOO_LARGE,
        Kind.NOT_IMPLEMENTED,
        Kind.FORBIDDEN,
        Kind.RETAINED,
        Kind.OVERLOADED,
        Kind.TIMEOUT,
        Kind.UNREACHABLE,
        Kind.TOO_FEW_NODES,
        Kind.DATA_LOST,
        Kind.DISK_FULL,
        Kind.UNPAID,
    }
)
"""Kinds whose own message helps the caller. All others are this cloud's inner affair: 500."""


class S3Error(AtollError):
    """An error as S3 says it: a code of ``TABLE``, a message, and extra XML elements."""

    def __init__(self, code: str, message: str = "", **fields: str) -> None:
        status, default = TABLE[code]
        super().__init__(_KINDS.get(status, Kind.BAD_REQUEST), "s3", message or default)
        self.code = code
        self.status = status
        self.fields = fields


def not_implemented(name: str) -> S3Error:
    """Return the 501 that names an operation or header this endpoint does not serve."""
    return S3Error("NotImplemented", f"{name} is not implemented", Operation=name)


def header_not_implemented(name: str) -> S3Error:
    """Return the 501 for a header that asks for what this endpoint does not do."""
    return S3Error("NotImplemented", Header=name)


def invalid_argument(name: str, value: str, message: str = "") -> S3Error:
    """Return InvalidArgument naming the argument and its value."""
    return S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)


def from_error(error: AtollError) -> S3Error:
    """Return how S3 says a failure of the rooms below. Never matched by message."""
    if isinstance(error, S3Error):
        return error
    code = meaning_of(error.kind).s3_code
    if error.kind in _TOLD and code in TABLE:
        return S3Error(code)
    if error.kind in _EXPLAINED and code in TABLE:
        hint = f" ({error.hint})" if error.hint else ""
        return S3Error(code, f"{error.message}{hint}")
    return S3Error("InternalError")


_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
_ESCAPES.update({chr(code): f"&#{code};" for code in range(32) if chr(code) not in "\t\n\r"})
_ESCAPE_TABLE = str.maketrans(_ESCAPES)


def escape(text: str) -> str:
    """Return text for XML content or attribute values."""
    return text.translate(_ESCAPE_TABLE)


def error_xml(error: S3Error, resource: str, request_id: str, host_id: str) -> bytes:
    """Return the body of an error answer."""
    extra = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.fields.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>{extra}"
        f"<Resource>{escape(resource)}</Resource><RequestId>{request_id}</RequestId>"
        f"<HostId>{host_id}</HostId></Error>"
    ).encode("utf-8", "surrogatepass")
