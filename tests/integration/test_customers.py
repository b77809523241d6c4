"""A customer of a whole cloud: nothing left, read-only, a statement of the bank, writable again."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.bank import OURS, Row, Sheet, Tx, camt

from atoll.cli.local_cloud import LocalCloud

pytestmark = pytest.mark.xdist_group("heavy")
PATIENCE_S = 90.0
FORBIDDEN, BAD_INPUT = 77, 64
SETTINGS = f"""
[cloud]
allowance_euro = 0
[coordinator]
epoch_s = 20
time_factor = 1000000000
prepaid = "enforced"
prepaid_notice_s = 1
[bank]
holder = "Atoll Betrieb eG"
iban = "{OURS}"
address = "Hafen 1; 20095 Hamburg"
"""


class Shell:
    """Runs ``atoll`` on one cloud."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "atoll", *words, "--data", str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def told(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until(self, what: Callable[[Any], bool]) -> Any:
        """Ask for the bill until it says something."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            bill = self.told("bill")
            if what(bill):
                return bill
            assert time.monotonic() < deadline, bill
            time.sleep(0.3)  # other processes have no event to wait for


def top_up(shell: Shell, folder: Path, cents: int, number: int) -> Path:
    """Write the statement that a bank would give the operator after a customer's transfer."""
    reference = shell.told("invoice", "pay", "--amount", "20")["reference"]
    row = Row((Tx(cents, structured=reference),), f"BANK-{number}")
    path = folder / f"statement-{number}.xml"
    path.write_bytes(camt(Sheet((row,), f"S-{number}")))
    return path


def test_nothing_left_refuses_uploads_and_a_statement_lets_them_in_again(tmp_path: Path) -> None:
    data, file = tmp_path / "cloud", tmp_path / "file"
    data.mkdir()
    (data / "atoll.toml").write_text(SETTINGS)
    file.write_bytes(b"x" * 3_000_000)
    with LocalCloud("--data", str(data), "--nodes", "6", "--port", "0"):
        shell = Shell(data)
        shell.until(lambda bill: bill["refused"] == "unpaid")
        refused = shell.run("mb", "s3://photos")
        assert refused.returncode == FORBIDDEN, refused.stderr
        assert "atoll invoice pay" in refused.stderr
        first = top_up(shell, tmp_path, 1, 1)
        assert shell.told("bank", "import", str(first))["credited_eur"] == "0.01"
        assert shell.run("mb", "s3://photos").returncode == 0
        assert shell.run("cp", str(file), "s3://photos/a").returncode == 0
        empty = shell.until(lambda bill: bill["standing"] == "read_only")
        assert empty["refused"] == "unpaid"
        refused = shell.run("cp", str(file), "s3://photos/b", "--json")
        assert refused.returncode == FORBIDDEN
        assert json.loads(refused.stderr)["error"]["kind"] == "unpaid"
        assert shell.run("cp", "s3://photos/a", str(tmp_path / "back")).returncode == 0
        assert (tmp_path / "back").read_bytes() == file.read_bytes(), "what is stored is read"

        second = top_up(shell, tmp_path, 5_000, 2)
        for expected in ("50.00", "0.00"):
            taken = shell.told("bank", "import", str(second))
            assert taken["credited_eur"] == expected, "the same statement twice credits once"
        assert shell.until(lambda bill: bill["standing"] == "active")["refused"] == ""
        assert shell.run("cp", str(file), "s3://photos/b").returncode == 0
        garbage = tmp_path / "garbage.xml"
        garbage.write_bytes(second.read_bytes()[:300])
        assert shell.run("bank", "import", str(garbage)).returncode == BAD_INPUT
        (customer,) = shell.told("bank", "accounts")["customers"]
        assert customer["standing"] == "active"
