"""What a verifier said survives its death at any byte; what it had not said is gone."""

import pytest
from tests.unit.core.proofs.world import VERIFIERS

from atoll.core.identity import Identity
from atoll.core.proofs.signed import sign_statement
from atoll.runtime.disk import FolderDisk
from atoll.verifier.record import Record, Said


def said(node: int, size: int = 300) -> Said:
    key = Identity(bytes([node]) * 32).public_key
    return Said(key, sign_statement(VERIFIERS[0], b"test/1", key), bytes([node]) * size)


@pytest.fixture
def disk(tmp_path: object) -> FolderDisk:
    return FolderDisk(tmp_path)  # type: ignore[arg-type]


def opened(disk: FolderDisk, keep_bytes: int = 1 << 20) -> Record:
    record = Record(disk, keep_bytes)
    record.open()
    return record


def test_what_was_said_is_there_after_a_restart(disk: FolderDisk) -> None:
    record = opened(disk)
    record.add(5, [said(1), said(2)])
    record.add(6, [said(1)])
    record.close()
    again = opened(disk)
    assert again.slots() == [5, 6]
    assert len(again.nodes(5)) == 2
    assert again.get(5, said(2).node_key) == said(2)
    assert again.get(6, said(2).node_key) is None


@pytest.mark.parametrize("cut", [1, 5, 100, 400])
def test_a_torn_end_is_cut_away_and_the_rest_stays(disk: FolderDisk, cut: int) -> None:
    record = opened(disk)
    record.add(5, [said(1), said(2)])
    record.close()
    file = disk.open("slots/5.log")
    file.truncate(file.size() - cut)
    file.close()
    again = opened(disk)
    assert again.get(5, said(1).node_key) == said(1)
    assert again.get(5, said(2).node_key) is None
    again.add(5, [said(3)])
    again.close()
    assert opened(disk).get(5, said(3).node_key) == said(3)


def test_the_oldest_slots_make_room_and_the_newest_stay(disk: FolderDisk) -> None:
    record = opened(disk, keep_bytes=5_000)
    for slot in range(20):
        record.add(slot, [said(1, 1_000)])
        record.forget()
    assert record.slots() == [16, 17, 18, 19]
    assert disk.names("slots") == ["16.log", "17.log", "18.log", "19.log"]
