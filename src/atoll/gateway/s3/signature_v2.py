"""Presigned links of the older kind (signature version 2, query form).

aws-cli (``aws s3 presign``) and boto3 (``generate_presigned_url``) still make these by default in
``us-east-1``, so a person who shares a link would meet an error. Only links are accepted: a request
with a version 2 ``Authorization`` header is refused. Source: Amazon S3 developer guide, "Signing
and authenticating REST requests", section "Query string request authentication alternative".
"""

import base64
import hmac
from dataclasses import dataclass
from urllib.parse import unquote

from atoll.core import sigv4
from atoll.gateway.s3.errors import S3Error
from atoll.gateway.s3.request import Request

EXPIRES_DIGITS_MAX = 12
AHEAD_S_MAX = sigv4.PRESIGN_SECONDS_MAX
"""A link may be valid for a week at most, as those of version 4."""
_SUBRESOURCES = frozenset(
    (
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "delete",
        "encryption",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "partNumber",
        "policy",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "restore",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    )
)
"""The query parameters that the signature covers."""
_UNCOVERED = frozenset(
    (
        *("awsaccesskeyid", "signature", "expires", "x-id", "content-md5", "content-type"),
        *("list-type", "prefix", "delimiter", "marker", "max-keys", "encoding-type"),
        *("start-after", "continuation-token", "fetch-owner", "key-marker", "upload-id-marker"),
        *("version-id-marker", "max-uploads", "max-parts", "part-number-marker"),
    )
)
"""What a link may carry besides, in lower case: its own parts, headers that boto3 moves here and
that are signed as headers, and which page of a listing is wanted.

Anything else would name another operation than the one that was signed.
"""


@dataclass(frozen=True, slots=True)
class LinkClaim:
    """What a presigned link of version 2 says about itself."""

    access_key: str
    signature: str
    expires_s: int
    """Seconds since the Unix epoch at which it ends."""


def is_link(request: Request) -> bool:
    """Say whether the request is a link of this kind."""
    return "AWSAccessKeyId" in request.query and "Signature" in request.query


def check_parameters(request: Request) -> None:
    """Raise ``AccessDenied`` for a link whose signature would not bind what the request does.

    Names differing in case only could be signed with one value and obeyed with the other; a
    parameter that the signature leaves out could choose another operation.
    """
    names = [name.decode("utf-8").lower() for name, _ in request.pairs]
    if len(set(names)) != len(names):
        raise S3Error("AccessDenied", "A presigned link names each parameter once")
    for name, value in request.query.items():
        lower = name.lower()
        if not (name in _SUBRESOURCES or lower in _UNCOVERED or lower.startswith("x-amz-")):
            raise S3Error(
                "AccessDenied",
                f"The signature of this link does not cover {name}: presign with version 4",
            )
        if "\n" in value or "\r" in value:
            raise S3Error("AccessDenied", f"The value of {name} holds a line break")


def read_link(request: Request, now_ms: int) -> LinkClaim:
    """Return the claim of a link that has not expired. Raises ``S3Error``."""
    check_parameters(request)
    expires = request.query.get("Expires", "")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= EXPIRES_DIGITS_MAX):
        raise S3Error("AccessDenied", f"Invalid date (should be seconds since epoch): {expires}")
    expires_s, now_s = int(expires), now_ms // 1000
    if expires_s < now_s:
        raise S3Error("AccessDenied", "Request has expired")
    if expires_s > now_s + AHEAD_S_MAX:
        raise S3Error("AccessDenied", "A link may be valid for a week at most")
    query = request.query
    return LinkClaim(query["AWSAccessKeyId"], query["Signature"], expires_s)


def string_to_sign(request: Request, claim: LinkClaim) -> str:
    """Return the text that a link's signature is over."""
    # Who presigns with headers moves them into the query; they are signed as headers all the same.
    given = {name.lower(): value for name, value in request.query.items()} | request.headers
    amz = sorted((n, v.strip()) for n, v in given.items() if n.startswith("x-amz-"))
    fields = [
        request.method,
        given.get("content-md5", ""),
        given.get("content-type", ""),
        str(claim.expires_s),
        *(f"{name}:{value}" for name, value in amz),
    ]
    return "\n".join([*fields, _resource(request)])


def check_link(request: Request, claim: LinkClaim, secret: str) -> None:
    """Raise ``SignatureDoesNotMatch`` unless the secret made this link."""
    text = string_to_sign(request, claim)
    digest = hmac.digest(secret.encode(), text.encode(), "sha1")
    if not sigv4.same(base64.b64encode(digest).decode(), claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key,
            StringToSign=text,
            SignatureProvided=claim.signature,
        )


def _resource(request: Request) -> str:
    path = request.raw_path.decode("latin-1")
    if request.bucket and unquote(path)[1:] == (request.key or ""):
        # Virtual-host style: the bucket stands in the host, the signature covers it all the same.
        path = f"/{request.bucket}{path}"
    chosen = sorted((n, v) for n, v in request.query.items() if n in _SUBRESOURCES)
    parts = [f"{name}={value}" if value else name for name, value in chosen]
    return path + ("?" + "&".join(parts) if parts else "")
