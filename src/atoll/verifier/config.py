"""What a verifier's operator decides."""

from dataclasses import dataclass

from atoll.core.ports import Address


@dataclass(frozen=True, slots=True)
class VerifierConfig:
    """Who this verifier is, whom it verifies for."""

    operator: str
    host: str
    """Where nodes and other verifiers reach it."""
    port: int
    fingerprint: bytes = b""
    """SHA-256 of its TLS certificate; empty on loopback."""
    coordinators: tuple[Address, ...] = ()
    keep_bytes: int = 4 << 30
    """Proofs and verdicts kept to be shown; the oldest slots go first."""
    ask_timeout_s: float = 10.0
    body_stall_s: float = 20.0
