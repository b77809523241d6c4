import errno
import os

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.runtime.disk import UNFINISHED_SUFFIX, FolderDisk


def test_a_failed_sync_is_final_for_the_file(tmp_path, monkeypatch):
    disk = FolderDisk(tmp_path)
    file = disk.open("log", create=True)

    def fail(_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(AtollError):
        file.sync()
    monkeypatch.undo()
    for act in (file.sync, lambda: file.write_at(0, [b"x"]), lambda: file.allocate(9)):
        with pytest.raises(AtollError) as caught:
            act()
        assert caught.value.kind is Kind.INTERNAL


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_disk_full(tmp_path, monkeypatch, code):
    disk = FolderDisk(tmp_path)
    file = disk.open("log", create=True)
    file.write_at(0, [b"kept"])

    def fail(*_):
        raise OSError(code, "no room")

    monkeypatch.setattr(os, "pwritev", fail)
    monkeypatch.setattr(os, "posix_fallocate", fail)
    monkeypatch.setattr(os, "fsync", fail)
    for act in (
        lambda: file.write_at(4, [b"x"]),
        lambda: file.allocate(1 << 20),
        lambda: disk.replace("state", b"new"),
    ):
        with pytest.raises(AtollError) as caught:
            act()
        assert caught.value.kind is Kind.DISK_FULL
    assert file.size() == 4
    assert disk.names("") == ["log"]


def test_writes_taken_in_small_steps_are_whole(tmp_path, monkeypatch):
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: real(fd, [views[0][:3]], offset))
    file = FolderDisk(tmp_path).open("log", create=True)
    assert file.write_at(0, [b"abcdefgh", b"", b"ij"]) == 10
    assert file.read_at(0, 99) == b"abcdefghij"


def test_what_replace_left_unfinished_is_never_listed(tmp_path):
    disk = FolderDisk(tmp_path)
    disk.replace("a/b", b"1")
    (tmp_path / "a" / f"b{UNFINISHED_SUFFIX}").write_bytes(b"half")
    assert disk.names("a") == ["b"]
    disk.replace("a/b", b"2")
    assert disk.read("a/b") == b"2"


def test_files_are_for_their_owner_only(tmp_path):
    disk = FolderDisk(tmp_path / "new")
    disk.open("log", create=True)
    disk.replace("key", b"secret")
    modes = [(tmp_path / "new" / name).stat().st_mode & 0o777 for name in ("log", "key")]
    assert modes == [0o600, 0o600]
