"""The nouns of the SDK. All sizes in bytes, all times in milliseconds since the Unix epoch."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atoll.core.errors import AtollError, Kind

PART_BYTES_MIN = 5 << 20
PART_BYTES_MAX = 5 << 30
PARTS_MAX = 10_000
OBJECT_BYTES_MAX = 5 << 40
DELETE_KEYS_MAX = 1000
WHOLE_BYTES_MAX = 1 << 30
"""Longest body that ``get_bytes`` holds in memory."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the endpoint is and who asks. The secret is never printed."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    @staticmethod
    def found(
        endpoint: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        region: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Access":
        """Fill what is not given from the environment, under the names that AWS tools use.

        Raises ``CONFIG`` where the endpoint or a key is in neither.
        """
        known = os.environ if environment is None else environment
        values = {
            "an endpoint": endpoint
            or known.get("AWS_ENDPOINT_URL_S3")
            or known.get("AWS_ENDPOINT_URL"),
            "an access key": access_key or known.get("AWS_ACCESS_KEY_ID"),
            "a secret key": secret_key or known.get("AWS_SECRET_ACCESS_KEY"),
        }
        for what, value in values.items():
            if not value:
                raise AtollError(
                    Kind.CONFIG,
                    "open client",
                    f"{what} is missing",
                    hint="set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                )
        where, key, secret = (str(value) for value in values.values())
        if not where.startswith(("http://", "https://")):
            raise AtollError(
                Kind.CONFIG, "open client", f"{where!r} is not an http(s) URL", about=where
            )
        given = region or known.get("AWS_REGION") or known.get("AWS_DEFAULT_REGION")
        return Access(where.rstrip("/"), key, secret, given or "us-east-1")


@dataclass(frozen=True, slots=True)
class Options:
    """Limits of a client."""

    part_bytes: int = 32 << 20
    """Part of a large object; grows where 10,000 of them would not hold it."""
    parallel: int = 4
    """Parts on their way at once (1..64)."""
    attempts: int = 5
    """Tries of one request."""
    backoff_s: float = 0.1
    """Wait before the second try; doubles up to ``backoff_s_max``, with chance in it."""
    backoff_s_max: float = 5.0
    stall_s: float = 60.0
    """Longest wait for the next byte."""

    def __post_init__(self) -> None:
        if not PART_BYTES_MIN <= self.part_bytes <= PART_BYTES_MAX:
            raise AtollError(
                Kind.CONFIG, "open client", f"a part has {PART_BYTES_MIN} to {PART_BYTES_MAX} bytes"
            )
        if not (1 <= self.parallel <= 64 and 1 <= self.attempts <= 20):
            raise AtollError(Kind.CONFIG, "open client", "parallel is 1..64, attempts is 1..20")

    def part_bytes_for(self, size: int) -> int:
        """Return the part size for an object: a multiple of 1 MiB with at most 10,000 parts."""
        if size > OBJECT_BYTES_MAX:
            raise AtollError(Kind.TOO_LARGE, "put object", "an object has at most 5 TiB")
        needed = -(-size // PARTS_MAX)
        return max(self.part_bytes, -(-needed // (1 << 20)) * (1 << 20))


@dataclass(frozen=True, slots=True)
class BucketEntry:
    """A bucket in a listing."""

    name: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object in a listing."""

    key: str
    size: int
    etag: str
    """Without quotes."""
    modified_ms: int


@dataclass(frozen=True, slots=True)
class PrefixEntry:
    """All keys that share a prefix up to the delimiter, rolled into one line."""

    prefix: str


Entry = ObjectEntry | PrefixEntry
Refused = list[tuple[str, str]]
"""Keys that could not be removed, each with the reason."""


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """An object's facts without its bytes."""

    bucket: str
    key: str
    size: int
    etag: str
    modified_ms: int
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    crc64nvme: str = ""
    """Base64; empty where the endpoint keeps none for the whole object."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is. ``done_bytes`` starts above 0 where a transfer is resumed."""

    done_bytes: int
    total_bytes: int
    resumed_bytes: int = 0
    """Bytes that an earlier attempt had already moved."""


Tell = Callable[[Progress], None]
