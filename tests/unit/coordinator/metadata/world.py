"""The metadata over one database, driven by requests; and checks that nothing is left behind."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from atoll.coordinator.metadata.model import unpack_pieces
from atoll.coordinator.metadata.service import MetadataConfig, MetadataService
from atoll.coordinator.metadata.store import segments
from atoll.coordinator.metadata.uploads import UploadService
from atoll.core.messages import (
    AbortUpload,
    Answer,
    BucketInfo,
    CommitObject,
    CommitPart,
    CompletePart,
    CompleteUpload,
    Condition,
    CreateBucket,
    CreateUpload,
    DeletedKeys,
    DeleteObjects,
    Done,
    Message,
    ObjectFacts,
    ObjectInfo,
    ObjectRead,
    PartInfo,
    ReadObject,
    SegmentRecord,
    StoredPiece,
    UploadInfo,
)
from atoll.core.ports import Database
from atoll.core.scheme import TINY, unit_bytes_for
from atoll.runtime.rng import SystemRng

ACCOUNT = b"customer-account"
OTHER = b"other-account-id"
TIME_MS = 1_800_000_000_000
SERIALS = itertools.count(1)


@dataclass
class StillClock:
    """Time stands where the test puts it."""

    time_ms: int = TIME_MS

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic(self) -> float:
        return self.time_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.time_ms += round(seconds * 1000)


def tiny(size: int = 100, aliases: Sequence[int] = (1, 2, 3)) -> SegmentRecord:
    """A small segment, replicated on some nodes."""
    return SegmentRecord(
        segment=os.urandom(16),
        serial=next(SERIALS),
        plain_bytes=size,
        k=TINY.k,
        n=TINY.n,
        unit_bytes=unit_bytes_for(size, TINY.k),
        root=os.urandom(32),
        wrapped_key=b"wrapped key",
        pieces=[StoredPiece(index=i, alias=alias) for i, alias in enumerate(aliases)],
    )


def facts_of(size: int, etag: str = "e") -> ObjectFacts:
    return ObjectFacts(size=size, etag=etag, content_type="text/plain")


@dataclass
class Metadata:
    """Both services as one, with short words for what tests do often."""

    database: Database
    clock: StillClock = field(default_factory=StillClock)

    def __post_init__(self) -> None:
        config = MetadataConfig(secrets_key=bytes(32))
        self.service = MetadataService(self.clock, SystemRng(), self.database, config)
        self.uploads = UploadService(self.clock, SystemRng(), self.database, config, self.service)
        self.handlers = {**self.service.handlers, **self.uploads.handlers}

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        result = await self.handlers[type(request)](request)
        assert isinstance(result, answer)
        return result

    async def make_bucket(self, name: str = "photos") -> bytes:
        made = await self.ask(CreateBucket(account=ACCOUNT, name=name, region="r"), BucketInfo)
        return made.bucket

    async def put(
        self,
        bucket: bytes,
        key: str,
        records: list[SegmentRecord] | None = None,
        etag: str = "e",
        condition: Condition | None = None,
    ) -> ObjectInfo:
        records = [tiny()] if records is None else records
        return await self.ask(
            CommitObject(
                bucket=bucket,
                key=key,
                facts=facts_of(sum(record.plain_bytes for record in records), etag),
                segments=records,
                condition=condition or Condition(),
            ),
            ObjectInfo,
        )

    async def read(self, bucket: bytes, key: str) -> ObjectRead:
        return await self.ask(ReadObject(bucket=bucket, key=key), ObjectRead)

    async def delete(self, bucket: bytes, *keys: str, if_match: str = "") -> list[str]:
        request = DeleteObjects(
            bucket=bucket, keys=list(keys), condition=Condition(if_match=if_match)
        )
        return (await self.ask(request, DeletedKeys)).existed

    async def begin(self, bucket: bytes, key: str) -> bytes:
        request = CreateUpload(bucket=bucket, key=key, facts=facts_of(0, ""))
        return (await self.ask(request, UploadInfo)).upload

    async def put_part(
        self, bucket: bytes, key: str, upload: bytes, number: int, records: list[SegmentRecord]
    ) -> PartInfo:
        part = PartInfo(
            number=number,
            size=sum(record.plain_bytes for record in records),
            etag=os.urandom(4).hex(),
            modified_ms=0,
            checksums={"CRC32": "AAAA"},
        )
        await self.ask(
            CommitPart(bucket=bucket, key=key, upload=upload, part=part, segments=records), Done
        )
        return part

    async def complete(
        self, bucket: bytes, key: str, upload: bytes, parts: Sequence[PartInfo], **more: object
    ) -> ObjectInfo:
        facts = facts_of(sum(part.size for part in parts), "done-2")
        values = {"facts": facts, **more}
        request = CompleteUpload(
            bucket=bucket,
            key=key,
            upload=upload,
            parts=[CompletePart(number=part.number, etag=part.etag) for part in parts],
            **values,  # type: ignore[arg-type]
        )
        return await self.ask(request, ObjectInfo)

    async def abort(self, bucket: bytes, key: str, upload: bytes) -> None:
        await self.ask(AbortUpload(bucket=bucket, key=key, upload=upload), Done)

    async def garbage(self) -> set[tuple[bytes, int, int]]:
        """Each piece waiting for deletion as (segment, index, alias)."""
        rows = await self.database.read(
            lambda c: c.exec_driver_sql("SELECT segment, piece_index, alias FROM garbage").all()
        )
        return {(bytes(segment), index, alias) for segment, index, alias in rows}

    async def check(self) -> None:
        """Assert that the tables agree with each other and nothing is left behind."""
        await self.database.read(check_tables)


def pieces_of(*records: SegmentRecord) -> set[tuple[bytes, int, int]]:
    """What ``garbage`` would hold of these segments."""
    return {
        (record.segment, piece.index, piece.alias) for record in records for piece in record.pieces
    }


def check_tables(connection: Connection) -> None:
    """Assert what the schema leaves to the code: no foreign keys, yet no orphans."""

    def rows(sql: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in connection.exec_driver_sql(sql).all()]

    in_blobs = {
        (piece.alias, serial, piece.index)
        for serial, packed in rows("SELECT serial, pieces FROM segment")
        for piece in unpack_pieces(packed)  # type: ignore[arg-type]
    }
    assert set(rows("SELECT alias, serial, piece_index FROM piece")) == in_blobs
    assert not rows(
        "SELECT stream FROM segment WHERE stream NOT IN (SELECT stream FROM object)"
        " AND stream NOT IN (SELECT upload FROM upload)"
        " AND stream NOT IN (SELECT segment FROM pack)"
    ), "segments without an owner"
    assert not rows(
        "SELECT o.key FROM object o WHERE o.segments <>"
        " (SELECT count(*) FROM segment s WHERE s.stream = o.stream)"
        " + (SELECT count(*) FROM packed p WHERE p.stream = o.stream)"
    ), "objects without all their segments"
    assert not rows("SELECT 1 FROM part WHERE upload NOT IN (SELECT upload FROM upload)")
    assert not rows(
        "SELECT 1 FROM composition WHERE stream NOT IN (SELECT stream FROM object WHERE parts > 0)"
    )
    assert not rows(
        "SELECT 1 FROM garbage WHERE segment IN (SELECT segment FROM segment)"
        " AND (SELECT count(*) FROM repair) = 0"
    ), "pieces that are wanted wait for deletion"
    assert not rows("SELECT 1 FROM packed WHERE pack NOT IN (SELECT segment FROM pack)")
    assert not rows("SELECT 1 FROM pack WHERE segment NOT IN (SELECT segment FROM segment)")
    assert not rows("SELECT 1 FROM packed WHERE stream NOT IN (SELECT stream FROM object)")
    assert not rows(
        "SELECT 1 FROM pack p WHERE items < 1"
        " OR items <> (SELECT count(*) FROM packed WHERE pack = p.segment)"
        " OR live_bytes + dead_bytes <> (SELECT plain_bytes FROM segment s"
        " WHERE s.segment = p.segment)"
    ), "packs that count wrongly"
    usage = segments.read_usage(connection)
    counted = rows("SELECT count(*), coalesce(sum(size), 0) FROM object")[0]
    assert (usage.objects, usage.object_bytes) == counted
    assert usage.segments == rows("SELECT count(*) FROM segment")[0][0]
    assert usage.pieces == len(in_blobs)
