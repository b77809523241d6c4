"""``atoll slash check``: a kept file is checked with nothing else in hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.core.proofs.losses import loss_file_of
from tests.unit.core.proofs.world import PROVIDER, VERIFIERS

from atoll.cli.slash import slash
from atoll.core.errors import AtollError, Kind


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "loss"
    path.write_bytes(loss_file_of(PROVIDER, [(70, 32)]))
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(slash, ["check", *arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_file_is_checked(file: Path, tmp_path: Path) -> None:
    told = run(str(file))
    assert "the loss is shown" in told
    assert "32 of 32 samples" in told
    keys = [word for one in VERIFIERS for word in ("--verifier", one.public_key.hex())]
    facts = json.loads(run(str(file), "--json", *keys, "--save", str(tmp_path / "kept")))
    assert facts["node"] == PROVIDER.node_id.hex()
    assert (tmp_path / "kept").read_bytes() == file.read_bytes()


def test_what_does_not_hold_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(AtollError) as caught:
        run(str(file), "--verifier", VERIFIERS[0].public_key.hex())
    assert caught.value.kind is Kind.UNAUTHENTICATED
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AtollError) as caught:
        run(str(file))
    assert caught.value.kind is Kind.CORRUPT
    with pytest.raises(AtollError) as caught:
        run(str(tmp_path / "absent"))
    assert caught.value.kind is Kind.NOT_FOUND
    with pytest.raises(AtollError) as caught:
        run(str(file), "--verifier", "xyz")
    assert caught.value.kind is Kind.BAD_REQUEST
