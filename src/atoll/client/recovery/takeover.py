"""A bucket given to another coordinator: pieces obey it, its metadata knows them. No byte moves."""

import asyncio
import base64
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from atoll.client.lock_keys import LockKeys, lock_keys, sign_state
from atoll.client.recovery.found import FoundBucket
from atoll.client.recovery.model import PROBLEMS_MAX, Problem, RecoveryReport
from atoll.client.recovery.nodes import OwnerNodes
from atoll.client.recovery.rules import lock_of, one_piece_each
from atoll.client.recovery.search import Search
from atoll.client.recovery.store import FoundObject, RecoveryStore
from atoll.client.retention import newest_records
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import (
    BucketInfo,
    ControlPlane,
    SegmentRecord,
    StoredPiece,
    decode,
    encode,
)
from atoll.core.messages.policy import CheckPolicy, PolicyFit
from atoll.core.messages.recovery import (
    AdoptBucket,
    AdoptedLock,
    AdoptedSerials,
    AdoptObjects,
    AdoptPiece,
    AdoptPieces,
    AdoptSerials,
    ObjectEntry,
    ObjectsAdopted,
    PiecesAdopted,
    SignedAdoption,
)
from atoll.core.messages.retention import SegmentLock
from atoll.core.owner import ADOPT_PIECES_MAX, sign_adoption
from atoll.core.piece_http import ORDER_HEADER, accepted
from atoll.core.ports import PieceTransport
from atoll.core.retention import RetentionRecord, check_record

log = logging.getLogger(__name__)

ADOPT_PATH = "/v1/owned/adopt"
ADOPT_TIMEOUT_S = 30.0
BATCH_OBJECTS = 200
BATCH_SEGMENTS = 2000
PIECES_PER_CALL = ADOPT_PIECES_MAX // 2
OWNER_NAME = "owner"
SHOW_TIMEOUT_S = 10.0
RECORDS_CHECKED_MAX = 8
"""Different retention records of one segment that are looked at, the newest first."""


@dataclass(slots=True)
class _There:
    """What lies at nodes that obey the new coordinator by now, by segment."""

    pieces: dict[bytes, list[StoredPiece]] = field(default_factory=dict)
    records: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Retention records as their holders show them, not yet checked."""


class Takeover:
    """Gives what a search found to the coordinator behind ``control``."""

    def __init__(
        self,
        search: Search,
        store: RecoveryStore,
        nodes: OwnerNodes,
        owner: Identity,
        transport: PieceTransport,
        control: ControlPlane,
        report: RecoveryReport,
    ) -> None:
        """``control`` asks the coordinator that takes over; ``owner`` signs adoptions."""
        self._search = search
        self._store = store
        self._nodes = nodes
        self._owner = owner
        self._transport = transport
        self._control = control
        self._report = report

    async def run(self, only: str = "") -> None:
        """Give all buckets (or one). Raises ``BUCKET_EXISTS`` and what ``control`` raises."""
        self._report.figures.stage = "takeover"
        for bucket, found in sorted(self._search.buckets.items()):
            name = self._search.name_of(bucket)
            if only and name != only:
                continue
            await self._give(bucket, found)
            if name not in self._report.buckets:
                self._report.buckets.append(name)
        self._report.figures.stage = "done"

    async def _give(self, bucket: bytes, found: FoundBucket) -> None:
        request = AdoptBucket(
            bucket=self._search.info_of(bucket),
            owner_name=OWNER_NAME,
            policy_text=found.info.policy_text if found.info is not None else "",
            manifest_number=found.newest_number,
            catalogue_number=self._search.catalogue_number,
        )
        await self._control.ask(request, BucketInfo)
        if request.policy_text:
            await self._look_at_policy(bucket)
        batch: list[FoundObject] = []
        named = 0
        for one in self._store.objects(bucket):
            batch.append(one)
            named += len(one.entry.segments)
            if len(batch) >= BATCH_OBJECTS or named >= BATCH_SEGMENTS:
                await self._give_objects(bucket, batch)
                batch, named = [], 0
        if batch:
            await self._give_objects(bucket, batch)

    async def _look_at_policy(self, bucket: bytes) -> None:
        """Tell what the bucket's policy has against the new coordinator, if anything."""
        fit = await self._control.ask(CheckPolicy(bucket=bucket), PolicyFit)
        name = self._search.name_of(bucket)
        for objection in fit.objections:
            self._problem(name, f"its policy excludes where it is now: {objection}")

    async def _give_objects(self, bucket: bytes, batch: Sequence[FoundObject]) -> None:
        """Let the pieces of some objects obey the new coordinator, then let it know the objects."""
        entries = [self._unmoved(one.entry) for one in batch]
        records = {record.segment: record for record in _stored(entries)}
        wanted = sorted(records)
        answer = await self._control.ask(
            AdoptSerials(bucket=bucket, segments=wanted), AdoptedSerials
        )
        serials = dict(zip(wanted, answer.serials, strict=True))
        there = await self._adopt(serials, answer)
        good, locks, figures = [], list[AdoptedLock](), self._report.figures
        keys = lock_keys(self._search.keyring, self._search.account, bucket)
        for found, entry in zip(batch, entries, strict=True):
            missing = [r for r in _stored([entry]) if len(there.pieces.get(r.segment, ())) < r.k]
            if missing:
                figures.failed += 1
                self._problem(
                    f"{self._search.name_of(bucket)}/{found.key}",
                    "too few of its pieces lie on nodes that serve the new coordinator",
                )
                continue
            placed = [_placed(record, serials, there.pieces) for record in entry.segments]
            entry, signed = _locked(entry, keys, there)
            good.append(msgspec.structs.replace(entry, segments=placed))
            locks += [AdoptedLock(key=entry.key, records=signed)] if signed is not None else []
        if good:
            told = await self._control.ask(
                AdoptObjects(bucket=bucket, entries=good, locks=locks, grant=keys.grant),
                ObjectsAdopted,
            )
            figures.restored += told.written
            figures.skipped += len(good) - told.written

    def _unmoved(self, entry: ObjectEntry) -> ObjectEntry:
        """Return an entry with segments that were packed since at their places in packs."""
        segments = []
        for record in entry.segments:
            move = self._store.move_of(record.segment)
            if move is not None and len(self._store.holders(record.segment)) < record.k:
                record = msgspec.structs.replace(record, packed=move.record.packed)
            segments.append(record)
        return msgspec.structs.replace(entry, segments=segments)

    async def _adopt(self, serials: dict[bytes, int], answer: AdoptedSerials) -> _There:
        """Ask nodes to let pieces obey the new coordinator; return those that do, by segment."""
        by_node: dict[int, list[tuple[bytes, int]]] = {}
        for segment in serials:
            holders = {
                index: [
                    alias
                    for alias in aliases
                    if self._nodes.outcomes[alias - 1].place.node_id in answer.nodes
                ]
                for index, aliases in self._store.holders(segment).items()
            }
            for index, alias in one_piece_each(holders):
                by_node.setdefault(alias, []).append((segment, index))
        there = _There()

        async def one(alias: int, pieces: list[tuple[bytes, int]]) -> None:
            new_alias = answer.nodes[self._nodes.outcomes[alias - 1].place.node_id]
            for start in range(0, len(pieces), PIECES_PER_CALL):
                part = pieces[start : start + PIECES_PER_CALL]
                try:
                    outcomes = await self._ask(alias, part, serials, answer.coordinator_key)
                except AtollError as fault:
                    log.warning("node %d adopts nothing: %s", alias, fault)
                    self._nodes.outcomes[alias - 1].fault = str(fault)
                    return
                good = [p for p, outcome in zip(part, outcomes, strict=True) if not outcome]
                for segment, index in good:
                    stored = StoredPiece(index=index, alias=new_alias)
                    there.pieces.setdefault(segment, []).append(stored)
                for (segment, _), record in zip(good, await self._show(alias, good), strict=True):
                    if record:
                        there.records.setdefault(segment, set()).add(record)

        await asyncio.gather(*(one(alias, pieces) for alias, pieces in by_node.items()))
        return there

    async def _show(self, alias: int, pieces: Sequence[tuple[bytes, int]]) -> list[bytes]:
        """Return the retention records that a node keeps; none where it does not say."""
        address = self._nodes.outcomes[alias - 1].place.address
        ids = [piece_id_of(SegmentId(segment), index) for segment, index in pieces]
        try:
            return await newest_records(self._transport, address, ids, SHOW_TIMEOUT_S)
        except AtollError as fault:
            log.info("node %d does not show its locks: %s", alias, fault)
            return [b""] * len(pieces)

    async def _ask(
        self,
        alias: int,
        pieces: Sequence[tuple[bytes, int]],
        serials: dict[bytes, int],
        coordinator_key: bytes,
    ) -> list[str]:
        body = encode(
            AdoptPieces(
                coordinator_key=coordinator_key,
                pieces=[
                    AdoptPiece(
                        piece=piece_id_of(SegmentId(segment), index),
                        segment_serial=serials[segment],
                    )
                    for segment, index in pieces
                ],
            )
        )
        proof = self._nodes.proof(alias)
        signed = SignedAdoption(body=body, signature=sign_adoption(self._owner, proof, body))
        address = self._nodes.outcomes[alias - 1].place.address
        reply = await self._transport.call(
            address,
            "POST",
            ADOPT_PATH,
            {ORDER_HEADER: base64.b64encode(proof).decode()},
            encode(signed),
            ADOPT_TIMEOUT_S,
        )
        told: PiecesAdopted = decode(accepted(reply.status, reply.body, address), PiecesAdopted)
        if len(told.outcomes) != len(pieces):
            raise AtollError(Kind.CORRUPT, "adopt pieces", "the node's answer does not fit")
        return told.outcomes

    def _problem(self, what: str, why: str) -> None:
        self._report.problems_total += 1
        if len(self._report.problems) < PROBLEMS_MAX:
            self._report.problems.append(Problem(what, why))


def _stored(entries: Iterable[ObjectEntry]) -> list[SegmentRecord]:
    """Return the segments that lie on nodes by themselves: objects' own, and packs."""
    return [
        record if record.packed is None else record.packed.record()
        for entry in entries
        for record in entry.segments
    ]


def _placed(
    record: SegmentRecord, serials: dict[bytes, int], there: dict[bytes, list[StoredPiece]]
) -> SegmentRecord:
    packed = record.packed
    if packed is None:
        return msgspec.structs.replace(
            record, pieces=there[record.segment], serial=serials[record.segment]
        )
    lying = msgspec.structs.replace(
        packed, pieces=there[packed.segment], serial=serials[packed.segment]
    )
    return msgspec.structs.replace(record, pieces=[], packed=lying)


def _locked(
    entry: ObjectEntry, keys: LockKeys, there: _There
) -> tuple[ObjectEntry, list[SegmentLock] | None]:
    """Return an entry with its lock, and the records behind it; None where it is to be signed.

    The owner signs them again: the same words under the same number are the same bytes.
    """
    own = [record.segment for record in entry.segments if record.packed is None]
    lock = lock_of(entry.lock, [_newest(one, keys, there) for one in own])
    entry = msgspec.structs.replace(entry, lock=lock)
    if lock is None or not lock.sequence:
        return entry, None
    return entry, [SegmentLock(segment=one, record=sign_state(keys, one, lock)) for one in own]


def _newest(segment: bytes, keys: LockKeys, there: _There) -> RetentionRecord | None:
    """Return the newest record of a segment that our lock key signed, as any holder shows it."""
    offered = sorted(there.records.get(segment, ()), key=lambda one: one[64:72], reverse=True)
    for signed in offered[:RECORDS_CHECKED_MAX]:
        try:
            record = check_record(signed, segment)
        except AtollError:
            continue
        if record.lock_key == keys.lock.public_key:
            return record
    return None
