"""``kill -9`` at any moment: nothing acknowledged is lost, and the store starts again fast."""

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from tests.integration.node.torture_node import CONFIG
from tests.unit.node.machine import get, make_piece

from atoll.core.errors import AtollError, Kind
from atoll.core.pieces import crc32c
from atoll.node.store.identity import StoreIdentity
from atoll.node.store.store import PieceStore
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng

ROOT = Path(__file__).parents[3]
ROUNDS = 4
OPEN_S_MAX = 5.0


def run_and_kill(folder: Path, run: str, lines_before_kill: int) -> list[list[str]]:
    """Let a store work until it has said so much, then SIGKILL it; return all that it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.node.torture_node", str(folder), run],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.split())
        if len(said) >= lines_before_kill:
            break
    process.kill()
    said.extend(line.split() for line in process.stdout if line.endswith("\n"))
    assert process.wait() == -9
    return said


def forget_index(folder: Path) -> None:
    for path in folder.glob("index.sqlite*"):
        path.unlink()


async def test_kill_minus_nine_loses_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random("torture")
    stored: dict[str, int] = {}
    deleted: set[str] = set()
    deleting: set[str] = set()
    for run in range(ROUNDS):
        for words in run_and_kill(tmp_path, str(run), chance.randrange(40, 160)):
            match words:
                case ["open", rebuilt, _]:
                    assert rebuilt == str(run == 0)
                case ["stored", name, size]:
                    stored[name] = int(size)
                case ["deleting", name]:
                    deleting.add(name)
                case ["deleted", name]:
                    deleted.add(name)
    compute = ThreadCompute(2)
    for rebuild in (False, True):
        if rebuild:
            forget_index(tmp_path)
        store = PieceStore(FolderDisk(tmp_path), compute, SystemClock(), SystemRng(), CONFIG)
        began = time.monotonic()
        recovered = await store.open()
        assert recovered.rebuilt == rebuild
        assert time.monotonic() - began < OPEN_S_MAX
        assert store.lost(10) == []
        for name, size in stored.items():
            piece = make_piece(name, size)
            if name not in deleting:
                assert await get(store, piece.id) == piece.record
            elif name in deleted:
                row = store.volume.index.get(piece.id)
                assert row is None or row.state != 0
        assert await store.scrub() == 0
        await store.close()
    compute.close()
    assert len(stored) > 100
    assert len(deleted) > 50


async def test_a_store_of_a_later_format_is_refused(tmp_path: Path) -> None:
    content = msgspec.msgpack.encode(StoreIdentity(99, bytes(16), bytes(32)))
    (tmp_path / "store.id").write_bytes(crc32c(content).to_bytes(4, "little") + content)
    compute = ThreadCompute(1)
    store = PieceStore(FolderDisk(tmp_path), compute, SystemClock(), SystemRng(), CONFIG)
    with pytest.raises(AtollError) as refused:
        await store.open()
    assert refused.value.kind is Kind.NEWER_FORMAT
    compute.close()
