"""A mirror gets every published document, whatever it had before."""

from pathlib import Path

import pytest
from tests.fixtures.distributor import document_of, put_document, some_leaves

from atoll.coordinator.billing import store
from atoll.coordinator.billing.mirror import EpochMirror
from atoll.coordinator.billing.model import BillingConfig, EpochRow, State
from atoll.core.errors import AtollError
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase
from atoll.runtime.disk import FolderDisk


async def publish(
    database: SqlDatabase, folder: Path, epoch: int, state: State = State.PUBLISHED
) -> None:
    document = document_of(some_leaves(epoch), None, epoch)
    put_document(folder, epoch, document)
    row = EpochRow(epoch, state, epoch, epoch + 1, document.content_hash, b"")
    await database.write(lambda c: store.put(c, row))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_mirror_is_complete_and_stays_so(
    database: SqlDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll.coordinator.billing.mirror.EPOCHS_PAGE_MAX", 3)
    epochs, copied = tmp_path / "epochs", tmp_path / "mirror"
    config = BillingConfig(1_000, FolderDisk(epochs))
    compute = ThreadCompute(1)
    mirror = EpochMirror(database, compute, config, FolderDisk(copied))
    assert await mirror.copy() == 0
    for epoch in range(1, 12):
        await publish(database, epochs, epoch)
    assert await mirror.copy() > 0
    assert names(copied) == names(epochs)
    assert await mirror.copy() == 0
    await publish(database, epochs, 12, State.COMPUTED)
    assert await mirror.copy() == 0, "nobody was told of it"
    (copied / "3" / "index").unlink()
    again = EpochMirror(database, compute, config, FolderDisk(copied))
    assert await again.copy() == 1
    assert (copied / "3" / "index").exists()
    for path in (epochs / "chunks").iterdir():
        path.write_bytes(b"broken")
    await publish(database, epochs, 13)
    for path in (epochs / "chunks").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(AtollError):
        await again.copy()
    assert not (copied / "13").exists(), "what is broken is not copied"
