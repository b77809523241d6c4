"""From pieces to objects: tags tell buckets, manifests keys, capsules what no manifest names."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from atoll.client.keys import Keyring
from atoll.client.recovery.capsules import UPLOAD_MS_MAX, CapsuleReader
from atoll.client.recovery.found import FoundBucket, FoundSegment, stamp_of
from atoll.client.recovery.model import Problem, RecoveryFigures, Source
from atoll.client.recovery.nodes import OwnerNodes
from atoll.client.recovery.store import RecoveryStore
from atoll.client.transfer.download import SegmentDownloader
from atoll.core.capsule import (
    Capsule,
    CapsuleKind,
    TagFamily,
    bucket_of_tag,
    month_of,
    months_until,
    open_capsule,
    tlv_of,
)
from atoll.core.crypto import BucketKeys
from atoll.core.errors import AtollError, Kind
from atoll.core.manifest import ManifestKind, ManifestPart, decode_manifest
from atoll.core.messages import BucketInfo
from atoll.core.messages.recovery import CatalogueEntry, ObjectChange
from atoll.core.pieces import TlvType

log = logging.getLogger(__name__)

HEADS_AT_ONCE = 32
HEAD_TRIES_MAX = 40
"""Holders asked for one segment's head; each may be dead, or lie."""
TAG_SEGMENTS_TRIED_MAX = 8
"""Segments asked for their capsules until a tag's bucket is known."""
READ_TURNS_MAX = 4
"""Other holders are tried so often where a segment does not come."""
MONTHS_AHEAD = 1


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An account's buckets, as its newest catalogue says."""

    number: int
    entries: tuple[CatalogueEntry, ...]


class Search:
    """Fills a store with what can be restored."""

    def __init__(
        self,
        account: bytes,
        keyring: Keyring,
        nodes: OwnerNodes,
        store: RecoveryStore,
        downloader: SegmentDownloader,
        figures: RecoveryFigures,
        now_ms: int,
        catalogue: Catalogue | None = None,
    ) -> None:
        """``downloader`` asks an ``OwnerControl`` of the same nodes.

        ``catalogue`` is given for all accounts but the first, whose owner finds all catalogues.
        """
        self.account = account
        self.keyring = keyring
        self._nodes = nodes
        self._store = store
        self._downloader = downloader
        self._figures = figures
        self._now_ms = now_ms
        self.buckets: dict[bytes, FoundBucket] = {}
        self.catalogues: dict[bytes, Catalogue] = {}
        """By account: what the phrase's first account finds of itself and of others."""
        if catalogue is not None:
            self.catalogues[account] = catalogue
        self._catalogue_tags: dict[bytes, FoundBucket] = {}
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        """What was left out on purpose."""

    async def run(self, only: str = "") -> None:
        """Find all buckets and their objects; with ``only``, read manifests of that bucket alone.

        Faults are collected in ``problems``.
        """
        self._figures.stage = "tags"
        await self._sort_tags()
        self._figures.stage = "catalogue"
        await self._read_catalogues()
        self._figures.stage = "manifests"
        wanted = [
            found
            for found in self.buckets.values()
            if not only or found.info is None or found.info.bucket.name == only
        ]
        for found in wanted:
            await self._read_manifests(found)
            self._store.put_bucket(
                found.bucket, b"" if found.info is None else msgspec.msgpack.encode(found.info)
            )
        self._figures.buckets = len(wanted)
        self._store.name_segments()
        self._figures.stage = "capsules"
        capsules = CapsuleReader(
            self._store, self._nodes, self.keyring, self._find_all, self.name_of, self._now_ms
        )
        for found in wanted:
            await capsules.read(found)
        self.notes += capsules.notes
        objects, size, alone = self._store.sums()
        self._figures.objects, self._figures.object_bytes = objects, size
        self._figures.objects_from_capsules = alone

    def name_of(self, bucket: bytes) -> str:
        """Return a bucket's name, or one made of its id where the catalogue is silent."""
        found = self.buckets.get(bucket)
        if found is None or found.info is None:
            return f"bucket-{bucket.hex()}"
        return found.info.bucket.name

    def info_of(self, bucket: bytes) -> BucketInfo:
        """Return a bucket as keyrings want it."""
        found = self.buckets.get(bucket)
        if found is not None and found.info is not None:
            return found.info.bucket
        return BucketInfo(
            bucket=bucket,
            account=self.account,
            name=self.name_of(bucket),
            region="us-east-1",
            mode="managed",
            created_ms=0,
        )

    @property
    def catalogue_number(self) -> int:
        """Number of the catalogue that was read; 0 for none."""
        known = self.catalogues.get(self.account)
        return 0 if known is None else known.number

    def _keys(self, found: FoundBucket) -> BucketKeys:
        return self.keyring.bucket(found.account, found.bucket)

    # --- tags -------------------------------------------------------------------------------------

    async def _sort_tags(self) -> None:
        """Find out which bucket, and which kind of segment, each tag stands for."""
        turns = asyncio.Semaphore(HEADS_AT_ONCE)

        async def one(tag: bytes) -> None:
            async with turns:
                await self._sort_tag(tag)

        await asyncio.gather(*(one(tag) for tag in self._store.tags()))

    async def _sort_tag(self, tag: bytes) -> None:
        recovery = self.keyring.account(self.account).recovery_key()
        months = list(months_until(_later(month_of(self._now_ms), MONTHS_AHEAD)))
        for segment in self._store.segments_of_tag(tag, TAG_SEGMENTS_TRIED_MAX):
            async for sealed, _ in self._sealed_capsules(segment):
                for month in months:
                    for family in TagFamily:
                        bucket = bucket_of_tag(recovery, family, tag, month)
                        account = bucket if family is TagFamily.CATALOGUES else self.account
                        found = FoundBucket(bucket, account)
                        if _opens(self._keys(found), segment, sealed):
                            self._note_tag(found, family, tag)
                            return
        self.problems.append(
            Problem(f"tag {tag.hex()}", "no holder serves a capsule that opens under your keys")
        )

    def _note_tag(self, found: FoundBucket, family: TagFamily, tag: bytes) -> None:
        known = self._catalogue_tags if family is TagFamily.CATALOGUES else self.buckets
        found = known.setdefault(found.bucket, found)
        tags = found.object_tags if family is TagFamily.OBJECTS else found.manifest_tags
        tags.append(tag)

    # --- heads ------------------------------------------------------------------------------------

    async def _sealed_capsules(self, segment: bytes):  # type: ignore[no-untyped-def]
        """Yield (capsule, header) as one holder after the other serves them."""
        asked = 0
        for index, aliases in self._store.holders(segment).items():
            for alias in aliases:
                if asked >= HEAD_TRIES_MAX:
                    return
                asked += 1
                try:
                    header = await self._nodes.head(alias, segment, index)
                except AtollError as fault:
                    log.debug("head of %s at node %d: %s", segment.hex(), alias, fault)
                    continue
                sealed = tlv_of(header, TlvType.RECOVERY_CAPSULE)
                if sealed is not None:
                    yield sealed, header

    async def _find(self, bucket: FoundBucket, segment: bytes) -> FoundSegment | None:
        """Return a segment by the first holder whose head opens."""
        recovery = self._keys(bucket).recovery_key()
        async for sealed, header in self._sealed_capsules(segment):
            try:
                return FoundSegment(segment, open_capsule(recovery, segment, sealed), header)
            except AtollError as fault:
                if fault.kind is Kind.NEWER_FORMAT:
                    raise
        return None

    async def _find_all(self, bucket: FoundBucket, segments: Iterable[bytes]) -> list[FoundSegment]:
        turns = asyncio.Semaphore(HEADS_AT_ONCE)

        async def one(segment: bytes) -> FoundSegment | None:
            async with turns:
                return await self._find(bucket, segment)

        found = await asyncio.gather(*(one(segment) for segment in segments))
        return [one for one in found if one is not None]

    # --- manifests --------------------------------------------------------------------------------

    async def _read_catalogues(self) -> None:
        """Read the newest catalogue of every account that is found; ours says what buckets are."""
        for account, found in self._catalogue_tags.items():
            await self._read_catalogue(account, found)
        ours = self.catalogues.get(self.account)
        if ours is None:
            self.problems.append(
                Problem("the account's catalogue", "no node has it: buckets are named by their ids")
            )
            return
        for entry in ours.entries:
            bucket = entry.bucket.bucket
            self.buckets.setdefault(bucket, FoundBucket(bucket, self.account)).info = entry

    async def _read_catalogue(self, account: bytes, found: FoundBucket) -> None:
        runs = await self._runs(found)
        for run in sorted(runs, key=lambda run: -run[0].capsule.part):
            try:
                parts = [await self._read_part(found, one) for one in run]
            except AtollError as fault:
                self.problems.append(Problem("a catalogue", str(fault)))
                continue
            entries = tuple(entry for part in parts for entry in part.buckets)
            self.catalogues[account] = Catalogue(run[0].capsule.part, entries)
            return

    async def _runs(self, found: FoundBucket) -> list[list[FoundSegment]]:
        """Return a bucket's manifests of which all segments are known, in order of position."""
        segments = {s for tag in found.manifest_tags for s in self._store.segments_of_tag(tag)}
        streams: dict[bytes, dict[int, FoundSegment]] = {}
        for one in await self._find_all(found, sorted(segments)):
            if one.capsule.kind == CapsuleKind.MANIFEST:
                stream = one.capsule.stream or one.segment
                streams.setdefault(stream, {})[one.capsule.position] = one
        whole = []
        for placed in streams.values():
            run = [placed[position] for position in sorted(placed)]
            if list(sorted(placed)) == list(range(len(run))) and run[-1].capsule.last:
                whole.append(run)
            else:
                log.info("a manifest was never finished, or some of it is not found")
        return whole

    async def _read_manifests(self, found: FoundBucket) -> None:
        """Read the newest whole snapshot and all deltas after it into the store."""
        runs = await self._runs(found)
        covers = 0
        snapshots = [run for run in runs if run[0].capsule.snapshot]
        for run in sorted(snapshots, key=lambda run: -run[0].capsule.part):
            try:
                covers = await self._read_snapshot(found, run)
                break
            except AtollError as fault:
                name = f"snapshot {run[0].capsule.part} of {self.name_of(found.bucket)}"
                self.problems.append(Problem(name, str(fault)))
        deltas = [r for r in runs if not r[0].capsule.snapshot and r[0].capsule.part > covers]
        deltas.sort(key=lambda run: run[0].capsule.part)
        recent_ms = max((run[0].capsule.created_ms for run in runs), default=0) - UPLOAD_MS_MAX
        superseded = [
            run
            for run in runs
            if not run[0].capsule.snapshot
            and run[0].capsule.part <= covers
            and run[0].capsule.created_ms >= recent_ms
        ]
        turns = asyncio.Semaphore(HEADS_AT_ONCE)

        async def read(run: list[FoundSegment]) -> list[ManifestPart] | AtollError:
            async with turns:
                try:
                    return [await self._read_part(found, one) for one in run]
                except AtollError as fault:
                    return fault

        for start in range(0, len(deltas), 2 * HEADS_AT_ONCE):
            batch = deltas[start : start + 2 * HEADS_AT_ONCE]
            for run, parts in zip(batch, await asyncio.gather(*map(read, batch)), strict=True):
                if isinstance(parts, AtollError):
                    name = f"delta {run[0].capsule.part} of {self.name_of(found.bucket)}"
                    self.problems.append(Problem(name, str(parts)))
                    continue
                for part in parts:
                    self._apply(found, part, run[0].capsule)
        # What an older delta names was committed once: its capsule says nothing more.
        for start in range(0, len(superseded), 2 * HEADS_AT_ONCE):
            batch = superseded[start : start + 2 * HEADS_AT_ONCE]
            for parts in await asyncio.gather(*map(read, batch)):
                for part in [] if isinstance(parts, AtollError) else parts:
                    self._take_old(found, part)

    def _take_old(self, found: FoundBucket, part: ManifestPart) -> None:
        """Take from a delta that a snapshot replaced what keeps capsules from bringing it back.

        An object written and deleted between two deltas is named by its deletion alone.
        """
        self._store.name_changes(part.changes)
        for item in part.changes:
            if isinstance(item, ObjectChange) and item.entry is None:
                self._store.put_old_deletion(found.bucket, item.key, part.number, item.time_ms)

    async def _read_snapshot(self, found: FoundBucket, run: Sequence[FoundSegment]) -> int:
        covers = 0
        for one in run:
            part = await self._read_part(found, one)
            self._apply(found, part, one.capsule)
            covers = max(covers, part.covers)
        return covers

    def _apply(self, found: FoundBucket, part: ManifestPart, capsule: Capsule) -> None:
        self._figures.manifests += 1
        found.newest_ms = max(found.newest_ms, capsule.created_ms)
        found.newest_number = max(found.newest_number, part.number)
        for item in part.changes:
            if not isinstance(item, ObjectChange):
                self._store.put_move(item)
            elif item.entry is None:
                self._store.put_deletion(found.bucket, item.key, part.number, item.time_ms)
            else:
                self._store.put_entry(
                    found.bucket, item.entry, part.number, Source.MANIFEST, stamp_of(item.entry)
                )

    async def _read_part(self, bucket: FoundBucket, found: FoundSegment) -> ManifestPart:
        """Return the content of one manifest segment; holders and claimed roots are tried in turn.

        Raises the last fault.
        """
        plain = await self.read_segment(found, self._keys(bucket).manifest_key())
        part = decode_manifest(plain)
        if part.number != found.capsule.part or (
            (part.kind is not ManifestKind.DELTA) != found.capsule.snapshot
        ):
            raise AtollError(Kind.CORRUPT, "read manifest", "it is not the one its capsule names")
        return part

    async def read_segment(self, found: FoundSegment, wrapping: bytes) -> bytes:
        """Return a whole small segment's plaintext. Raises the last fault."""
        fault = AtollError(Kind.DATA_LOST, "read segment", "no node holds a piece of it")
        for turn in range(READ_TURNS_MAX):
            for root in self._store.roots(found.segment)[:2]:
                record = msgspec.structs.replace(
                    found.record(root), pieces=self._store.places(found.segment, turn)
                )
                try:
                    cipher = self.keyring.cipher(wrapping, record)
                    gathered = bytearray()
                    reading = self._downloader.read(record, cipher, 0, record.plain_bytes)
                    async with aclosing(reading) as views:
                        async for view in views:
                            gathered += view
                    return bytes(gathered)
                except AtollError as cause:
                    fault = cause
        raise fault


def _opens(keys: BucketKeys, segment: bytes, sealed: bytes) -> bool:
    try:
        open_capsule(keys.recovery_key(), segment, sealed)
    except AtollError as fault:
        return fault.kind is Kind.NEWER_FORMAT
    return True


def _later(month: int, count: int) -> int:
    for _ in range(count):
        month = month + 1 if month % 100 < 12 else month + 89
    return month
