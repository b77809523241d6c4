"""AWS Signature Version 4 as maths: canonical forms, signing keys, signatures of requests.

Shared by the gateway, which verifies, and the SDK, which signs. What a request claims (its
``Authorization`` header or presigned query) is read in ``gateway.signature``.
Source: AWS "Signature Version 4 signing process", and for chunks "sigv4-streaming" and
"sigv4-streaming-trailers" of the S3 API reference.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
CHUNK_ALGORITHM = "AWS4-HMAC-SHA256-PAYLOAD"
TRAILER_ALGORITHM = "AWS4-HMAC-SHA256-TRAILER"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
PRESIGN_SECONDS_MAX = 7 * 24 * 3600
DATES_REMEMBERED_MAX = 1024

_PLAIN_PATH = re.compile(rb"[A-Za-z0-9\-._~/]*\Z")
_SPACES = re.compile(" {2,}")
_UNSIGNED_HEADERS = frozenset(
    {"authorization", "connection", "expect", "transfer-encoding", "user-agent", "content-length"}
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key with its secret, and the region whose services it signs for."""

    access_key: str
    secret: str
    region: str = "us-east-1"
    service: str = "s3"


def amz_date(now_ms: int) -> str:
    """Return the ISO 8601 basic form (``20260102T030405Z``) of a wall time in milliseconds."""
    return datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=DATES_REMEMBERED_MAX)
def amz_date_ms(text: str) -> int:
    """Return the milliseconds since the epoch of ``20260102T030405Z``; ValueError if it is none."""
    if len(text) != 16 or text[8] != "T" or text[15] != "Z":
        raise ValueError("not an ISO 8601 basic date")
    digits = text[:8] + text[9:15]
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError("not an ISO 8601 basic date")
    moment = datetime(
        int(text[:4]),
        int(text[4:6]),
        int(text[6:8]),
        int(text[9:11]),
        int(text[11:13]),
        int(text[13:15]),
        tzinfo=UTC,
    )
    return int(moment.timestamp()) * 1000


def canonical_path(raw_path: bytes) -> str:
    """Return the canonical form of a path as it came over the wire: each byte encoded once.

    S3 never normalises: ``//`` and ``..`` stay.
    """
    if _PLAIN_PATH.match(raw_path):
        return raw_path.decode("ascii") or "/"
    return quote_from_bytes(unquote_to_bytes(raw_path), safe="/~")


def encode_path(path: str) -> str:
    """Return the path of a bucket and key (not yet encoded) as a request carries it."""
    return quote_from_bytes(path.encode(), safe="/~")


def canonical_query(pairs: Iterable[tuple[bytes, bytes]]) -> str:
    """Return decoded query pairs in canonical form: encoded, sorted, the signature left out."""
    encoded = [
        (quote_from_bytes(name, safe="~"), quote_from_bytes(value, safe="~"))
        for name, value in pairs
        if name != b"X-Amz-Signature"
    ]
    if len(encoded) > 1:
        encoded.sort()
    return "&".join([f"{name}={value}" for name, value in encoded])


def canonical_value(value: str) -> str:
    """Return a header value trimmed, inner runs of spaces made one."""
    value = value.strip()
    return _SPACES.sub(" ", value) if "  " in value else value


def canonical_request(
    method: str,
    path: str,
    query: str,
    headers: Sequence[tuple[str, str]],
    payload_hash: str,
) -> str:
    """Return the canonical request. ``headers`` are the signed ones, lower case and sorted."""
    lines = "".join([f"{name}:{canonical_value(value)}\n" for name, value in headers])
    signed = ";".join([name for name, _ in headers])
    return f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload_hash}"


def scope_of(date: str, region: str, service: str = "s3") -> str:
    """Return the credential scope of a day (``20260102``)."""
    return f"{date}/{region}/{service}/aws4_request"


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """Return the string to sign of a canonical request whose characters are single bytes."""
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"


def signing_key(secret: str, date: str, region: str, service: str = "s3") -> bytes:
    """Return the key that signs for one day, region and service."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def sign(key: bytes, text: str) -> str:
    """Return the signature of a string to sign, in hexadecimal."""
    return hmac.digest(key, text.encode("latin-1"), "sha256").hex()


def same(left: str, right: str) -> bool:
    """Compare two signatures in a time that tells nothing."""
    return hmac.compare_digest(left.encode("utf-8"), right.encode("utf-8"))


class ChunkSigner:
    """The chain of chunk signatures of one streaming upload, begun by the request's own."""

    __slots__ = ("_key", "_middle", "signature")

    def __init__(self, key: bytes, timestamp: str, scope: str, seed: str) -> None:
        self._key = key
        self._middle = f"{timestamp}\n{scope}\n"
        self.signature = seed

    def chunk(self, sha256: str) -> str:
        """Return the signature of the next chunk, whose bytes have this SHA-256 (hex)."""
        self.signature = sign(
            self._key,
            f"{CHUNK_ALGORITHM}\n{self._middle}{self.signature}\n{EMPTY_SHA256}\n{sha256}",
        )
        return self.signature

    def trailer(self, canonical: bytes) -> str:
        """Return the signature of the trailing headers, one ``name:value`` line each."""
        digest = hashlib.sha256(canonical).hexdigest()
        self.signature = sign(
            self._key, f"{TRAILER_ALGORITHM}\n{self._middle}{self.signature}\n{digest}"
        )
        return self.signature


def sign_headers(
    credentials: Credentials,
    method: str,
    raw_path: bytes,
    query: Sequence[tuple[bytes, bytes]],
    headers: Mapping[str, str],
    payload_hash: str,
    now_ms: int,
) -> dict[str, str]:
    """Return ``headers`` (lower case, with ``host``) and what a signed request carries besides."""
    timestamp = amz_date(now_ms)
    full = {**headers, "x-amz-date": timestamp, "x-amz-content-sha256": payload_hash}
    signed = sorted((name, value) for name, value in full.items() if name not in _UNSIGNED_HEADERS)
    canonical = canonical_request(
        method, canonical_path(raw_path), canonical_query(query), signed, payload_hash
    )
    scope = scope_of(timestamp[:8], credentials.region, credentials.service)
    key = signing_key(credentials.secret, timestamp[:8], credentials.region, credentials.service)
    signature = sign(key, string_to_sign(timestamp, scope, canonical))
    names = ";".join(name for name, _ in signed)
    full["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return full


def presign(
    credentials: Credentials,
    method: str,
    raw_path: bytes,
    query: Sequence[tuple[bytes, bytes]],
    headers: Mapping[str, str],
    expires_s: int,
    now_ms: int,
) -> str:
    """Return the whole query string of a presigned request; ``headers`` must contain ``host``.

    ``expires_s`` is 1..604,800.
    """
    if not 1 <= expires_s <= PRESIGN_SECONDS_MAX:
        raise ValueError(f"a presigned request lives 1 to {PRESIGN_SECONDS_MAX} seconds")
    timestamp = amz_date(now_ms)
    scope = scope_of(timestamp[:8], credentials.region, credentials.service)
    signed = sorted(headers.items())
    pairs = [
        *query,
        (b"X-Amz-Algorithm", ALGORITHM.encode()),
        (b"X-Amz-Credential", f"{credentials.access_key}/{scope}".encode()),
        (b"X-Amz-Date", timestamp.encode()),
        (b"X-Amz-Expires", str(expires_s).encode()),
        (b"X-Amz-SignedHeaders", ";".join(name for name, _ in signed).encode()),
    ]
    text = canonical_query(pairs)
    canonical = canonical_request(method, canonical_path(raw_path), text, signed, UNSIGNED_PAYLOAD)
    key = signing_key(credentials.secret, timestamp[:8], credentials.region, credentials.service)
    signature = sign(key, string_to_sign(timestamp, scope, canonical))
    return f"{text}&X-Amz-Signature={signature}"
