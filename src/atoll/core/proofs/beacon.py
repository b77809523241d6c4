"""The beacon: one value per slot that nobody knows before the slot, made of signed hash chains.

Each verifier draws a secret, hashes it ``length`` times, and signs the last hash (the *anchor*)
before the chain's first slot. In slot ``first_slot + i`` it reveals the value ``length - 1 - i``
hashes above the secret: everyone can hash it up to the anchor, nobody can foretell it. A slot's
beacon is the hash of all values revealed for it.

It is unpredictable as long as one verifier whose value is in it keeps its secret. A verifier can
only withhold: with ``c`` colluding verifiers (or a coordinator that drops reveals) one of 2^c
values comes out. Reveals left out are counted in public; a chain of block hashes can stand in for
all this behind ``core.ports.Beacon``.
"""

import hashlib
import struct
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.proofs.signed import Signed, check_signed, encode_statement, sign_statement

CHAIN_PURPOSE = b"proof-chain/1"
REVEAL_PURPOSE = b"proof-reveal/1"
BEACON_PURPOSE = b"proof-beacon/1"
LINK_TAG = b"\x14"
VALUE_TAG = b"\x15"
DRAW_TAG = b"\x16"
VALUE_BYTES = 32
CHAIN_LENGTH_MAX = 1 << 20
VERIFIERS_MAX = 256
"""Verifiers of one coordinator."""
COMMITTEE_MAX = 15
"""Members of a committee: enough for pay; see docs/spec/proofs.md for what a third of liars can."""

_sha256 = hashlib.sha256
_REVEAL = struct.Struct(">32sQ")


class ChainCommit(msgspec.Struct, frozen=True, array_like=True):
    """A verifier's word on its chain, given before the first slot."""

    verifier_key: bytes
    coordinator_key: bytes
    first_slot: int
    length: int
    anchor: bytes


class Reveal(msgspec.Struct, frozen=True, array_like=True):
    """One verifier's value for one slot."""

    verifier_key: bytes
    slot: int
    value: bytes
    signature: bytes


class BeaconValue(msgspec.Struct, frozen=True, array_like=True):
    """What a coordinator combined for one slot: every reveal it had when it did."""

    coordinator_key: bytes
    slot: int
    opened_ms: int
    verifiers: list[bytes]
    """Keys of all verifiers of this slot, sorted; committees are drawn from them."""
    reveals: list[Reveal]
    """In the order of their verifiers' keys."""

    @property
    def value(self) -> bytes:
        """The 32 bytes."""
        return combine(self.slot, self.reveals)


def link(value: bytes) -> bytes:
    """Return the next value of a chain, towards the anchor."""
    return _sha256(LINK_TAG + value).digest()


def climb_chain(value: bytes, steps: int) -> bytes:
    """Hash a value upwards so many times."""
    for _ in range(steps):
        value = link(value)
    return value


def commit_chain(
    identity: Identity, coordinator_key: bytes, secret: bytes, first_slot: int, length: int
) -> Signed:
    """Sign the anchor of a chain."""
    if not 0 < length <= CHAIN_LENGTH_MAX:
        raise ValueError(f"a chain has 1..{CHAIN_LENGTH_MAX} values")
    anchor = climb_chain(secret, length)
    commit = ChainCommit(identity.public_key, coordinator_key, first_slot, length, anchor)
    return sign_statement(identity, CHAIN_PURPOSE, encode_statement(commit))


def read_chain(signed: Signed) -> ChainCommit:
    """Return a chain that its verifier signed. Raises ``UNAUTHENTICATED``, ``CORRUPT``."""
    commit = check_signed(signed, CHAIN_PURPOSE, ChainCommit)
    if commit.verifier_key != signed.key:
        raise AtollError(Kind.UNAUTHENTICATED, "check chain", "another verifier signed this chain")
    if (
        not 0 < commit.length <= CHAIN_LENGTH_MAX
        or not 0 <= commit.first_slot < 1 << 62
        or len(commit.anchor) != VALUE_BYTES
    ):
        raise AtollError(Kind.CORRUPT, "check chain", "this is no chain that can be")
    return commit


def chain_value(secret: bytes, commit: ChainCommit, slot: int) -> bytes:
    """Return a verifier's own value for a slot of its chain. Raises ``ValueError`` outside it."""
    place = slot - commit.first_slot
    if not 0 <= place < commit.length:
        raise ValueError(f"slot {slot} is not of this chain")
    return climb_chain(secret, commit.length - 1 - place)


def make_reveal(identity: Identity, slot: int, value: bytes) -> Reveal:
    """Sign a value for its slot."""
    key = identity.public_key
    return Reveal(key, slot, value, identity.sign(REVEAL_PURPOSE, _reveal_text(key, slot, value)))


def _reveal_text(key: bytes, slot: int, value: bytes) -> bytes:
    return _REVEAL.pack(key, slot) + value


def reveal_signed(reveal: Reveal) -> bool:
    """Say whether a reveal is its verifier's (whatever its value is worth)."""
    if len(reveal.verifier_key) != 32 or not 0 <= reveal.slot < 1 << 63:
        return False
    text = _reveal_text(reveal.verifier_key, reveal.slot, reveal.value)
    return signature_holds(reveal.verifier_key, REVEAL_PURPOSE, text, reveal.signature)


class ChainCheck:
    """Checks reveals of one chain; each costs as many hashes as slots since the last one."""

    def __init__(self, commit: ChainCommit) -> None:
        """Begin at the anchor."""
        self.commit = commit
        self._slot = commit.first_slot - 1
        self._value = commit.anchor

    def accepts(self, slot: int, value: bytes) -> bool:
        """Say whether this is the chain's value for the slot; remember the latest."""
        place = slot - self.commit.first_slot
        if not 0 <= place < self.commit.length or len(value) != VALUE_BYTES:
            return False
        if slot > self._slot:
            good = climb_chain(value, slot - self._slot) == self._value
            if good:
                self._slot, self._value = slot, value
            return good
        return (
            climb_chain(self._value, self._slot - slot) == value
            if slot < self._slot
            else (value == self._value)
        )


def combine(slot: int, reveals: Sequence[Reveal]) -> bytes:
    """Return the beacon of a slot from its reveals, in the order of their verifiers' keys."""
    state = _sha256(VALUE_TAG + slot.to_bytes(8, "big"))
    for reveal in reveals:
        state.update(reveal.verifier_key + reveal.value)
    return state.digest()


def check_beacon(signed: Signed, coordinator_key: bytes | None = None) -> BeaconValue:
    """Return a slot's beacon: signed by its coordinator, with reveals that their verifiers signed.

    That each value is its chain's is for those to check who know the chains. Raises
    ``UNAUTHENTICATED``, ``CORRUPT``.
    """
    beacon = check_signed(signed, BEACON_PURPOSE, BeaconValue, coordinator_key)
    if beacon.coordinator_key != signed.key:
        raise AtollError(Kind.UNAUTHENTICATED, "check beacon", "another coordinator signed it")
    keys = [reveal.verifier_key for reveal in beacon.reveals]
    if (
        not 0 <= beacon.slot < 1 << 62
        or len(beacon.verifiers) > VERIFIERS_MAX
        or any(not a < b for a, b in pairwise(beacon.verifiers))
        or any(not a < b for a, b in pairwise(keys))
        or not set(keys) <= set(beacon.verifiers)
        or any(reveal.slot != beacon.slot for reveal in beacon.reveals)
    ):
        raise AtollError(Kind.CORRUPT, "check beacon", "its parts contradict each other")
    if len(keys) < quorum(len(beacon.verifiers)):
        raise AtollError(
            Kind.CORRUPT,
            "check beacon",
            f"{len(keys)} of {len(beacon.verifiers)} verifiers are too few for a beacon",
        )
    if not all(reveal_signed(reveal) for reveal in beacon.reveals):
        raise AtollError(Kind.UNAUTHENTICATED, "check beacon", "a reveal's signature does not hold")
    return beacon


def quorum(members: int) -> int:
    """Return how many of so many verifiers decide: at least two thirds, and at least one."""
    return max(1, (2 * members + 2) // 3)


def draw_committee(
    beacon: bytes, node_id: bytes, verifiers: Sequence[bytes], size: int = COMMITTEE_MAX
) -> list[bytes]:
    """Return the keys of the verifiers that judge one node in one slot, sorted.

    Drawn by the slot's beacon, which is made after the heads were frozen: nobody can choose his
    judges, nor they their cases.
    """
    drawn = sorted(verifiers, key=lambda key: _sha256(DRAW_TAG + beacon + node_id + key).digest())
    return sorted(drawn[:size])
