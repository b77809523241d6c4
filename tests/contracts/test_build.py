"""What is shipped is what the sources compile to, and a broken artifact says so."""

import json
import os
from pathlib import Path

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.economy.artifacts.load import RUNTIME_BYTES_MAX, load, names
from atoll.economy.contracts import build
from tests.contracts.machine import FULL
from tests.contracts.mutate import MUTANTS_MIN, declared, mutated_sources
from tests.contracts.world import account, deploy, environment


@pytest.mark.parametrize("name", build.contract_names())
def test_shipped_artifact_is_of_these_sources(name: str):
    assert build.is_unchanged(name), "run python -m atoll.economy.contracts.build"


# Compiling everything takes as long as testing it: where nobody waits. One shows that it works.
ALL = FULL or bool(os.environ.get("CI"))


@pytest.mark.parametrize("name", build.contract_names() if ALL else ("NodeRegistry",))
def test_shipped_artifact_is_what_its_source_compiles_to(name: str):
    assert not build.differs(name), "run python -m atoll.economy.contracts.build"


def test_every_artifact_has_a_source_and_fits_a_chain():
    assert names() == build.contract_names()
    for name in names():
        artifact = load(name)
        assert len(artifact.runtime) // 2 + artifact.immutables_bytes <= RUNTIME_BYTES_MAX
        assert f"{name}.vy" in artifact.sources
        source = (build.SOURCES / f"{name}.vy").read_text()
        assert "# SPDX-License-Identifier: AGPL-3.0-only" in source
        assert f"# pragma version {build.COMPILER}" in source


def test_code_on_a_chain_is_known_again():
    token = deploy("Token", [account("provider")], [1])
    code = environment().get_code(token.address)
    assert token.artifact.is_code_of(code)
    assert not token.artifact.is_code_of(code[:-1])
    assert not token.artifact.is_code_of(bytes([code[0] ^ 1]) + code[1:])


def token_with(folder: Path, changes: dict[str, object]) -> Path:
    fields = json.loads((build.ARTIFACTS / "Token.json").read_text()) | changes
    (folder / "Token.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"format": 2}, Kind.NEWER_FORMAT),
        ({"name": "Other"}, Kind.CORRUPT),
        ({"bytecode": ""}, Kind.CORRUPT),
        ({"bytecode": "xy"}, Kind.CORRUPT),
        ({"runtime": ""}, Kind.CORRUPT),
        ({"abi": None}, Kind.CORRUPT),
        ({"surplus": 1}, Kind.CORRUPT),
        ({"immutables_bytes": RUNTIME_BYTES_MAX}, Kind.CORRUPT),
    ],
)
def test_broken_artifact_is_refused(tmp_path: Path, changes: dict[str, object], kind: Kind):
    assert load("Token", token_with(tmp_path, {})).name == "Token"
    with pytest.raises(AtollError) as error:
        load("Token", token_with(tmp_path, changes))
    assert error.value.kind is kind


def test_unknown_contract_and_no_json_are_refused(tmp_path: Path):
    with pytest.raises(AtollError) as error:
        load("Unheard")
    assert error.value.kind is Kind.NOT_FOUND
    (tmp_path / "Token.json").write_bytes(b"{")
    with pytest.raises(AtollError) as error:
        load("Token", tmp_path)
    assert error.value.kind is Kind.CORRUPT


def test_build_compiles_what_changed_and_nothing_else(tmp_path: Path):
    sources, artifacts = tmp_path / "sources", tmp_path / "artifacts"
    sources.mkdir()
    artifacts.mkdir()
    source = "# pragma version 0.4.3\nx: public(uint256)\n"
    (sources / "Box.vy").write_text(source)
    assert build.build("Box", sources, artifacts)
    assert not build.build("Box", sources, artifacts)
    assert not build.differs("Box", sources, artifacts)
    (sources / "Box.vy").write_text(source.replace("x:", "y:"))
    assert build.differs("Box", sources, artifacts)
    assert build.build("Box", sources, artifacts)
    assert [entry["name"] for entry in load("Box", artifacts).abi] == ["y"]


def test_wrong_source_is_a_typed_error(tmp_path: Path):
    (tmp_path / "Box.vy").write_text("x: nothing\n")
    with pytest.raises(AtollError) as error:
        build.compile_contract("Box", tmp_path)
    assert error.value.kind is Kind.BAD_REQUEST


@pytest.mark.parametrize("name", build.contract_names())
def test_every_contract_declares_mutants_that_fit_its_source(name: str, tmp_path: Path):
    entry = declared()[name]
    assert len(entry.mutants) >= MUTANTS_MIN
    assert len({mutant.name for mutant in entry.mutants}) == len(entry.mutants)
    for number, mutant in enumerate(entry.mutants):
        mutated_sources(name, mutant, tmp_path / str(number))
