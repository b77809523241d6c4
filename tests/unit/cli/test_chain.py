"""The embedded chain's program: got, checked, found, and told about where it is not there."""

import hashlib
import io
import json
import tarfile
from base64 import b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner

from atoll.cli.chain import embedded
from atoll.cli.chain.deploy import _read_values
from atoll.cli.chain.install import _put, check_integrity
from atoll.cli.chain.run import run
from atoll.core.errors import AtollError, Kind
from atoll.economy.chain import anvil

ARCHIVE = b"an archive"
DIGEST = "sha512-" + b64encode(hashlib.sha512(ARCHIVE).digest()).decode()


def test_an_archive_is_the_one_that_is_known() -> None:
    check_integrity(ARCHIVE, DIGEST)
    check_integrity(ARCHIVE, "")  # none is known for this machine: npm has looked
    with pytest.raises(AtollError) as error:
        check_integrity(ARCHIVE + b"!", DIGEST)
    assert error.value.kind is Kind.CORRUPT


def test_every_known_package_has_a_name_and_one_a_checksum() -> None:
    assert anvil.PACKAGES["Linux", "x86_64"].integrity.startswith("sha512-")
    for package in anvil.PACKAGES.values():
        assert "://" not in package.name, "npm knows where it gets it from"


def packed(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_the_program_is_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.cli.chain.install.install_folder", lambda: tmp_path / "share")
    place = _put(packed("package/bin/anvil", b"#!/bin/sh\n"))
    assert place.read_bytes() == b"#!/bin/sh\n"
    assert place.stat().st_mode & 0o777 == 0o755
    for wrong in (packed("elsewhere", b""), b"no archive", b""):
        with pytest.raises(AtollError) as error:
            _put(wrong)
        assert error.value.kind is Kind.CORRUPT


def program(folder: Path, text: str) -> Path:
    path = folder / "anvil"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = embedded.importlib.util.find_spec
    monkeypatch.setattr(
        embedded.importlib.util, "find_spec", lambda name: None if name in names else find(name)
    )


def test_a_program_that_runs_is_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = program(tmp_path, "exit 0")
    monkeypatch.setenv(anvil.VARIABLE, str(good))
    assert embedded.find_engine() == embedded.Engine("anvil", good, "")


def test_a_program_that_does_not_run_has_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = program(tmp_path, "echo 'version GLIBC_2.35 not found' >&2; exit 1")
    monkeypatch.setenv(anvil.VARIABLE, str(bad))
    found = embedded.find_engine()
    assert (found.name, found.program) == ("py-evm", None)
    assert "GLIBC_2.35" in found.problem
    without(monkeypatch, "eth_tester")
    found = embedded.find_engine()
    assert found.name == ""
    assert "atoll chain install" in found.problem


def test_without_the_libraries_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "web3")
    found = embedded.find_engine()
    assert found.name == ""
    assert "atoll[chain]" in found.problem


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_it_listens_on_loopback_only(tmp_path: Path, host: str) -> None:
    answer = CliRunner().invoke(run, ["--data", str(tmp_path), "--host", host])
    assert isinstance(answer.exception, AtollError)
    assert answer.exception.kind is Kind.CONFIG
    assert not list(tmp_path.iterdir())


def test_a_state_that_was_cut_off_is_put_aside(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    assert anvil.set_aside_broken(state) is None
    whole = json.dumps({"block": {"number": "0x1"}, "accounts": {}})
    state.write_text(whole)
    assert anvil.set_aside_broken(state) is None
    assert state.exists()
    for torn in (whole[: len(whole) // 2], "", "[]", "\0" * 100):
        state.write_text(torn)
        broken = anvil.set_aside_broken(state)
        assert broken is not None
        assert broken.read_text() == torn
        assert not state.exists()


def test_no_key_and_no_phrase_is_in_an_argument(tmp_path: Path) -> None:
    words = anvil.arguments(tmp_path / "anvil", "127.2.1.1", 8545, tmp_path / "state.json")
    assert "--mnemonic" not in words
    assert words[words.index("--accounts") + 1] == "0"
    assert words[words.index("--host") + 1] == "127.2.1.1"


def test_a_plan_is_read(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'unbonding_s = 5\n[accounts]\nholder = "0x0102"\n'
        '[Vesting]\namounts = ["500000000000000000000000000"]\nbeneficiaries = ["@holder"]\n'
    )
    assert _read_values(plan) == {
        "unbonding_s": 5,
        "accounts.holder": b"\x01\x02",
        "Vesting.amounts": [500_000_000_000_000_000_000_000_000],
        "Vesting.beneficiaries": ["@holder"],
    }
    assert _read_values(None) == {}
    for wrong in ("no toml", 'a = "0xzz"'):
        plan.write_text(wrong)
        with pytest.raises(AtollError) as error:
            _read_values(plan)
        assert error.value.kind is Kind.CONFIG
