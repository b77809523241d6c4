"""What an operator may set on a gateway."""

from dataclasses import dataclass

from atoll.core.messages.policy import PartyFacts


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Settings of one gateway worker. Times in seconds, sizes in bytes."""

    region: str = "us-east-1"
    """The only region this endpoint signs for and says its buckets are in."""
    base_domains: tuple[str, ...] = ("localhost",)
    """Hosts whose subdomains are bucket names (virtual-host style)."""
    concurrent_requests_max: int = 256
    """Requests at work in this process; one more is answered 503 SlowDown."""
    object_bytes_max: int = 5 << 30
    """Longest body of one PutObject or UploadPart."""
    multipart_object_bytes_max: int = 53_687_091_200_000
    """Longest multipart object (48.8 TiB: 10,000 parts of 5 GiB)."""
    body_stall_s_max: float = 60.0
    """A request body that brings nothing for so long is given up."""
    keep_alive_s: float = 5.0
    """How often a slow CompleteMultipartUpload shows that it lives."""
    credential_cache_s: float = 5.0
    """How long a looked-up access key is believed without asking again."""
    bucket_cache_s: float = 1.0
    """How long a looked-up bucket is believed by reads; writes always ask."""
    hash_block_bytes: int = 256 << 10
    """Bodies are hashed off the loop in blocks of at least so many bytes."""
    inline_bytes_max: int = 64 << 10
    """A body up to this length is hashed on the loop: a thread would cost more."""
    facts: PartyFacts | None = None
    """Where this gateway is and who runs it; None: nothing is said, so policies that ask where
    gateways are do not admit it."""
    show_display_name: bool = True
    """Whether owners carry the DisplayName that AWS no longer sends but older tools compare."""
