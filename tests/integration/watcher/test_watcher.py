"""A watcher in a process of its own strikes down every wrong root, and no honest one."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.chain import new_folder, start_anvil
from tests.fixtures.distributor import (
    EURO_MICRO,
    CheatTree,
    SettledChain,
    WatcherProcess,
    account,
    document_of,
    make_chain,
    put_document,
    some_leaves,
    wait_for,
)

from atoll.cli.places import WATCHER_SEED
from atoll.economy.settlement.fraud import chunk_level, leaf_words, path_words
from atoll.economy.settlement.sumtree import Leaf, build

pytestmark = pytest.mark.xdist_group("chain")
BOND = 100 * EURO_MICRO
SHARE = BOND // 2
FEE = EURO_MICRO
FAULT_SUM, FAULT_ORDER, FAULT_FALLING, FAULT_WITHHELD = 1, 2, 3, 4
TIME_DIVISOR = 900
"""Of the windows: long enough for processes to start again on a busy machine."""
PATIENCE_S, LATE_S, ANSWER_S = 25, 49, 25
"""A second more than a quarter and half of the window to challenge, and than that to answer."""
ACCOUNTS = 150
"""Three chunks."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    found = new_folder()
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="module")
def chain(folder: Path) -> Iterator[SettledChain]:
    server = start_anvil(folder)
    yield make_chain(server, folder, TIME_DIVISOR)
    server.kill()


@pytest.fixture(scope="module")
def mirror(folder: Path) -> Path:
    return folder / "mirror"


@pytest.fixture(scope="module")
def watcher(chain: SettledChain, folder: Path, mirror: Path) -> Iterator[WatcherProcess]:
    running = WatcherProcess(chain, folder / "watcher", [str(mirror)])
    running.start()
    wait_for(lambda: running.alive() and (running.folder / "secrets" / WATCHER_SEED).exists())
    chain.send(chain.proposer, "TestStable", "faucet", running.account(), 1_000 * EURO_MICRO)
    yield running
    running.kill()


def honest(euro: int) -> list[Leaf]:
    return some_leaves(ACCOUNTS, euro)


@pytest.fixture(scope="module")
def settled(chain: SettledChain, watcher: WatcherProcess, mirror: Path) -> list[Leaf]:
    """The leaves of an honest epoch, which is final."""
    leaves = honest(5)
    attempt = propose(chain, mirror, leaves)
    wait_for(lambda: f"attempt {attempt}: honest" in watcher.log())
    chain.finalise()
    assert chain.nonce(watcher.account()) == 0, "nothing was sent"
    return leaves


def propose(
    chain: SettledChain,
    mirror: Path,
    leaves: list[Leaf],
    tree: CheatTree | None = None,
    published: list[Leaf] | None = None,
) -> int:
    """Publish leaves, then propose a tree; the same ones unless said otherwise."""
    tree = tree or CheatTree(leaves)
    document = document_of(published or leaves, tree, chain.epoch + 1)
    put_document(mirror, chain.epoch + 1, document)
    return chain.propose(tree, document.content_hash)


def hold_back(
    chain: SettledChain, leaves: list[Leaf], tree: CheatTree | None = None, epoch: int = 0
) -> int:
    """Propose a tree whose document nobody has, and let the time pass in which it might come."""
    tree = tree or CheatTree(leaves)
    content = document_of(leaves, tree, epoch or chain.epoch + 1).content_hash
    attempt = chain.propose(tree, content, epoch)
    chain.pass_time(PATIENCE_S)
    return attempt


def demanded(chain: SettledChain, attempt: int) -> list[int]:
    return [one["chunk"] for one in chain.told("Demanded") if one["attempt"] == attempt]


def falls(
    chain: SettledChain, watcher: WatcherProcess, attempt: int, fault: int, before: int
) -> None:
    said = wait_for(lambda: chain.struck(attempt))
    assert said["fault"] == fault
    assert said["challenger"] == "0x" + watcher.account().hex()
    assert said["reward_micro"] == SHARE
    # Fees of other demands of this proposal come back a moment later.
    wait_for(lambda: chain.balance_micro(watcher.account()) == before + SHARE)
    assert not chain.is_open()


def test_a_wrong_sum_is_struck_down_wherever_it_is(
    chain: SettledChain, watcher: WatcherProcess, mirror: Path, settled: list[Leaf]
) -> None:
    leaves = honest(6)
    whole = CheatTree(leaves)
    for level, place in ((len(whole.levels) - 1, 0), (4, 3), (1, 40), (0, 77)):
        before = chain.balance_micro(watcher.account())
        more = whole.word_of(level, place) + (EURO_MICRO << 128)
        attempt = propose(chain, mirror, leaves, CheatTree(leaves, {(level, place): more}))
        falls(chain, watcher, attempt, FAULT_SUM, before)


def test_a_double_leaf_and_disorder_are_struck_down(
    chain: SettledChain, watcher: WatcherProcess, mirror: Path, settled: list[Leaf]
) -> None:
    leaves = honest(6)
    double = [*leaves[:70], leaves[69], *leaves[70:]]
    turned = [*leaves[:63], leaves[64], leaves[63], *leaves[65:]]
    for wrong in (double, turned):
        before = chain.balance_micro(watcher.account())
        falls(chain, watcher, propose(chain, mirror, wrong), FAULT_ORDER, before)


def test_a_falling_and_a_missing_account_are_struck_down(
    chain: SettledChain, watcher: WatcherProcess, mirror: Path, settled: list[Leaf]
) -> None:
    leaves = honest(6)
    less = Leaf(account(90), settled[90].released_micro - 1, 0)
    falling = [*leaves[:90], less, *leaves[91:]]
    for wrong in (falling, leaves[:90] + leaves[91:], leaves[1:], leaves[:-1]):
        before = chain.balance_micro(watcher.account())
        falls(chain, watcher, propose(chain, mirror, wrong), FAULT_FALLING, before)


def test_a_root_that_its_document_does_not_make_falls_when_nobody_shows_it(
    chain: SettledChain, watcher: WatcherProcess, mirror: Path, settled: list[Leaf]
) -> None:
    leaves = honest(6)
    thief = [*leaves[:10], Leaf(account(10), 900 * EURO_MICRO, 0), *leaves[11:]]
    twice = CheatTree(leaves)
    up = twice.word_of(1, 4) + (EURO_MICRO << 128)
    down = twice.word_of(2, 30) - (EURO_MICRO << 128)
    for tree in (CheatTree(thief), CheatTree(leaves, {(1, 4): up, (2, 30): down})):
        before = chain.balance_micro(watcher.account())
        attempt = propose(chain, mirror, leaves, tree)
        wait_for(lambda attempt=attempt: len(demanded(chain, attempt)) == 3)
        chain.pass_time(ANSWER_S)
        falls(chain, watcher, attempt, FAULT_WITHHELD, before)
        shown = watcher.show()
        assert shown["proposals"][0]["verdict"] == "unshown"
        assert shown["proposals"][0]["reward_micro"] == SHARE
        assert shown["balance_micro"] == before + SHARE
        assert shown["earned_micro"] % SHARE == 0


def test_withheld_data_is_demanded_and_falls(
    chain: SettledChain, watcher: WatcherProcess, settled: list[Leaf]
) -> None:
    before = chain.balance_micro(watcher.account())
    attempt = hold_back(chain, honest(6))
    wait_for(lambda: len(demanded(chain, attempt)) == 3)
    chain.pass_time(ANSWER_S)
    falls(chain, watcher, attempt, FAULT_WITHHELD, before)


def answer(chain: SettledChain, tree: CheatTree, attempt: int) -> None:
    """Show every chunk that was demanded, as a proposer does who has the leaves."""
    known = build(tree.leaves, ordered=False)
    for chunk in demanded(chain, attempt):
        opening = known.open(chunk_level(known.count), chunk)
        shown = [leaf_words(leaf) for leaf in opening.leaves]
        chain.send(
            chain.proposer, "EpochDistributor", "answer", chunk, shown, path_words(opening.path)
        )


def test_what_was_shown_instead_of_the_document_is_judged_too(
    chain: SettledChain, watcher: WatcherProcess, mirror: Path, settled: list[Leaf]
) -> None:
    leaves = honest(6)
    robbed = [*leaves[:90], Leaf(account(90), settled[90].released_micro - 1, 0), *leaves[91:]]
    before = chain.balance_micro(watcher.account())
    tree = CheatTree(robbed)
    attempt = propose(chain, mirror, leaves, tree)
    wait_for(lambda: len(demanded(chain, attempt)) == 3)
    answer(chain, tree, attempt)
    # Three fees went to whoever answered, half of the bond to whoever read the answers.
    falls(chain, watcher, attempt, FAULT_FALLING, before - 3 * FEE)


def test_an_honest_root_whose_document_is_hidden_is_demanded_and_stands(
    chain: SettledChain, watcher: WatcherProcess, settled: list[Leaf]
) -> None:
    leaves = honest(5)
    tree = CheatTree(leaves)
    attempt = hold_back(chain, leaves, tree)
    wait_for(lambda: len(demanded(chain, attempt)) == 3)
    answer(chain, tree, attempt)
    wait_for(lambda: f"attempt {attempt}: shown" in watcher.log())
    chain.finalise()
    assert chain.struck(attempt) is None


def test_a_lying_source_makes_nobody_challenge_an_honest_root(
    chain: SettledChain, watcher: WatcherProcess, folder: Path, settled: list[Leaf]
) -> None:
    """One has another document under the number, one broken bytes, one holds the line for ever."""
    watcher.kill()  # it knows none of these sources and would ask
    leaves, others = honest(5), honest(7)
    epoch = chain.epoch + 1
    good = document_of(leaves, None, epoch)
    liar, vandal, mirror = folder / "liar", folder / "vandal", folder / "good mirror"
    put_document(liar, epoch, document_of(others, None, epoch))
    put_document(vandal, epoch, good)
    for path in (vandal / "chunks").iterdir():
        path.write_bytes(bytes(reversed(path.read_bytes())))
    put_document(mirror, epoch, good)
    silent = socket.create_server(("127.0.0.1", 0))
    door = f"http://127.0.0.1:{silent.getsockname()[1]}"
    sources = [door, str(liar), str(vandal), str(mirror)]
    one = WatcherProcess(chain, folder / "careful", sources)
    one.start()
    try:
        attempt = chain.propose(CheatTree(leaves), good.content_hash)
        wait_for(lambda: f"attempt {attempt}: honest" in one.log())
        chain.finalise()
        assert chain.struck(attempt) is None
        assert chain.nonce(one.account()) == 0, "nothing was sent"
    finally:
        one.kill()
        watcher.start()
        silent.close()


def test_a_source_that_holds_the_line_does_not_save_a_wrong_root(
    chain: SettledChain, watcher: WatcherProcess, folder: Path, settled: list[Leaf]
) -> None:
    watcher.kill()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = f"http://127.0.0.1:{silent.getsockname()[1]}"
        one = WatcherProcess(chain, folder / "patient", [door])
        one.start()
        try:
            attempt = hold_back(chain, honest(6))
            chain.pass_time(LATE_S - PATIENCE_S)
            wait_for(lambda: len(demanded(chain, attempt)) == 3)
            chain.pass_time(ANSWER_S)
            said = wait_for(lambda: chain.struck(attempt))
            assert said["challenger"] == "0x" + one.account().hex()
        finally:
            one.kill()
            watcher.start()


def test_a_watcher_shows_what_a_proposer_who_is_away_does_not(
    chain: SettledChain, watcher: WatcherProcess, mirror: Path, settled: list[Leaf]
) -> None:
    """Otherwise demands alone would bring down honest roots."""
    before = chain.balance_micro(watcher.account())
    attempt = propose(chain, mirror, honest(5))
    wait_for(lambda: f"attempt {attempt}: honest" in watcher.log())
    chain.send(chain.proposer, "EpochDistributor", "demand", 1)
    chain.pass_time(ANSWER_S // 2)
    wait_for(lambda: [one for one in chain.told("Answered") if one["attempt"] == attempt])
    assert chain.balance_micro(watcher.account()) == before + FEE
    chain.finalise()
    assert chain.struck(attempt) is None


@pytest.mark.parametrize("moment", ["before it reads", "after it demanded"])
def test_a_watcher_that_is_killed_goes_on(
    chain: SettledChain, watcher: WatcherProcess, settled: list[Leaf], moment: str
) -> None:
    before = chain.balance_micro(watcher.account())
    if moment == "before it reads":
        watcher.kill()
    attempt = hold_back(chain, honest(6))
    if moment == "after it demanded":
        wait_for(lambda: len(demanded(chain, attempt)) == 3)
        watcher.kill()
    watcher.start()
    wait_for(lambda: len(demanded(chain, attempt)) == 3)
    nonce = chain.nonce(watcher.account())
    watcher.kill()
    watcher.start()
    chain.pass_time(ANSWER_S)
    falls(chain, watcher, attempt, FAULT_WITHHELD, before)
    sent = chain.nonce(watcher.account()) - nonce
    assert sent <= 1 + 2, "one rejection, two fees that came back; nothing was sent twice"
