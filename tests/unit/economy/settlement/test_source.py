"""Documents from anybody: only their hashes count; copies are complete or not there."""

import asyncio
from pathlib import Path

import pytest
from tests.fixtures.distributor import document_of, honest_content, put_document, some_leaves

from atoll.core.errors import AtollError, Kind
from atoll.economy.settlement.document import Published, publish, read_index
from atoll.economy.settlement.mirror import DiskTarget, copy_epoch
from atoll.economy.settlement.recompute import recompute
from atoll.economy.settlement.source import (
    DiskSource,
    Source,
    chunk_name,
    find_document,
    whole,
)
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.disk import FolderDisk

KEY = b"k" * 32


class Silent:
    """Holds the line and says nothing."""

    name = "silent"

    async def index(self, epoch: int) -> bytes:
        await asyncio.Event().wait()
        return b""

    chunk = index  # type: ignore[assignment]


class Liar:
    """Always has something, never the right thing."""

    name = "liar"

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def index(self, epoch: int) -> bytes:
        return self.body

    async def chunk(self, sha256: bytes) -> bytes:
        return self.body


@pytest.fixture
def compute() -> ThreadCompute:
    return ThreadCompute(1)


@pytest.fixture
def document() -> Published:
    return publish(honest_content(), KEY)


def folder_source(folder: Path, compute: ThreadCompute) -> DiskSource:
    return DiskSource(str(folder), FolderDisk(folder), compute)


async def test_the_one_honest_source_is_enough(
    tmp_path: Path, compute: ThreadCompute, document: Published
) -> None:
    put_document(tmp_path / "good", 1, document)
    put_document(tmp_path / "other", 1, document_of(some_leaves(3), None, 1))
    (tmp_path / "empty").mkdir()
    sources: list[Source] = [
        Silent(),
        Liar(document.index[:-1]),
        folder_source(tmp_path / "other", compute),
        folder_source(tmp_path / "empty", compute),
        folder_source(tmp_path / "good", compute),
    ]
    found = await find_document(sources, 1, document.content_hash)
    assert (found.index_bytes, found.chunks) == (document.index, document.chunks)
    assert recompute(whole(found)) == []
    leaves = await find_document(sources, 1, document.content_hash, frozenset({"leaves"}))
    assert len(leaves.chunks) == 1
    with pytest.raises(AtollError) as error:
        await find_document(sources[1:4], 1, document.content_hash)
    assert error.value.kind is Kind.NOT_FOUND
    assert "liar" in error.value.message


async def test_a_copy_is_complete_or_has_no_index(
    tmp_path: Path, compute: ThreadCompute, document: Published
) -> None:
    put_document(tmp_path / "good", 1, document)
    source, copied = folder_source(tmp_path / "good", compute), tmp_path / "copied"
    target = DiskTarget(FolderDisk(copied), compute)
    broken = chunk_name(read_index(document.index).chunks[2].sha256)
    kept = (tmp_path / "good" / broken).read_bytes()
    (tmp_path / "good" / broken).write_bytes(b"?" + kept[1:])
    with pytest.raises(AtollError) as error:
        await copy_epoch([source], target, 1, document.content_hash)
    assert error.value.kind is Kind.NOT_FOUND
    assert not (copied / "1" / "index").exists()
    (tmp_path / "good" / broken).write_bytes(kept)
    files = len({one.sha256 for one in read_index(document.index).chunks}) + 1
    written = await copy_epoch([source], target, 1, document.content_hash)
    assert written == files - 2, "the chunks before the broken one were there"
    assert await copy_epoch([source], target, 1, document.content_hash) == 0
    again = folder_source(copied, compute)
    assert (await find_document([again], 1, document.content_hash)).chunks == document.chunks
    (copied / "1" / "index").write_bytes(b"rubbish")
    assert await copy_epoch([source], target, 1, document.content_hash) == 1
