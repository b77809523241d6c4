"""The metadata against a model: any order of operations, and nothing is lost or left behind."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.unit.coordinator.metadata.listing import DELIMITERS, expected_page
from tests.unit.coordinator.metadata.memory import MemoryDatabase
from tests.unit.coordinator.metadata.world import ACCOUNT, Metadata, pieces_of, tiny

from atoll.core.errors import AtollError, Kind
from atoll.core.messages import (
    Condition,
    DeleteBucket,
    Done,
    ListObjects,
    ListUploads,
    ObjectList,
    PartInfo,
    SegmentRecord,
    UploadList,
)

KEYS = st.sampled_from(["a", "a/b", "a/b/c", "b", "é/x", "//"])
NAMES = st.sampled_from(["one", "one", "one", "two"])
MATCHES = st.sampled_from(["", "", "", "", "*", "x"])
NONE_MATCHES = st.sampled_from(["", "", "", "*"])
Result = TypeVar("Result")
SUCCESSES: Counter[str] = Counter()
NAMES_OF_RULES = (
    "make_bucket",
    "delete_bucket",
    "put",
    "delete",
    "begin",
    "put_part",
    "complete",
    "abort",
    "list",
)


@dataclass
class ModelUpload:
    name: str
    key: str
    upload: bytes
    parts: dict[int, tuple[PartInfo, list[SegmentRecord]]] = field(default_factory=dict)


@dataclass
class ModelObject:
    records: list[SegmentRecord]
    etag: str


class MetadataMachine(RuleBasedStateMachine):
    uploads = Bundle("uploads")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.metadata = Metadata(MemoryDatabase())
        self.buckets: dict[str, tuple[bytes, dict[str, ModelObject]]] = {}
        self.begun: dict[bytes, ModelUpload] = {}
        self.gone: list[SegmentRecord] = []

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    def fails(self, work: Coroutine[Any, Any, object], *kinds: Kind) -> bool:
        """Say whether it failed, in one of these ways."""
        try:
            self.run(work)
        except AtollError as error:
            if error.kind not in kinds:
                raise
            return True
        return False

    def bucket(self, name: str) -> tuple[bytes, dict[str, ModelObject]]:
        return self.buckets.get(name, (b"none".ljust(16), {}))

    @initialize()
    def begin_with_a_bucket(self) -> None:
        self.make_bucket("one")

    @rule(name=NAMES)
    def make_bucket(self, name: str) -> None:
        if name in self.buckets:
            assert self.fails(self.metadata.make_bucket(name), Kind.BUCKET_OWNED)
            return
        self.buckets[name] = (self.run(self.metadata.make_bucket(name)), {})
        SUCCESSES["make_bucket"] += 1

    @rule(name=NAMES)
    def delete_bucket(self, name: str) -> None:
        if name == "one" and not self.buckets["one"][1]:
            return  # the first stays, so that most operations find a bucket
        work = self.metadata.ask(DeleteBucket(name=name, account=ACCOUNT), Done)
        if name not in self.buckets:
            assert self.fails(work, Kind.BUCKET_NOT_FOUND)
        elif self.buckets[name][1]:
            assert self.fails(work, Kind.BUCKET_NOT_EMPTY)
        else:
            self.run(work)
            del self.buckets[name]
            SUCCESSES["delete_bucket"] += 1

    @rule(
        name=NAMES,
        key=KEYS,
        count=st.integers(0, 3),
        etag=st.sampled_from("xy"),
        match=MATCHES,
        none_match=NONE_MATCHES,
    )
    def put(self, name: str, key: str, count: int, etag: str, match: str, none_match: str) -> None:
        bucket, objects = self.bucket(name)
        records = [tiny(number + 1) for number in range(count)]
        condition = Condition(if_match=match, if_none_match=none_match)
        old = objects.get(key)
        refused = (
            name not in self.buckets
            or (match and (old is None or match not in ("*", old.etag)))
            or (none_match and old is not None)
        )
        failed = self.fails(
            self.metadata.put(bucket, key, records, etag, condition),
            Kind.BUCKET_NOT_FOUND, Kind.PRECONDITION_FAILED, Kind.OBJECT_NOT_FOUND,
        )  # fmt: skip
        assert failed == bool(refused)
        if failed:
            self.gone += records
            return
        if old is not None:
            self.gone += old.records
        objects[key] = ModelObject(records, etag)
        SUCCESSES["put"] += 1

    @rule(name=NAMES, keys=st.lists(KEYS, max_size=4))
    def delete(self, name: str, keys: list[str]) -> None:
        bucket, objects = self.bucket(name)
        if name not in self.buckets:
            assert self.fails(self.metadata.delete(bucket, *keys), Kind.BUCKET_NOT_FOUND)
            return
        existed = self.run(self.metadata.delete(bucket, *keys))
        assert existed == [key for key in keys if key in objects]
        for key in set(existed):
            self.gone += objects.pop(key).records
        SUCCESSES["delete"] += bool(existed)

    @rule(target=uploads, name=NAMES, key=KEYS)
    def begin(self, name: str, key: str) -> ModelUpload:
        bucket, _ = self.bucket(name)
        if name not in self.buckets:
            assert self.fails(self.metadata.begin(bucket, key), Kind.BUCKET_NOT_FOUND)
            return ModelUpload(name, key, bytes(16))
        made = ModelUpload(name, key, self.run(self.metadata.begin(bucket, key)))
        self.begun[made.upload] = made
        SUCCESSES["begin"] += 1
        return made

    def usable(self, upload: ModelUpload) -> bool:
        return upload.upload in self.begun and any(
            found is upload for found in self.listed(upload.name)
        )

    def listed(self, name: str) -> list[ModelUpload]:
        if name not in self.buckets:
            return []
        page = self.run(self.metadata.ask(ListUploads(bucket=self.buckets[name][0]), UploadList))
        return [self.begun[one.upload] for one in page.uploads]

    @rule(upload=uploads, number=st.integers(1, 3), count=st.integers(1, 2))
    def put_part(self, upload: ModelUpload, number: int, count: int) -> None:
        bucket, _ = self.bucket(upload.name)
        records = [tiny() for _ in range(count)]
        work = self.metadata.put_part(bucket, upload.key, upload.upload, number, records)
        if not self.usable(upload):
            assert self.fails(work, Kind.BUCKET_NOT_FOUND, Kind.UPLOAD_NOT_FOUND)
            self.gone += records
            return
        part = self.run(work)
        if number in upload.parts:
            self.gone += upload.parts[number][1]
        upload.parts[number] = (part, records)
        SUCCESSES["put_part"] += 1

    @rule(upload=uploads, number=st.integers(1, 3))
    def complete(self, upload: ModelUpload, number: int) -> None:
        bucket, objects = self.bucket(upload.name)
        numbers = sorted(upload.parts)
        number = numbers[number % len(numbers)] if numbers else number
        chosen = upload.parts.get(number)
        parts = [chosen[0]] if chosen else []
        work = self.metadata.complete(bucket, upload.key, upload.upload, parts)
        if not self.usable(upload) or chosen is None:
            before = dict(objects)
            self.fails(
                work, Kind.BUCKET_NOT_FOUND, Kind.UPLOAD_NOT_FOUND, Kind.INVALID_PART
            )  # a repeated completion answers, and changes nothing
            assert objects == before
            return
        self.run(work)
        if upload.key in objects:
            self.gone += objects[upload.key].records
        for other, (_, records) in upload.parts.items():
            if other != number:
                self.gone += records
        objects[upload.key] = ModelObject(chosen[1], "done-2")
        SUCCESSES["complete"] += 1

    @rule(upload=uploads, sure=st.sampled_from([False, False, False, True]))
    def abort(self, upload: ModelUpload, sure: bool) -> None:
        if not sure:
            return
        bucket, _ = self.bucket(upload.name)
        usable = self.usable(upload)
        work = self.metadata.abort(bucket, upload.key, upload.upload)
        assert self.fails(work, Kind.UPLOAD_NOT_FOUND) != usable
        if usable:
            for _, records in upload.parts.values():
                self.gone += records
            SUCCESSES["abort"] += 1

    @rule(name=NAMES, delimiter=DELIMITERS, limit=st.integers(1, 5))
    def list_objects(self, name: str, delimiter: str, limit: int) -> None:
        bucket, objects = self.bucket(name)
        work = self.metadata.ask(
            ListObjects(bucket=bucket, delimiter=delimiter, limit=limit), ObjectList
        )
        if name not in self.buckets:
            assert self.fails(work, Kind.BUCKET_NOT_FOUND)
            return
        page = self.run(work)
        expected = expected_page(objects, "", delimiter, "", limit)
        assert [one.key.encode() for one in page.objects] == [
            entry for entry, rolled in expected.entries if not rolled
        ]
        assert page.truncated == expected.truncated
        SUCCESSES["list"] += 1

    @invariant()
    def readers_see_the_model(self) -> None:
        for bucket, objects in self.buckets.values():
            for key, model in objects.items():
                found = self.run(self.metadata.read(bucket, key))
                assert found.info.facts.etag == model.etag
                assert [s.segment for s in found.segments] == [
                    record.segment for record in model.records
                ]

    @invariant()
    def nothing_wanted_is_garbage_and_nothing_is_left(self) -> None:
        assert self.run(self.metadata.garbage()) == pieces_of(*self.gone)
        self.run(self.metadata.check())

    def teardown(self) -> None:
        self.run(self.metadata.database.close())
        self.loop.close()


ROUNDS_MAX = 4
"""What the steps are depends on the tools' versions; further rounds give every rule its chance."""


def run_machine(examples: int, *, same_steps: bool) -> None:
    run_state_machine_as_test(
        MetadataMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=same_steps,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_metadata_keeps_to_its_model_in_all_it_does() -> None:
    # The same steps each time: in a random mix some operation may never get its chance.
    SUCCESSES.clear()
    run_machine(80, same_steps=True)
    for _ in range(ROUNDS_MAX):
        if min(SUCCESSES[name] for name in NAMES_OF_RULES) >= 3:
            break
        run_machine(40, same_steps=False)
    for name in NAMES_OF_RULES:
        assert SUCCESSES[name] >= 3, f"{name} hardly ever succeeded: {SUCCESSES}"


def test_the_metadata_keeps_to_its_model_whatever_comes() -> None:
    run_machine(30, same_steps=False)
