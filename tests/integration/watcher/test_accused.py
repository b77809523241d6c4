"""Verifiers who signed a wrong root lose their place, where a watcher is told to see to it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.chain import new_folder, start_anvil
from tests.fixtures.distributor import (
    CheatTree,
    SettledChain,
    WatcherProcess,
    document_of,
    make_chain,
    put_document,
    some_leaves,
    wait_for,
)

pytestmark = pytest.mark.xdist_group("chain")


@pytest.fixture
def folder() -> Iterator[Path]:
    found = new_folder()
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def chain(folder: Path) -> Iterator[SettledChain]:
    server = start_anvil(folder)
    yield make_chain(server, folder, 900)
    server.kill()


def standing(chain: SettledChain) -> list[bool]:
    return [bool(chain.view("SlashCourt", "standing", one.address)) for one in chain.verifiers]


@pytest.mark.long
def test_who_signed_a_wrong_root_stands_no_more(
    chain: SettledChain, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATOLL_WATCHER_ACCUSE", "on")
    watcher = WatcherProcess(chain, folder / "watcher", [str(folder / "mirror")])
    watcher.start()
    try:
        leaves = some_leaves(20)
        tree = CheatTree([*leaves[:5], leaves[4], *leaves[5:]])
        document = document_of(list(tree.leaves), tree, 1)
        put_document(folder / "mirror", 1, document)
        assert standing(chain) == [True] * 3
        two, last = chain.verifiers[:2], chain.verifiers[2:]
        attempt = chain.propose(tree, document.content_hash, signers=two)
        wait_for(lambda: chain.struck(attempt))
        wait_for(lambda: standing(chain) == [False, False, True])
        assert chain.nonce(watcher.account()) == 3, "one strike, two signers, each once"
        with pytest.raises(AssertionError, match="undone"):
            chain.propose(CheatTree(leaves), document.content_hash, signers=two)
        watcher.kill()
        watcher.start()
        honest = document_of(leaves, None, 5)
        put_document(folder / "mirror", 5, honest)
        attempt = chain.propose(CheatTree(leaves), honest.content_hash, 5, last)
        wait_for(lambda: f"attempt {attempt}: honest" in watcher.log())
        assert chain.nonce(watcher.account()) == 3, "a new start does not begin anew"
    finally:
        watcher.kill()
