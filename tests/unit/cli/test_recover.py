"""Keys as paths, bodies checked on their way, lists of nodes: what a recovery writes and reads."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.client.cluster import InlineCompute

from atoll.cli.recover.targets import FolderTarget, path_of
from atoll.client.recovery.model import NodeList, NodePlace, decode_nodes
from atoll.client.recovery.restore import Check, Restored
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import ObjectFacts

KEYS = st.text(
    st.one_of(st.sampled_from("a/.%\0 "), st.characters(codec="utf-8")), min_size=1, max_size=8
)


@given(KEYS, KEYS)
def test_different_keys_have_different_paths_within_the_folder(one: str, other: str) -> None:
    assert (path_of(one) == path_of(other)) == (one == other)
    for part in path_of(one).split("/"):
        assert part not in ("", ".", "..")
        assert "\0" not in part
        assert len(part.encode()) <= 255


def test_plain_keys_are_plain_paths() -> None:
    assert path_of("photos/2026/ä b.jpg") == "photos/2026/ä b.jpg"
    assert path_of("../../etc/passwd") == "%2e2e/%2e2e/etc/passwd"
    assert path_of("/a//b/") == "%/a/%/b/%"


def restored(key: str, body: bytes, etag: str = "") -> Restored:
    facts = ObjectFacts(size=len(body), etag=etag, content_type="text/plain")
    check = Check(facts, InlineCompute())
    return Restored("bucket", key, facts, 1_780_000_000_000, "manifest", [], check)


async def checked(one: Restored, body: bytes) -> AsyncIterator[memoryview]:
    await one.check.update(memoryview(body))
    yield memoryview(body)
    one.check.finish()


def test_files_appear_whole_with_their_facts(tmp_path: Path) -> None:
    async def work() -> None:
        target = FolderTarget(tmp_path)
        await target.begin_bucket("bucket")
        for key in ("a/b", "a", "a/b/c", "x" * 300):
            body = key.encode()
            one = restored(key, body)
            await target.put(one, checked(one, body))
        bad = restored("bad", b"body", "0" * 32)
        with pytest.raises(AtollError) as refused:
            await target.put(bad, checked(bad, b"body"))
        assert refused.value.kind is Kind.CORRUPT
        target.close()

    asyncio.run(work())
    lines = (tmp_path / "bucket" / "%objects.jsonl").read_text().splitlines()
    listed = {one["key"]: one for one in map(json.loads, lines)}
    assert listed.keys() == {"a/b", "a", "a/b/c", "x" * 300}
    for key, one in listed.items():
        assert (tmp_path / "bucket" / one["path"]).read_bytes() == key.encode()
        assert one["facts"]["etag"] == hashlib.md5(key.encode()).hexdigest()
    assert not list((tmp_path / ".atoll-recover").iterdir())


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 40))
def test_the_etag_of_parts_is_checked_whatever_the_cuts(sizes: list[int], cut: int) -> None:
    bodies = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    digests = b"".join(hashlib.md5(body).digest() for body in bodies)
    etag = f"{hashlib.md5(digests).hexdigest()}-{len(sizes)}"
    whole = b"".join(bodies)

    async def run(wanted: str) -> str:
        facts = ObjectFacts(size=len(whole), etag=wanted, content_type="", part_sizes=list(sizes))
        check = Check(facts, InlineCompute())
        for start in range(0, len(whole), cut):
            await check.update(memoryview(whole)[start : start + cut])
        return check.finish()

    assert asyncio.run(run(etag)) == etag
    with pytest.raises(AtollError):
        asyncio.run(run("0" * 32 + f"-{len(sizes)}"))


def test_a_list_of_nodes_is_read_or_refused() -> None:
    good = NodeList([NodePlace("ab" * 32, "192.0.2.1", 9003, "cd" * 32)], 7)
    assert decode_nodes(json.dumps(_plain(good)).encode()) == good
    for bad in [b"", b"[]", b'{"nodes": [{"node_id": "zz", "host": "h", "port": 1}]}']:
        with pytest.raises(AtollError) as refused:
            decode_nodes(bad)
        assert refused.value.kind is Kind.BAD_REQUEST


def _plain(listed: NodeList) -> object:
    return {
        "nodes": [
            {"node_id": n.node_id, "host": n.host, "port": n.port, "fingerprint": n.fingerprint}
            for n in listed.nodes
        ],
        "saved_ms": listed.saved_ms,
    }
