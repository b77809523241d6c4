"""A request as the operations see it, and the answer they give."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from atoll.gateway.s3.codec.decode import decode_text, parse_query

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_SIGNING = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires")
_SIGNING_NAMES = frozenset({*_SIGNING, "x-amz-signedheaders", "x-amz-signature"})


class Request:
    """One HTTP request, its target cut into bucket and key."""

    __slots__ = (
        "bucket",
        "headers",
        "key",
        "level",
        "method",
        "pairs",
        "query",
        "raw_path",
        "raw_query",
        "receive",
    )

    def __init__(self, scope: Scope, receive: Receive, base_domains: tuple[str, ...]) -> None:
        """Read an ASGI scope. Raises ``InvalidURI`` for what is not UTF-8 once decoded."""
        self.method: str = scope["method"]
        self.raw_path: bytes = scope.get("raw_path") or b"/"
        self.raw_query: bytes = scope.get("query_string", b"")
        self.receive = receive
        self.headers = _joined(scope["headers"])
        self.pairs = parse_query(self.raw_query) if self.raw_query else []
        self.query: dict[str, str] = {}
        for name, value in self.pairs:
            self.query.setdefault(decode_text(name), decode_text(value))
        self.bucket, self.key = split_target(
            self.raw_path, self.headers.get("host", ""), base_domains
        )
        self.level = "key" if self.key else ("bucket" if self.bucket else "service")

    def adopt_query_headers(self) -> None:
        """Take ``x-amz-*`` query parameters of a presigned request as the headers they stand for.

        SDKs move headers into the query when they presign. Call only after the signature held.
        """
        for name, value in self.query.items():
            lower = name.lower()
            if lower.startswith("x-amz-") and lower not in _SIGNING_NAMES:
                self.headers.setdefault(lower, value)


def _joined(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1")
        value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def split_target(raw_path: bytes, host: str, base_domains: tuple[str, ...]) -> tuple[str, str]:
    """Return bucket and key of a raw path under a Host header; either may be empty.

    Virtual-host style where the host is a subdomain of a base domain, else path style. Only the
    first ``/`` after the bucket divides: every further one belongs to the key.
    """
    path = raw_path[1:] if raw_path.startswith(b"/") else raw_path
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.lower()
    for domain in base_domains:
        if name.endswith(domain) and name[: -len(domain)].endswith("."):
            return name[: -len(domain) - 1], decode_text(path)
    bucket, _, key = path.partition(b"/")
    return decode_text(bucket), decode_text(key)


@dataclass(slots=True)
class Response:
    """An answer: whole in ``body``, or streaming from ``stream`` with a known ``length``."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    stream: AsyncIterator[Any] | None = None
    length: int | None = None
    """Bytes of the body where it is not sent (HEAD) or streams; None with a stream: unknown."""


def header_pairs(headers: Mapping[str, str] | list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI wants them."""
    items = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.lower().encode("latin-1"), _wire(value)) for name, value in items]


def _wire(value: str) -> bytes:
    """Return a header value as bytes; what could end the header line is dropped."""
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogatepass")
    if b"\r" in raw or b"\n" in raw or b"\0" in raw:
        raw = raw.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    return raw
