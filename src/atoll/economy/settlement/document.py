"""The document of an epoch: all it was computed from and what came out, for anybody to check.

An *index* names *chunks* by SHA-256; the hash of the index is the document's name, and what the
chain is told. Customers appear under pseudonyms of that epoch alone; what is whose is sealed to
each. Nodes and accounts stand openly: what an account is paid is public on any chain.

Normative text: ``docs/spec/epochs.md``. Vectors: ``tests/golden/vectors/epochs.json``.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.core.ids import PUBLIC_KEY_BYTES
from atoll.economy.settlement import model
from atoll.economy.settlement.compute import leaves
from atoll.economy.settlement.model import (
    EpochInputs,
    EpochResult,
    EpochTotals,
    TakeParameters,
)
from atoll.economy.settlement.sumtree import Leaf, build
from atoll.economy.settlement.wire import decode_rows, encode_rows
from atoll.economy.tariff.model import Tariff

VERSION = 1
HASH_BYTES = 32
CHUNK_BYTES = 1 << 20
"""A chunk has at most this much, and one row more."""
CHUNK_BYTES_MAX = 2 << 20
CHUNKS_MAX = 1 << 16
INDEX_BYTES_MAX = 8 << 20
PSEUDONYM_BYTES = 16
NO_DOCUMENT = bytes(HASH_BYTES)
NO_ROOT = bytes(HASH_BYTES)
DETAILS_PURPOSE = b"epoch-details/1"
_INDEX_LABEL = b"atoll/epoch-index/1\0"
_PAYER_LABEL = b"atoll/epoch-payer/1\0"
_SEAL_LABEL = b"atoll/epoch-seal/1\0"
_SALT_BYTES = 32


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What inputs have beside lists."""

    epoch: int
    from_ms: int
    until_ms: int
    reserve_pico: int
    time_factor: int


class Figures(msgspec.Struct, frozen=True, array_like=True):
    """What a result has beside lists."""

    take_pico: int
    buckets_pico: tuple[int, int, int, int, int, int]
    top_up_pico: int
    slash_repair_pico: int
    slash_insurance_pico: int
    insurance_out_pico: int


class TotalFigures(msgspec.Struct, frozen=True, array_like=True):
    """What totals have beside lists."""

    epoch: int
    buckets_pico: tuple[int, int, int, int, int, int]
    carried: tuple[int, int, int, int, int, int]
    insurance_pico: int


class LeafRow(msgspec.Struct, frozen=True, array_like=True):
    """One leaf of the sum tree."""

    account: bytes
    released_micro: int
    held_micro: int


class Box(msgspec.Struct, frozen=True, array_like=True):
    """Details sealed to one party (``core.sealed``); who that is, the box does not say."""

    box: bytes


SECTIONS: tuple[tuple[str, type[Any]], ...] = (
    ("tariff", Tariff),
    ("parameters", TakeParameters),
    ("before", TotalFigures),
    ("before.accounts", model.AccountTotal),
    ("before.nodes", model.NodeTotal),
    ("before.owed", model.Owed),
    ("frame", Frame),
    ("nodes", model.NodeTerms),
    ("customers", model.CustomerTerms),
    ("storage", model.StorageLine),
    ("egress", model.EgressLine),
    ("repairs", model.RepairLine),
    ("proofs", model.ProofLine),
    ("slashes", model.Slash),
    ("credits", model.Credit),
    ("result", Figures),
    ("result.nodes", model.NodeResult),
    ("result.customers", model.CustomerResult),
    ("result.rewards", model.Reward),
    ("after", TotalFigures),
    ("after.accounts", model.AccountTotal),
    ("after.nodes", model.NodeTotal),
    ("after.owed", model.Owed),
    ("leaves", LeafRow),
    ("sealed", Box),
)
"""In this order, each possibly of several chunks; a section without rows has none."""
_KINDS = dict(SECTIONS)


class ChunkEntry(msgspec.Struct, frozen=True, array_like=True):
    """One chunk, by its content."""

    section: str
    rows: int
    byte_count: int
    sha256: bytes


class Index(msgspec.Struct, frozen=True, array_like=True):
    """What a document is made of, and what it settles."""

    version: int
    epoch: int
    from_ms: int
    until_ms: int
    coordinator_key: bytes
    previous: bytes
    """Content hash of the epoch before; zeros for the first."""
    root: bytes
    """Of the sum tree; zeros where nobody is owed anything yet."""
    leaf_count: int
    released_micro: int
    held_micro: int
    chunks: list[ChunkEntry]


@dataclass(frozen=True, slots=True)
class Content:
    """A document, read: all that stands in its chunks."""

    tariff: Tariff
    parameters: TakeParameters
    before: EpochTotals
    inputs: EpochInputs
    result: EpochResult
    leaves: tuple[LeafRow, ...]
    sealed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """An index and its content."""

    index: Index
    content: Content

    @property
    def content_hash(self) -> bytes:
        """The document's name."""
        return content_hash(encode_index(self.index))


@dataclass(frozen=True, slots=True)
class Published:
    """A document as bytes: what is stored, mirrored and named on chain."""

    index: bytes
    chunks: tuple[bytes, ...]
    content_hash: bytes


def corrupt(message: str) -> AtollError:
    """Return the refusal of a document that is none."""
    return AtollError(Kind.CORRUPT, "read epoch", message)


# --- pseudonyms -----------------------------------------------------------------------------------


def pseudonym(secret: bytes, epoch: int, payer: bytes) -> bytes:
    """Return a customer's name in one epoch: 16 bytes that nobody links without the secret."""
    message = _PAYER_LABEL + epoch.to_bytes(8, "big") + payer
    return hmac.digest(secret, message, hashlib.sha256)[:PSEUDONYM_BYTES]


def seal_seed(secret: bytes, payer: bytes, body: bytes) -> bytes:
    """Return 32 bytes to seal this very body to this party: another body has others."""
    digest = hashlib.sha256(body).digest()
    return hmac.digest(secret, _SEAL_LABEL + payer + digest, hashlib.sha256)


def with_pseudonyms(inputs: EpochInputs, secret: bytes) -> tuple[EpochInputs, dict[bytes, bytes]]:
    """Return inputs as they are published, and the customer behind each pseudonym.

    Lines are sorted anew, so that their order tells nothing either. ``secret`` is the
    coordinator's, 32 bytes.
    """
    if len(secret) < _SALT_BYTES:
        raise ValueError("a secret has 32 bytes")
    names: dict[bytes, bytes] = {}

    def known_as(payer: bytes) -> bytes:
        name = pseudonym(secret, inputs.epoch, payer)
        names[name] = payer
        return name

    def renamed(rows: Sequence[Any]) -> list[Any]:
        found = [msgspec.structs.replace(row, payer=known_as(row.payer)) for row in rows]
        return sorted(found, key=msgspec.structs.astuple)

    slashes = [
        msgspec.structs.replace(slash, customers=renamed(slash.customers))
        for slash in inputs.slashes
    ]
    return (
        msgspec.structs.replace(
            inputs,
            nodes=sorted(inputs.nodes, key=msgspec.structs.astuple),
            customers=renamed(inputs.customers),
            storage=renamed(inputs.storage),
            egress=renamed(inputs.egress),
            proofs=sorted(inputs.proofs, key=msgspec.structs.astuple),
            slashes=slashes,
            credits=renamed(inputs.credits),
        ),
        names,
    )


# --- writing --------------------------------------------------------------------------------------


def encode_index(index: Index) -> bytes:
    """Return an index's bytes."""
    return encode_rows([index])


def content_hash(index: bytes) -> bytes:
    """Return the name of the document that has this index."""
    return hashlib.sha256(_INDEX_LABEL + index).digest()


def content_of(
    before: EpochTotals,
    inputs: EpochInputs,
    tariff: Tariff,
    parameters: TakeParameters,
    result: EpochResult,
    sealed: Iterable[bytes] = (),
) -> Content:
    """Put together what is published. ``inputs`` and ``result`` are those with pseudonyms."""
    rows = tuple(
        LeafRow(leaf.account, leaf.released_micro, leaf.held_micro)
        for leaf in leaves(result.totals)
    )
    return Content(tariff, parameters, before, inputs, result, rows, tuple(sorted(sealed)))


def tree_figures(rows: Sequence[LeafRow]) -> tuple[bytes, int, int]:
    """Return root, released and held of the sum tree over these leaves."""
    if not rows:
        return NO_ROOT, 0, 0
    tree = build(Leaf(row.account, row.released_micro, row.held_micro) for row in rows)
    return tree.root, tree.released_micro, tree.held_micro


def publish(
    content: Content,
    coordinator_key: bytes,
    previous: bytes = NO_DOCUMENT,
    chunk_bytes: int = CHUNK_BYTES,
) -> Published:
    """Write a document."""
    assert len(coordinator_key) == PUBLIC_KEY_BYTES
    assert len(previous) == HASH_BYTES
    chunks: list[bytes] = []
    entries: list[ChunkEntry] = []
    for section, rows in _rows_of(content).items():
        for some, body in _cut(rows, chunk_bytes):
            chunks.append(body)
            entries.append(ChunkEntry(section, some, len(body), hashlib.sha256(body).digest()))
    root, released, held = tree_figures(content.leaves)
    index = Index(
        version=VERSION,
        epoch=content.inputs.epoch,
        from_ms=content.inputs.from_ms,
        until_ms=content.inputs.until_ms,
        coordinator_key=coordinator_key,
        previous=previous,
        root=root,
        leaf_count=len(content.leaves),
        released_micro=released,
        held_micro=held,
        chunks=entries,
    )
    encoded = encode_index(index)
    return Published(encoded, tuple(chunks), content_hash(encoded))


def _cut(rows: Sequence[Any], chunk_bytes: int) -> Iterable[tuple[int, bytes]]:
    """Yield rows in chunks: a chunk is full once it has ``chunk_bytes`` of rows.

    Where a chunk ends depends on the rows alone, so everybody cuts at the same places.
    """
    start = size = 0
    for place, row in enumerate(rows):
        size += len(encode_rows([row])) - 1
        if size >= chunk_bytes:
            yield place + 1 - start, encode_rows(rows[start : place + 1])
            start, size = place + 1, 0
    if start < len(rows):
        yield len(rows) - start, encode_rows(rows[start:])


def _rows_of(content: Content) -> dict[str, Sequence[Any]]:
    inputs, result = content.inputs, content.result
    rows: dict[str, Sequence[Any]] = {
        "tariff": [content.tariff],
        "parameters": [content.parameters],
        **_total_rows("before", content.before),
        "frame": [
            Frame(
                inputs.epoch,
                inputs.from_ms,
                inputs.until_ms,
                inputs.reserve_pico,
                inputs.time_factor,
            )
        ],
        "nodes": inputs.nodes,
        "customers": inputs.customers,
        "storage": inputs.storage,
        "egress": inputs.egress,
        "repairs": inputs.repairs,
        "proofs": inputs.proofs,
        "slashes": inputs.slashes,
        "credits": inputs.credits,
        "result": [
            Figures(
                result.take_pico,
                result.buckets_pico,
                result.top_up_pico,
                result.slash_repair_pico,
                result.slash_insurance_pico,
                result.insurance_out_pico,
            )
        ],
        "result.nodes": result.nodes,
        "result.customers": result.customers,
        "result.rewards": result.rewards,
        **_total_rows("after", result.totals),
        "leaves": content.leaves,
        "sealed": [Box(box) for box in content.sealed],
    }
    assert list(rows) == [name for name, _ in SECTIONS]
    return rows


def _total_rows(name: str, totals: EpochTotals) -> dict[str, Sequence[Any]]:
    figures = TotalFigures(totals.epoch, totals.buckets_pico, totals.carried, totals.insurance_pico)
    return {
        name: [figures],
        f"{name}.accounts": totals.accounts,
        f"{name}.nodes": totals.nodes,
        f"{name}.owed": totals.owed,
    }


# --- reading --------------------------------------------------------------------------------------


def read_index(index: bytes, expected_hash: bytes | None = None) -> Index:
    """Read an index; with ``expected_hash`` only the one that has it. Raises ``CORRUPT``."""
    if len(index) > INDEX_BYTES_MAX:
        raise corrupt("the index is too large")
    if expected_hash is not None and content_hash(index) != expected_hash:
        raise corrupt("the index is not the one that was settled")
    found = decode_rows(index, Index)
    if len(found) != 1 or encode_rows(found) != index:
        raise corrupt("the index is not in its one form")
    one = found[0]
    if one.version != VERSION:
        raise AtollError(
            Kind.NEWER_FORMAT, "read epoch", f"version {one.version} of epochs is not known here"
        )
    fields = (one.coordinator_key, one.previous, one.root, *(c.sha256 for c in one.chunks))
    if any(len(field) != HASH_BYTES for field in fields) or len(one.chunks) > CHUNKS_MAX:
        raise corrupt("a hash has another length, or there are too many chunks")
    order = [list(_KINDS).index(chunk.section) for chunk in one.chunks if chunk.section in _KINDS]
    if len(order) != len(one.chunks) or order != sorted(order):
        raise corrupt("its sections are not those of an epoch, in their order")
    return one


def check_chunk(entry: ChunkEntry, body: bytes) -> None:
    """Raise ``CORRUPT`` unless these bytes are the chunk."""
    if len(body) != entry.byte_count or hashlib.sha256(body).digest() != entry.sha256:
        raise corrupt(f"a chunk of section {entry.section} is not what the index says")


def read(index: bytes, chunks: Sequence[bytes], expected_hash: bytes | None = None) -> Document:
    """Read a document from its bytes. Raises ``CORRUPT`` and ``NEWER_FORMAT``.

    What it says may still be wrong: ``recompute`` tells.
    """
    found = read_index(index, expected_hash)
    if len(chunks) != len(found.chunks):
        raise corrupt(f"it has {len(found.chunks)} chunks, not {len(chunks)}")
    rows: dict[str, list[Any]] = {name: [] for name, _ in SECTIONS}
    for entry, body in zip(found.chunks, chunks, strict=True):
        check_chunk(entry, body)
        some = decode_rows(body, _KINDS[entry.section])
        if len(some) != entry.rows or encode_rows(some) != body:
            raise corrupt(f"section {entry.section} is not in its one form")
        rows[entry.section] += some
    for name in ("tariff", "parameters", "before", "frame", "result", "after"):
        if len(rows[name]) != 1:
            raise corrupt(f"section {name} has one row")
    return Document(found, _content(rows))


def _content(rows: Mapping[str, list[Any]]) -> Content:
    frame: Frame = rows["frame"][0]
    figures: Figures = rows["result"][0]
    inputs = EpochInputs(
        epoch=frame.epoch,
        from_ms=frame.from_ms,
        until_ms=frame.until_ms,
        nodes=rows["nodes"],
        customers=rows["customers"],
        storage=rows["storage"],
        egress=rows["egress"],
        repairs=rows["repairs"],
        proofs=rows["proofs"],
        slashes=rows["slashes"],
        credits=rows["credits"],
        reserve_pico=frame.reserve_pico,
        time_factor=frame.time_factor,
    )
    result = EpochResult(
        nodes=rows["result.nodes"],
        customers=rows["result.customers"],
        rewards=rows["result.rewards"],
        take_pico=figures.take_pico,
        buckets_pico=figures.buckets_pico,
        top_up_pico=figures.top_up_pico,
        slash_repair_pico=figures.slash_repair_pico,
        slash_insurance_pico=figures.slash_insurance_pico,
        insurance_out_pico=figures.insurance_out_pico,
        totals=_totals("after", rows),
    )
    return Content(
        rows["tariff"][0],
        rows["parameters"][0],
        _totals("before", rows),
        inputs,
        result,
        tuple(rows["leaves"]),
        tuple(one.box for one in rows["sealed"]),
    )


def _totals(name: str, rows: Mapping[str, list[Any]]) -> EpochTotals:
    figures: TotalFigures = rows[name][0]
    return EpochTotals(
        epoch=figures.epoch,
        accounts=rows[f"{name}.accounts"],
        nodes=rows[f"{name}.nodes"],
        buckets_pico=figures.buckets_pico,
        carried=figures.carried,
        insurance_pico=figures.insurance_pico,
        owed=rows[f"{name}.owed"],
    )
