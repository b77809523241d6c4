"""The beacon: one value per slot that nobody knows before the slot, made of signed hash chains.

Slots are counted in *periods* of ``CHAIN_SLOTS``; a verifier has one chain for each. It hashes a
secret ``CHAIN_SLOTS`` times and signs the last hash (the *anchor*) before it takes part. In the
period's slot ``i`` it reveals the value ``CHAIN_SLOTS - 1 - i`` hashes above the secret: everyone
can hash it up to the anchor, nobody can foretell it. A slot's beacon is the hash of all values
revealed for it. A period and a coordinator have one chain, so that chains cannot overlap and no
coordinator can get a second one out of an honest verifier, whatever it says about the first.

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
from atoll.core.ids import PUBLIC_KEY_BYTES
from atoll.core.proofs.signed import Signed, check_signed, encode_statement, sign_statement

CHAIN_PURPOSE = b"proof-chain/1"
REVEAL_PURPOSE = b"proof-reveal/1"
BEACON_PURPOSE = b"proof-beacon/1"
LINK_TAG = b"\x14"
VALUE_TAG = b"\x15"
DRAW_TAG = b"\x16"
VALUE_BYTES = 32
CHAIN_SLOTS = 8_192
"""Slots of a period: 341 days of an hour each. Part of the format."""
VERIFIERS_MAX = 256
"""Verifiers of one coordinator."""
COMMITTEE_MAX = 15
"""Members of a committee: enough for pay; see docs/spec/proofs.md for what a third of liars can."""

_sha256 = hashlib.sha256
_REVEAL = struct.Struct(">32s32sQ")


class ChainCommit(msgspec.Struct, frozen=True, array_like=True):
    """A verifier's word on its chain for one period."""

    verifier_key: bytes
    coordinator_key: bytes
    period: int
    anchor: bytes

    @property
    def first_slot(self) -> int:
        """The period's first slot."""
        return self.period * CHAIN_SLOTS


class Reveal(msgspec.Struct, frozen=True, array_like=True):
    """One verifier's value for one slot of one coordinator."""

    verifier_key: bytes
    coordinator_key: bytes
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


def period_of(slot: int) -> int:
    """Return the period that a slot is of."""
    return slot // CHAIN_SLOTS


def link(value: bytes) -> bytes:
    """Return the next value of a chain, towards the anchor."""
    return _sha256(LINK_TAG + value).digest()


def climb_chain(value: bytes, steps: int) -> bytes:
    """Hash a value upwards so many times."""
    for _ in range(steps):
        value = link(value)
    return value


def commit_chain(identity: Identity, coordinator_key: bytes, secret: bytes, period: int) -> Signed:
    """Sign the anchor of a period's chain."""
    anchor = climb_chain(secret, CHAIN_SLOTS)
    commit = ChainCommit(identity.public_key, coordinator_key, period, anchor)
    return sign_statement(identity, CHAIN_PURPOSE, encode_statement(commit))


def read_chain(signed: Signed) -> ChainCommit:
    """Return a chain that its verifier signed. Raises ``UNAUTHENTICATED``, ``CORRUPT``."""
    commit = check_signed(signed, CHAIN_PURPOSE, ChainCommit)
    if commit.verifier_key != signed.key:
        raise AtollError(Kind.UNAUTHENTICATED, "check chain", "another verifier signed this chain")
    if not 0 <= commit.period < 1 << 48 or len(commit.anchor) != VALUE_BYTES:
        raise AtollError(Kind.CORRUPT, "check chain", "this is no chain that can be")
    return commit


def chain_value(secret: bytes, slot: int) -> bytes:
    """Return a verifier's own value for a slot from the secret of the slot's period."""
    return climb_chain(secret, CHAIN_SLOTS - 1 - slot % CHAIN_SLOTS)


def make_reveal(identity: Identity, coordinator_key: bytes, slot: int, value: bytes) -> Reveal:
    """Sign a value for its slot."""
    text = _reveal_text(identity.public_key, coordinator_key, slot, value)
    signature = identity.sign(REVEAL_PURPOSE, text)
    return Reveal(identity.public_key, coordinator_key, slot, value, signature)


def _reveal_text(key: bytes, coordinator_key: bytes, slot: int, value: bytes) -> bytes:
    return _REVEAL.pack(key, coordinator_key, slot) + value


def reveal_signed(reveal: Reveal) -> bool:
    """Say whether a reveal is its verifier's (whatever its value is worth)."""
    keys = (reveal.verifier_key, reveal.coordinator_key)
    if any(len(key) != PUBLIC_KEY_BYTES for key in keys) or not 0 <= reveal.slot < 1 << 63:
        return False
    text = _reveal_text(*keys, reveal.slot, reveal.value)
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
        if period_of(slot) != self.commit.period or len(value) != VALUE_BYTES:
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
        or any(
            (one.slot, one.coordinator_key) != (beacon.slot, beacon.coordinator_key)
            for one in beacon.reveals
        )
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
