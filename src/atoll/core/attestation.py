"""Residency attestations: what lies where, and how well that is known, as a signed list.

A file is lines of JSON. A page is a head (first page only), the nodes it names, and one line per
segment; after each page comes its seal, signed by the coordinator, with the hash of every line, the
sums so far and the frontier of a Merkle tree over all pages, so that the coordinator needs to
remember nothing between two pages and the last seal commits to the whole. The gateway through which
it was asked adds its own signature as the last line.

Lines are canonical: decoding and encoding one gives the same bytes. Everything needed to check the
list without asking anybody is in it: facts as nodes signed them, with their certificates.

Normative text: ``docs/spec/attestation.md``. Vectors: ``tests/golden/vectors/attestation.json``.
"""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, signature_holds
from atoll.core.merkle import leaf_hash, node_hash

SEAL_PURPOSE = b"residency-seal/1"
WITNESS_PURPOSE = b"residency-witness/1"
VERSION = 1
LINE_BYTES_MAX = 1 << 20
_ROOT_TAG = b"atoll/residency-root/1"


class IssuerLine(msgspec.Struct, frozen=True):
    """An issuer whose certificates the coordinator counted."""

    key: str
    name: str
    statements: list[str]
    revocations: int
    """Sequence of the revocation list that was applied; 0: none is known."""


class Head(msgspec.Struct, frozen=True, tag_field="line", tag="head"):
    """The first line: what is attested, under which policy, by whom. Keys and ids are hex."""

    version: int
    attestation: str
    bucket: str
    bucket_id: str
    account: str
    policy: int
    policy_version: int
    policy_text: str
    groups_date: str
    """Members of country groups are those of this day."""
    begun_ms: int
    coordinator: str
    """Encoded ``SignedPartyFacts`` of the coordinator."""
    gateway: str
    """The same of the gateway that asked; empty where it gave none."""
    issuers: list[IssuerLine]
    objections: list[str]
    """How coordinator and gateway themselves fall short of the policy; empty: they do not."""
    stated: list[str]
    """Parts of the policy that nobody could check."""
    keys_hashed: bool
    """``object`` of the segments is SHA-256 of the key."""


class NodeLine(msgspec.Struct, frozen=True, tag_field="line", tag="node"):
    """A node that pieces of this page lie on."""

    alias: int
    facts: str
    """Encoded ``NodeFacts`` as the node signed them."""
    signature: str
    by_address: str
    """Country of its address by the coordinator's table; empty: not in it, or there is none."""
    country: str
    """As established; empty: not known, or disputed."""
    parent_country: str
    region: str
    tier: str
    evidence: str
    labels: list[str]
    state: str


class PieceLine(msgspec.Struct, frozen=True, array_like=True):
    """One piece within a segment's line: index, alias of its node, and what is wrong, if so."""

    index: int
    alias: int
    violation: str = ""


class SegmentLine(msgspec.Struct, frozen=True, tag_field="line", tag="segment"):
    """One segment of an object and where its pieces lie."""

    object: str
    number: int
    """Place within the object, from 0."""
    segment: str
    plain_bytes: int
    k: int
    n: int
    packed: bool
    """Its bytes lie in a pack together with others of the bucket; ``segment`` is the pack."""
    pieces: list[PieceLine]


class Sums(msgspec.Struct, frozen=True):
    """What was counted from the first page on."""

    objects: int = 0
    segments: int = 0
    pieces: int = 0
    outside: int = 0
    """Pieces that lie where the policy or a cap does not let them."""
    unknown: int = 0
    """Pieces on nodes that this coordinator does not know: lost, wherever they were."""
    disputed: int = 0
    declared: int = 0
    address: int = 0
    certificate: int = 0
    """Pieces by the class of evidence of their location."""


class Seal(msgspec.Struct, frozen=True, tag_field="line", tag="seal"):
    """What the coordinator signs after each page."""

    attestation: str
    page: int
    """From 0."""
    lines: list[str]
    """SHA-256 of each line of the page, without its newline."""
    peaks: list[str]
    """Frontier of the Merkle tree over all pages so far: roots of its perfect subtrees, the widest
    first."""
    sums: Sums
    cursor: str
    """Where the next page begins."""
    policy: int
    begun_ms: int
    time_ms: int
    last: bool
    root: str
    """Root over all pages; empty before the last."""
    verdict: str
    """``within``, ``outside`` or ``no policy``; empty before the last."""
    head: str
    """SHA-256 of the head's line."""


class SignedSeal(msgspec.Struct, frozen=True, tag_field="line", tag="signed-seal"):
    """A seal with the coordinator's signature over its canonical bytes."""

    seal: Seal
    key: str
    signature: str


class Witness(msgspec.Struct, frozen=True, tag_field="line", tag="witness"):
    """The gateway's signature over the last signed seal's line: this is what it was given."""

    key: str
    time_ms: int
    signature: str


Line = Head | NodeLine | SegmentLine | SignedSeal | Witness
_DECODER = msgspec.json.Decoder(Line)
_ENCODER = msgspec.json.Encoder()


def line_of(value: msgspec.Struct) -> bytes:
    """Return a line's canonical bytes, without newline."""
    return _ENCODER.encode(value)


def read_line(raw: bytes) -> Line:
    """Read a line. Raises ``CORRUPT`` for one that is not canonical."""
    if len(raw) > LINE_BYTES_MAX:
        raise _corrupt("a line is too long")
    try:
        line: Line = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
        raise _corrupt(str(cause)) from cause
    if line_of(line) != raw:
        raise _corrupt("the line is not in canonical form")
    return line


def _corrupt(message: str) -> AtollError:
    return AtollError(Kind.CORRUPT, "read attestation", message)


# --- the tree over pages -------------------------------------------------------------------------


def line_hash(raw: bytes) -> str:
    """Return the hash of one line, in hex."""
    return hashlib.sha256(raw).hexdigest()


def page_leaf(hashes: Sequence[str]) -> bytes:
    """Return the Merkle leaf of a page from the hashes of its lines."""
    return leaf_hash(b"".join(bytes.fromhex(one) for one in hashes))


def extended(peaks: Sequence[bytes], pages: int, leaf: bytes) -> list[bytes]:
    """Return the frontier of a tree of ``pages`` leaves after one more.

    A frontier has one root per bit of the number of leaves, the widest first; equal ones merge.
    """
    grown = [*peaks, leaf]
    while pages & 1:
        right = grown.pop()
        grown[-1] = node_hash(grown[-1], right)
        pages >>= 1
    return grown


def root_of(peaks: Sequence[bytes], pages: int) -> bytes:
    """Return the root that a frontier stands for; the number of pages is bound in."""
    top = peaks[-1]
    for peak in reversed(peaks[:-1]):
        top = node_hash(peak, top)
    return hashlib.sha256(_ROOT_TAG + pages.to_bytes(8, "big") + top).digest()


# --- signing -------------------------------------------------------------------------------------


def sign_seal(identity: Identity, seal: Seal) -> bytes:
    """Return the line of a seal, signed."""
    signature = identity.sign(SEAL_PURPOSE, line_of(seal))
    return line_of(SignedSeal(seal, identity.public_key.hex(), signature.hex()))


def check_seal(raw: bytes, keys: Iterable[bytes]) -> Seal:
    """Return a seal that one of ``keys`` signed. Raises ``CORRUPT``, ``UNAUTHENTICATED``."""
    line = read_line(raw)
    if not isinstance(line, SignedSeal):
        raise _corrupt("this is no seal")
    key = _from_hex(line.key)
    if key not in keys:
        raise AtollError(
            Kind.UNAUTHENTICATED,
            "check seal",
            f"it is signed by {line.key[:16]}…, whom you do not trust",
            hint="`atoll coordinator show` prints a coordinator's key",
        )
    if not signature_holds(key, SEAL_PURPOSE, line_of(line.seal), _from_hex(line.signature)):
        raise AtollError(Kind.UNAUTHENTICATED, "check seal", "the signature does not hold")
    return line.seal


def sign_witness(identity: Identity, last_seal: bytes, now_ms: int) -> bytes:
    """Return the line by which a gateway signs the last seal's line."""
    message = now_ms.to_bytes(8, "big") + hashlib.sha256(last_seal).digest()
    signature = identity.sign(WITNESS_PURPOSE, message)
    return line_of(Witness(identity.public_key.hex(), now_ms, signature.hex()))


def witness_holds(witness: Witness, last_seal: bytes) -> bool:
    """Say whether a witness's signature is over this seal."""
    if not 0 <= witness.time_ms < 1 << 63:
        return False
    message = witness.time_ms.to_bytes(8, "big") + hashlib.sha256(last_seal).digest()
    return signature_holds(
        _from_hex(witness.key), WITNESS_PURPOSE, message, _from_hex(witness.signature)
    )


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
