"""The command's frame: fast, quiet where it should be, and clear when it fails."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from atoll.cli import main as frame
from atoll.cli.output import table
from atoll.core.errors import AtollError, Kind
from atoll.runtime.folder import open_folder

START_CPU_S_MAX = 0.15
"""An import too many costs more than this."""
HEAVY = ("rich", "aiohttp", "litestar", "uvicorn", "sqlalchemy", "boto3", "cryptography", "asyncio")


def test_the_command_starts_without_heavy_imports() -> None:
    code = (
        "import sys, atoll.cli.main\n"
        "try: atoll.cli.main.main(['--version'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "0.1.0" in done.stdout


def test_version_is_fast() -> None:
    best = min(_seconds() for _ in range(3))
    assert best < START_CPU_S_MAX, f"atoll --version took {best:.3f} s"


def _seconds() -> float:
    """CPU of the whole process, start of Python included: what a busy machine does not change."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "atoll", "--version"], capture_output=True, check=True)
    after = os.times()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        frame.main(list(words))
    output = capsys.readouterr()
    return int(str(end.value.code)), output.out, output.err


def test_an_unknown_command_is_said_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "dance")
    assert (status, out) == (64, "")
    assert err.splitlines()[1] == "hint:  see `atoll --help`"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    errors: list[Exception] = []

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def dance(as_json: bool) -> None:
        raise errors[0]

    monkeypatch.setattr(frame.root, "get_command", lambda context, name: dance)
    return errors


def test_an_error_of_ours_is_two_lines_and_its_exit_code(
    failing: list[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(AtollError(Kind.DISK_FULL, "x", "no room\n\x1b[31mleft", hint="buy a disk"))
    status, out, err = run(capsys, "dance")
    assert (status, out) == (74, "")
    assert err == "error: no room  [31mleft\nhint:  buy a disk\n", "control characters are gone"


def test_an_error_is_json_where_json_is_asked_for(
    failing: list[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(AtollError(Kind.NOT_FOUND, "x", "nothing"))
    status, _, err = run(capsys, "dance", "--json")
    assert status == 66
    assert '"kind": "not_found"' in err


def test_a_bug_is_one_line_too(
    failing: list[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(ZeroDivisionError("division by zero"))
    status, _, err = run(capsys, "dance")
    assert status == 70
    assert "unexpected ZeroDivisionError" in err
    assert "Traceback" not in err


def test_an_interrupt_is_quiet(
    failing: list[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(click.Abort())
    assert run(capsys, "dance") == (130, "", "")


def test_tables_align_by_what_is_seen() -> None:
    rows = [("a", "1"), (click.style("bbb", fg="red"), "22")]
    assert [click.unstyle(line) for line in table(rows, right=frozenset({1}))] == [
        "a     1",
        "bbb  22",
    ]


@pytest.mark.parametrize("kind", ["cloud", "coordinator", "node"])
def test_the_status_of_a_stopped_folder_is_not_that_of_another_cloud(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    open_folder(tmp_path, kind, 1_800_000_000_000).close()
    monkeypatch.setattr("atoll.cli.status.ask_page", lambda page: pytest.fail(f"asked {page}"))
    status, _, err = run(capsys, "status", "--data", str(tmp_path))
    assert status == 69
    assert "no cloud runs in" in err
