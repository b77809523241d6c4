"""``atoll epoch recompute --from-chain-only``: only the chain is believed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fixtures.chain import new_folder, start_anvil
from tests.fixtures.distributor import (
    COORDINATOR_KEY,
    CheatTree,
    SettledChain,
    make_chain,
    put_document,
)
from tests.fixtures.epochs import Life

from atoll.cli.main import main
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.document import (
    NO_DOCUMENT,
    Published,
    content_of,
    publish,
    with_pseudonyms,
)
from atoll.economy.settlement.model import FIRST, TakeParameters
from atoll.economy.settlement.sumtree import Leaf

pytestmark = pytest.mark.xdist_group("chain")
CORRUPT, NOT_FOUND = 65, 66
EPOCHS = 4
LEFT_OUT = 2
"""The epoch that is not settled by itself."""


def life(parameters: TakeParameters) -> list[tuple[Published, CheatTree]]:
    """Documents of some epochs and their trees, computed with these parameters."""
    one, before, previous, made = Life(5, nodes=6, payers=4), FIRST, NO_DOCUMENT, []
    for _ in range(EPOCHS):
        inputs, _ = with_pseudonyms(one.next(), b"s" * 32)
        result = compute(before, inputs, one.tariff, parameters)
        content = content_of(before, inputs, one.tariff, parameters, result)
        document = publish(content, COORDINATOR_KEY, previous)
        leaves = [Leaf(row.account, row.released_micro, row.held_micro) for row in content.leaves]
        made.append((document, CheatTree(leaves)))
        before, previous = result.totals, document.content_hash
    return made


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    found = new_folder()
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="module")
def chain(folder: Path) -> Iterator[SettledChain]:
    """Epochs 1 and 3 are final, 4 is proposed; 2 was left out."""
    server = start_anvil(folder)
    made = make_chain(server, folder)
    for number, (document, tree) in enumerate(life(TakeParameters()), 1):
        put_document(folder / "mirror", number, document)
        if number == LEFT_OUT:
            continue
        made.propose(tree, document.content_hash, number)
        if number < EPOCHS:
            made.finalise()
    yield made
    server.kill()


def recompute(
    chain: SettledChain, capsys: pytest.CaptureFixture[str], number: int, source: Path
) -> tuple[int, dict[str, Any]]:
    words = [
        *("epoch", "recompute", str(number), "--from-chain-only", "--json"),
        *("--chain", chain.server.url, "--from", str(source), "--data", str(source)),
        *("--contracts", "0x" + chain.address("EpochDistributor").hex()),
    ]
    with pytest.raises(SystemExit) as left:
        main(words)
    out = capsys.readouterr().out
    return int(left.value.code or 0), json.loads(out) if out else {}


def test_what_was_settled_comes_out(
    chain: SettledChain, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, before, state in ((1, 0, "final"), (3, 1, "final"), (4, 3, "open")):
        status, found = recompute(chain, capsys, number, folder / "mirror")
        assert (status, found["agrees"], found["differences"]) == (0, True, [])
        assert (found["before"], found["state"], found["unseen"]) == (before, state, [])
    assert recompute(chain, capsys, LEFT_OUT, folder / "mirror")[0] == NOT_FOUND


def test_every_other_document_is_refused(
    chain: SettledChain, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole life that is right in itself, but is not the one on the chain."""
    other = msgspec.structs.replace(TakeParameters(), top_up_bps=900)
    for number, (document, _) in enumerate(life(other), 1):
        put_document(tmp_path, number, document)
    status, found = recompute(chain, capsys, 3, tmp_path)
    assert (status, found["agrees"]) == (CORRUPT, False)
    assert "content hash" in found["differences"][0]


def test_one_byte_and_one_missing_document_are_named(
    chain: SettledChain, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(folder / "mirror", mirror)
    before = (mirror / "2" / "index").read_bytes()
    (mirror / "2" / "index").write_bytes((mirror / "1" / "index").read_bytes())
    status, found = recompute(chain, capsys, 3, mirror)
    assert (status, found["agrees"]) == (CORRUPT, False)
    (mirror / "2" / "index").unlink()
    status, found = recompute(chain, capsys, 3, mirror)
    assert (status, found["agrees"]) == (0, True), "what is there is right"
    assert any("epoch 2 is not there" in one for one in found["unseen"])
    (mirror / "2" / "index").write_bytes(before)
    for path in sorted((mirror / "chunks").iterdir()):
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert recompute(chain, capsys, 3, mirror)[0] == CORRUPT


def test_other_parameters_than_the_chain_s_are_named(
    chain: SettledChain, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verifiers signed, the tree is in order, but the take was computed with other numbers."""
    mirror = folder / "other"
    document, tree = life(msgspec.structs.replace(TakeParameters(), top_up_bps=900))[0]
    chain.finalise()
    more = [msgspec.structs.replace(one, released_micro=10**11) for one in tree.leaves]
    assert more
    put_document(mirror, 9, document)
    last = CheatTree(sorted(more, key=lambda one: one.account))
    chain.propose(last, document.content_hash, 9)
    status, found = recompute(chain, capsys, 9, mirror)
    assert (status, found["agrees"]) == (CORRUPT, False)
    said = " ".join(found["differences"])
    assert "parameters.top_up_bps: published 900, on the chain 1000" in said
    assert "index.root" in said
    assert "index.epoch: published 1, on the chain 9" in said
