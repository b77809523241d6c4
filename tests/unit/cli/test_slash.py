"""``atoll slash check``: a kept file is checked with nothing else in hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.core.proofs.losses import loss_by, loss_file_of
from tests.unit.core.proofs.world import COORDINATOR, PROVIDER, VERIFIERS
from tests.unit.verifier.test_losses import content_with

from atoll.cli.slash import slash
from atoll.core.errors import AtollError, Kind
from atoll.core.proofs.loss import name_of
from atoll.economy.settlement.document import publish, read_index


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


@pytest.mark.parametrize(("more_pico", "right"), [(0, True), (1, False)])
def test_the_slash_of_an_epoch_is_checked_against_its_document(
    tmp_path: Path, more_pico: int, right: bool
) -> None:
    body = loss_by(COORDINATOR, VERIFIERS, PROVIDER, 70)
    (tmp_path / "loss").write_bytes(body)
    content, _ = content_with(name_of(body), more_pico=more_pico, loser=PROVIDER.node_id)
    published = publish(content, COORDINATOR.public_key)
    folder = tmp_path / "epochs"
    for entry, chunk in zip(read_index(published.index).chunks, published.chunks, strict=True):
        path = folder / "chunks" / entry.sha256.hex()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chunk)
    (folder / "2").mkdir()
    (folder / "2" / "index").write_bytes(published.index)
    words = [str(tmp_path / "loss"), "--epoch", "2", "--from", str(folder)]
    if right:
        parts = {name: int(one) for name, one in json.loads(run(*words, "--json"))["slash"].items()}
        assert parts["taken_pico"] > 0
        assert sum(parts.values()) == 2 * parts["taken_pico"]
        assert "epoch 2 takes what follows" in run(*words)
    else:
        with pytest.raises(AtollError) as caught:
            run(*words)
        assert "repair_pico" in caught.value.message
