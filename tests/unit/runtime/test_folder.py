"""Data folders: marker, lock, secrets."""

import os
from pathlib import Path

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.runtime.folder import lock_holder, open_folder, read_marker, read_secret


def refused(path: Path, kind: str = "cloud") -> AtollError:
    with pytest.raises(AtollError) as error:
        open_folder(path, kind, 1)
    return error.value


def test_a_folder_is_made_and_opened_again(tmp_path: Path) -> None:
    first = open_folder(tmp_path / "new" / "cloud", "cloud", 7)
    assert first.fresh
    assert first.path.stat().st_mode & 0o777 == 0o700
    first.close()
    again = open_folder(first.path, "cloud", 8)
    assert not again.fresh
    assert again.marker.created_ms == 7
    again.close()


def test_a_folder_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    error = refused(tmp_path)
    assert error.kind is Kind.WRONG_FOLDER
    assert "holiday.jpg" in error.message
    assert sorted(os.listdir(tmp_path)) == ["holiday.jpg"]


def test_settings_and_certificates_may_be_laid_down_before_the_first_start(tmp_path: Path) -> None:
    (tmp_path / "atoll.toml").write_text("[node]\n")
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "region.cert").write_bytes(b"c")
    folder = open_folder(tmp_path, "node", 1)
    assert folder.fresh
    assert (tmp_path / "atoll.toml").read_text() == "[node]\n"
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    folder.close()


@pytest.mark.parametrize(
    "name",
    ["atoll.toml/readme", "certificates/server.pem", "certificates/old/a.cert", "atoll.toml.bak"],
)
def test_what_only_looks_like_settings_is_foreign(tmp_path: Path, name: str) -> None:
    (tmp_path / "certificates").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    mode = tmp_path.stat().st_mode
    error = refused(tmp_path)
    assert error.kind is Kind.WRONG_FOLDER
    assert name.split("/")[0] in error.message
    assert not (tmp_path / "atoll.json").exists()
    assert tmp_path.stat().st_mode == mode


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "atoll.json").write_text('{"kind":"cloud","format":99,"created_ms":1}')
    assert refused(tmp_path).kind is Kind.NEWER_FORMAT


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind":"cloud"}'])
def test_a_damaged_marker_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "atoll.json").write_text(content)
    assert refused(tmp_path).kind is Kind.WRONG_FOLDER


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    open_folder(tmp_path, "node", 1).close()
    assert refused(tmp_path).kind is Kind.WRONG_FOLDER


def test_a_second_holder_is_refused_with_the_pid(tmp_path: Path) -> None:
    held = open_folder(tmp_path, "cloud", 1)
    error = refused(tmp_path)
    assert error.kind is Kind.CONFLICT
    assert str(os.getpid()) in error.message
    assert lock_holder(tmp_path) == os.getpid()
    held.close()
    assert lock_holder(tmp_path) is None


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert refused(tmp_path / "file").kind is Kind.WRONG_FOLDER


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    assert read_secret(tmp_path, "root.key", lambda: b"first") == b"first"
    assert read_secret(tmp_path, "root.key", lambda: b"second") == b"first"
    place = tmp_path / "secrets" / "root.key"
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    place.chmod(0o640)
    with pytest.raises(AtollError) as error:
        read_secret(tmp_path, "root.key")
    assert error.value.kind is Kind.CONFIG
    assert "chmod 600" in error.value.hint


def test_an_absent_secret_is_an_error_without_a_maker(tmp_path: Path) -> None:
    with pytest.raises(AtollError) as error:
        read_secret(tmp_path, "root.key")
    assert error.value.kind is Kind.CONFIG
    assert read_marker(tmp_path) is None
