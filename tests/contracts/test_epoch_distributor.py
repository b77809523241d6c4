"""Epochs on the chain: wrong roots are struck down by anyone, right ones pay exactly once."""

import json
from pathlib import Path

import pytest

from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.fraud import calls_of, find_fault
from atoll.economy.settlement.sumtree import Leaf, SumTree, leaf_hash, node_hash, sums_word
from tests.contracts.gas import FOLDER, check_gas
from tests.contracts.settlement import (
    ANSWER_S,
    CHALLENGE_S,
    CONTENT,
    DEMAND_FEE,
    PROPOSER_BOND,
    VERIFIERS,
    RawTree,
    World,
    account_bytes,
    claim,
    claim_many,
    leaf_tuple,
    make_world,
    propose,
    root_statement,
    sign_all,
    top_of,
    tree_of,
    words,
)
from tests.contracts.world import (
    EURO_MICRO,
    ZERO,
    account,
    deploy,
    new_chain,
    pass_time,
    refused,
    transaction,
)

PROVIDERS = tuple(f"provider {number}" for number in range(9))
FAULT_SUM, FAULT_ORDER, FAULT_FALLING, FAULT_WITHHELD = 1, 2, 3, 4


def earned(factor: int = 1) -> dict[bytes, tuple[int, int]]:
    return {
        account_bytes(role): (factor * (number + 1) * EURO_MICRO, number * 1_000)
        for number, role in enumerate(PROVIDERS)
    }


def raw(amounts: dict[bytes, tuple[int, int]]) -> list[Leaf]:
    return [Leaf(one, *amounts[one]) for one in sorted(amounts)]


@pytest.fixture(scope="module")
def world() -> World:
    made = make_world()
    made.distributor.fund(10**9, sender=account("funder"))
    return made


def settle(world: World, epoch: int, tree: SumTree) -> None:
    propose(world, epoch, tree)
    pass_time(CHALLENGE_S)
    world.distributor.finalise(sender=account("anybody"))


def balance(world: World, role: str) -> int:
    return world.stable.balanceOf(account(role))


def test_an_epoch_pays_each_account_what_is_released_once(world: World) -> None:
    before = balance(world, "proposer")
    first = tree_of(earned())
    settle(world, 1, first)
    assert balance(world, "proposer") == before
    for index in range(first.count):
        leaf = first.leaf(index)
        owner = "0x" + leaf.account.hex()
        assert claim(world, 1, first, index) == leaf.released_micro
        assert claim(world, 1, first, index) == 0
        assert world.stable.balanceOf(owner) == leaf.released_micro
        assert world.distributor.held_of(owner) == leaf.held_micro
    second = tree_of(earned(3))
    settle(world, 2, second)
    assert claim_many(world, 2, second, 4, 0) == 2 * first.released_micro
    assert claim_many(world, 2, second, 4, 0) == 0
    # A proof of an older epoch pays nothing twice and does not bring old held figures back.
    assert claim(world, 1, first, 0) == 0
    owner = "0x" + first.leaf(0).account.hex()
    assert world.distributor.epoch_of(owner) == 2
    assert world.distributor.paid_micro() == second.released_micro


def test_an_older_final_root_still_pays_who_did_not_claim(world: World) -> None:
    first, second = tree_of(earned()), tree_of(earned(2))
    settle(world, 1, first)
    settle(world, 3, second)
    leaf = first.leaf(4)
    assert claim(world, 1, first, 4) == leaf.released_micro
    assert claim(world, 3, second, 4) == leaf.released_micro
    with refused("not final"):
        claim(world, 2, second, 4)


def test_a_claim_of_anything_else_is_refused(world: World) -> None:
    tree = tree_of(earned())
    settle(world, 1, tree)
    proof = tree.prove(2)
    path, leaf = words(proof.path), leaf_tuple(proof.leaf)
    thief = (account("attacker"), leaf[1])
    more = (leaf[0], leaf[1] + (1 << 128))
    for count, index, shown, way in (
        (9, 2, thief, path),
        (9, 2, more, path),
        (9, 2, (leaf[0], leaf[1] + 1), path),
        (9, 3, leaf, path),
        (9, 18, leaf, path),
        (10, 2, leaf, path),
        (8, 2, leaf, path),
        (0, 2, leaf, path),
        (2**33, 2, leaf, path),
        (9, 2, leaf, path[:-2]),
        (9, 2, leaf, path[:-1]),
        (9, 2, leaf, [*path, b"\0" * 32, b"\0" * 32]),
        (9, 1, leaf, path[2:]),
    ):
        with refused():
            world.distributor.claim(1, count, index, shown, way)
    opening = tree.open(2, 1)
    shown = [leaf_tuple(one) for one in opening.leaves]
    way = words(opening.path)
    for level, position, leaves in (
        (2, 0, shown),
        (2, 1, shown[:3]),
        (2, 1, [*shown[:3], thief]),
        (2, 5, shown),
        (1, 1, shown[:2]),
        (9, 0, shown),
        (2, 1, [shown[1], shown[0], *shown[2:]]),
    ):
        with refused():
            world.distributor.claim_many(1, 9, level, position, leaves, 0, way)
    # What is appended to a subtree's leaves is in no hash.
    alone = tree.open(0, 2)
    with refused("leaves"):
        world.distributor.claim_many(1, 9, 0, 2, [leaf, thief], 0, words(alone.path))
    assert world.distributor.paid_micro() == 0
    assert world.distributor.is_leaf(1, 9, 2, leaf, path)
    assert not world.distributor.is_leaf(1, 9, 2, more, path)


def test_the_depth_of_a_path_follows_from_the_count(world: World) -> None:
    # Nine leaves are promised, the tree below has four: nothing of it can be claimed.
    tree = RawTree(raw(earned())[:4])
    leaf, index, path = tree.shown(1)
    tree.count = 9
    propose(world, 1, tree)
    pass_time(CHALLENGE_S)
    world.distributor.finalise()
    with refused("path"):
        world.distributor.claim(1, 9, index, leaf, path)
    with refused("path"):
        world.distributor.claim_many(1, 9, 0, index, [leaf], 0, path)


def test_sums_that_carry_are_no_proof(world: World) -> None:
    # Held of 2**128 − 1 beside a leaf would make 1 released out of nothing.
    mine = Leaf(account_bytes("attacker"), 5 * EURO_MICRO, 1)
    here = leaf_hash(mine) + sums_word(5 * EURO_MICRO, 1).to_bytes(32, "big")
    beside = keccak_256(b"x") + ((1 << 128) - 1).to_bytes(32, "big")
    wrapped = sums_word(5 * EURO_MICRO, 1) + (1 << 128) - 1
    tree = RawTree([mine, mine])
    tree.top, tree.word, tree.count = node_hash(here, beside), wrapped, 2
    assert tree.sums == (5 * EURO_MICRO + 1, 0)
    propose(world, 1, tree)
    pass_time(CHALLENGE_S)
    world.distributor.finalise()
    with refused("too large"):
        world.distributor.claim(1, 2, 0, leaf_tuple(mine), [beside[:32], beside[32:]])


def test_the_contract_and_the_golden_vectors_agree(world: World) -> None:
    path = Path(__file__).parents[1] / "golden" / "vectors" / "sumtree.json"
    for epoch, vector in enumerate(json.loads(path.read_text())["trees"], 1):
        count, sums = vector["count"], (vector["released_micro"], vector["held_micro"])
        world.give_stable("funder", sum(sums))
        world.distributor.fund(sum(sums), sender=account("funder"))
        tree = RawTree([Leaf(bytes(20), 0, 0)])
        tree.count, tree.top, tree.word = count, bytes.fromhex(vector["top"]), sums_word(*sums)
        propose(world, epoch, tree)
        pass_time(CHALLENGE_S)
        world.distributor.finalise()
        assert world.distributor.final_root(epoch).hex() == vector["root"]
        for proof in vector["proofs"]:
            word = sums_word(proof["released_micro"], proof["held_micro"])
            path_ = words(tuple(bytes.fromhex(node) for node in proof["path"]))
            shown = ("0x" + proof["account"], word)
            assert world.distributor.is_leaf(epoch, count, proof["index"], shown, path_)
            other = ("0x" + proof["account"], word + 1)
            assert not world.distributor.is_leaf(epoch, count, proof["index"], other, path_)


# Proposals


def test_a_proposal_needs_signatures_funds_and_a_next_epoch(world: World) -> None:
    tree = tree_of(earned())
    distributor = world.distributor
    for signers in ((), VERIFIERS[:1], (VERIFIERS[0], "attacker"), (VERIFIERS[0],) * 2):
        with refused("quorum"):
            propose(world, 1, tree, signers=signers)
    with refused("epoch"):
        propose(world, 0, tree)
    with refused("not funded"):
        propose(world, 1, tree, sums=(10**9, 1))
    with refused("too large"):
        propose(world, 1, tree, sums=(1 << 120, 0))
    with refused():
        propose(world, 1, tree, sender="nobody with a bond")
    propose(world, 7, tree)
    with refused("another is open"):
        propose(world, 8, tree)
    with refused("window"):
        distributor.finalise()
    pass_time(CHALLENGE_S - 1)
    with refused("window"):
        distributor.finalise()
    pass_time(1)
    distributor.finalise()
    with refused("none is open"):
        distributor.finalise()
    for epoch in (6, 7, 7 + 4097):
        with refused("epoch"):
            propose(world, epoch, tree)
    with refused("released falls"):
        propose(world, 8, tree, sums=(tree.released_micro - 1, 0))
    propose(world, 7 + 4096, tree)


def test_signatures_are_for_one_attempt_epoch_and_document(world: World) -> None:
    tree = tree_of(earned())
    released, held = tree.released_micro, tree.held_micro

    def offer(statement: tuple[int, bytes, int, bytes], epoch: int = 1) -> None:
        signed = sign_all(world, VERIFIERS, statement)
        world.distributor.propose(
            epoch, top_of(tree), released, held, 9, CONTENT, signed, sender=account("proposer")
        )

    good = root_statement(world, 1, 1, tree.root, CONTENT)
    for wrong in (
        root_statement(world, 2, 1, tree.root, CONTENT),
        root_statement(world, 1, 2, tree.root, CONTENT),
        root_statement(world, 1, 1, tree.root, keccak_256(b"another document")),
        root_statement(world, 1, 1, keccak_256(b"another root"), CONTENT),
        (2, *good[1:]),
    ):
        with refused("quorum"):
            offer(wrong)
    offer(good)
    pass_time(CHALLENGE_S)
    world.distributor.finalise()
    with refused("quorum"):
        offer(good, epoch=2)


# Wrong roots


def test_a_bad_sum_is_struck_down_at_every_level(world: World) -> None:
    leaves = raw(earned())
    for level, place in ((1, 0), (1, 4), (2, 1), (3, 1), (4, 0)):
        honest = RawTree(leaves)
        recorded = int.from_bytes(honest.node(level, place)[32:], "big") + (1 << 128)
        tree = RawTree(leaves, sums={(level, place): recorded})
        propose(world, 1, tree)
        left, right = (tree.node(level - 1, 2 * place + side) for side in (0, 1))
        strike_sum(world, tree, level, place, left, right)


def strike_sum(
    world: World, tree: RawTree, level: int, place: int, left: bytes, right: bytes
) -> None:
    recorded = int.from_bytes(tree.node(level, place)[32:], "big")
    before = balance(world, "watcher"), balance(world, "insurance")
    children = (left[:32], as_int(left), right[:32], as_int(right))
    with refused():
        world.distributor.prove_bad_sum(place ^ 1, recorded, *children, tree.path(level, place))
    world.distributor.prove_bad_sum(
        place, recorded, *children, tree.path(level, place), sender=account("watcher")
    )
    struck(world, FAULT_SUM)
    assert balance(world, "watcher") == before[0] + PROPOSER_BOND // 2
    assert balance(world, "insurance") == before[1] + PROPOSER_BOND // 2


def as_int(node: bytes) -> int:
    return int.from_bytes(node[32:], "big")


def is_fraudulent(world: World, epoch: int, root: bytes) -> bool:
    """Whether what verifiers signed for the newest attempt is marked as wrong."""
    attempt = world.distributor.attempts()
    statement = root_statement(world, attempt, epoch, root, CONTENT)
    kind, subject, stated = world.distributor.statement_of(root, CONTENT, attempt)
    assert (kind, subject, stated) == (*statement[:2], statement[3])
    known: bool = world.distributor.fraudulent(keccak_256(encode_words(statement)))
    return known


def encode_words(statement: tuple[int, bytes, int, bytes]) -> bytes:
    kind, subject, epoch, stated = statement
    return kind.to_bytes(32, "big") + subject + epoch.to_bytes(32, "big") + stated


def struck(world: World, fault: int) -> None:
    (event,) = world.distributor.events("Rejected")
    assert event.values["fault"] == fault
    assert is_fraudulent(world, event.values["epoch"], world.distributor.proposal()[0])
    assert world.distributor.proposal()[4] == 0
    pass_time(CHALLENGE_S)
    with refused("none is open"):
        world.distributor.finalise()
    assert world.distributor.locked_micro() == 0


def test_recorded_sums_that_carry_are_struck_down(world: World) -> None:
    leaves = raw(earned())
    tree = RawTree(leaves, sums={(0, 1): (1 << 128) - 1})
    propose(world, 1, tree)
    strike_sum(world, tree, 1, 0, tree.node(0, 0), tree.node(0, 1))


def test_a_leaf_recorded_with_another_amount_is_struck_down(world: World) -> None:
    leaves = raw(earned())
    tree = RawTree(leaves, sums={(0, 3): sums_word(77 * EURO_MICRO, 0)})
    propose(world, 1, tree)
    shown, index, path = tree.shown(3)
    recorded = sums_word(77 * EURO_MICRO, 0)
    for wrong in (
        ((shown[0], recorded), 3, recorded, path),
        (shown, 2, recorded, path),
        (shown, 3, recorded + 1, path),
        (shown, 3, recorded, path[2:]),
        (shown, 3 + 16, recorded, path),
    ):
        with refused():
            world.distributor.prove_bad_leaf(*wrong, sender=account("watcher"))
    world.distributor.prove_bad_leaf(shown, index, recorded, path, sender=account("watcher"))
    struck(world, FAULT_SUM)


def test_two_leaves_of_one_account_are_struck_down(world: World) -> None:
    leaves = raw(earned())
    tree = RawTree([*leaves[:4], leaves[3], *leaves[4:]])
    propose(world, 1, tree)
    with refused("in order"):
        world.distributor.prove_disorder(tree.shown(1), tree.shown(2))
    with refused("index"):
        world.distributor.prove_disorder(tree.shown(4), tree.shown(3))
    with refused("index"):
        world.distributor.prove_disorder(tree.shown(3), tree.shown(3))
    left, right = tree.shown(3), tree.shown(4)
    with refused():
        world.distributor.prove_disorder(left, (right[0], 5, right[2]))
    world.distributor.prove_disorder(left, right, sender=account("watcher"))
    struck(world, FAULT_ORDER)


def test_leaves_out_of_order_are_struck_down_wherever_they_are(world: World) -> None:
    leaves = raw(earned())
    leaves[1], leaves[7] = leaves[7], leaves[1]
    tree = RawTree(leaves)
    propose(world, 1, tree)
    world.distributor.prove_disorder(tree.shown(1), tree.shown(5), sender=account("watcher"))
    struck(world, FAULT_ORDER)


def test_a_falling_figure_is_struck_down(world: World) -> None:
    old = tree_of(earned())
    settle(world, 1, old)
    leaves = raw(earned(2))
    victim = old.leaf(5)
    leaves[5] = Leaf(victim.account, victim.released_micro - 1, 0)
    tree = RawTree(leaves)
    propose(world, 2, tree)
    shown = RawTree(raw(earned())).shown
    with refused("accounts"):
        world.distributor.prove_falling(9, shown(4), tree.shown(5))
    with refused("does not fall"):
        world.distributor.prove_falling(9, shown(4), tree.shown(4))
    invented = shown(5)
    invented = ((invented[0][0], invented[0][1] + (9 << 128)), *invented[1:])
    with refused("not in the tree"):
        world.distributor.prove_falling(9, invented, tree.shown(5))
    made_up = tree.shown(4)
    with refused("not in the tree"):
        world.distributor.prove_falling(9, shown(4), ((made_up[0][0], 0), *made_up[1:]))
    world.distributor.prove_falling(9, shown(5), tree.shown(5), sender=account("watcher"))
    struck(world, FAULT_FALLING)


@pytest.mark.parametrize("gone", [0, 4, 8])
def test_a_missing_account_is_struck_down(world: World, gone: int) -> None:
    settle(world, 1, tree_of(earned()))
    shown = RawTree(raw(earned())).shown
    leaves = raw(earned(2))
    del leaves[gone]
    tree = RawTree(leaves)
    propose(world, 2, tree)
    beside = [tree.shown(gone - 1)] if gone else []
    beside += [tree.shown(gone)] if gone < 8 else []
    for wrong in ([], [tree.shown(3)], [tree.shown(1), tree.shown(2)], [tree.shown(6)] * 2):
        with refused():
            world.distributor.prove_missing(9, shown(gone), wrong)
    there = shown(gone - 1 if gone else 1)
    with refused():
        world.distributor.prove_missing(9, there, beside)
    # Somebody who never was there is not missed.
    leaf, index, path = shown(gone)
    invented = (f"0x{int(leaf[0], 16) ^ 1:040x}", leaf[1])
    with refused("not in the tree"):
        world.distributor.prove_missing(9, (invented, index, path), beside)
    world.distributor.prove_missing(9, shown(gone), beside, sender=account("watcher"))
    struck(world, FAULT_FALLING)


def test_who_had_nothing_released_is_not_missed(world: World) -> None:
    amounts = earned()
    settle(world, 1, tree_of(amounts | {account_bytes("idle"): (0, 7)}))
    old = RawTree(raw(amounts | {account_bytes("idle"): (0, 7)}))
    tree = RawTree(raw(earned(2)))
    propose(world, 2, tree)
    index = [leaf.account for leaf in old.leaves].index(account_bytes("idle"))
    beside = [tree.shown(place) for place in (index - 1, index) if 0 <= place < 9]
    with refused("nothing released"):
        world.distributor.prove_missing(10, old.shown(index), beside)


@pytest.mark.parametrize("fault", ["disorder", "falling", "missing first", "missing last"])
def test_what_a_watcher_finds_strikes_the_root(world: World, fault: str) -> None:
    last = tree_of(earned())
    settle(world, 1, last)
    leaves = raw(earned(2))
    if fault == "disorder":
        leaves[3], leaves[4] = leaves[4], leaves[3]
    elif fault == "falling":
        leaves[8] = Leaf(leaves[8].account, 1, 0)
    else:
        del leaves[0 if fault == "missing first" else 8]
    tree = RawTree(leaves)
    propose(world, 2, tree)
    found = find_fault(last, leaves, tree.count, tree.root)
    assert found is not None
    ((name, arguments),) = calls_of(found)
    getattr(world.distributor, name)(*arguments, sender=account("watcher"))
    struck(world, FAULT_ORDER if fault == "disorder" else FAULT_FALLING)


def test_an_honest_root_stands_against_every_kind_of_proof(world: World) -> None:
    settle(world, 1, tree_of(earned()))
    # One account earned nothing more.
    still = account_bytes(PROVIDERS[4])
    amounts = earned(2) | {still: earned()[still]}
    old, tree = RawTree(raw(earned())), RawTree(raw(amounts))
    propose(world, 2, tree)
    distributor = world.distributor
    for level in range(1, 5):
        left, right = tree.node(level - 1, 0), tree.node(level - 1, 1)
        recorded = as_int(tree.node(level, 0))
        for told in (recorded, recorded + 1):
            with refused():
                distributor.prove_bad_sum(
                    0, told, left[:32], as_int(left), right[:32], as_int(right),
                    tree.path(level, 0),
                )  # fmt: skip
    for index in range(9):
        shown, _, path = tree.shown(index)
        for told in (shown[1], shown[1] + 1):
            with refused():
                distributor.prove_bad_leaf(shown, index, told, path)
        with refused():
            distributor.prove_falling(9, old.shown(index), tree.shown(index))
        # The same leaves of the old root are no leaves of the new one.
        with refused():
            distributor.prove_falling(9, tree.shown(index), old.shown(index))
        for other in range(9):
            with refused():
                distributor.prove_disorder(tree.shown(index), tree.shown(other))
    for index in range(8):
        for middle in (index, index + 1):
            with refused():
                distributor.prove_missing(
                    9, old.shown(middle), [tree.shown(index), tree.shown(index + 1)]
                )
    for index in range(7):
        with refused("not adjacent"):
            distributor.prove_missing(
                9, old.shown(index + 1), [tree.shown(index), tree.shown(index + 2)]
            )
    for end in (0, 8):
        for index in range(9):
            with refused():
                distributor.prove_missing(9, old.shown(index), [tree.shown(end)])
    pass_time(CHALLENGE_S)
    distributor.finalise()


# Withheld data


def many(count: int) -> list[Leaf]:
    return [Leaf((at + 1).to_bytes(20, "big"), 10 * at, at) for at in range(count)]


def test_a_demand_is_answered_and_the_answerer_is_paid(world: World) -> None:
    tree = RawTree(many(130))
    propose(world, 1, tree)
    distributor = world.distributor
    for chunk in (0, 1, 2):
        distributor.demand(chunk, sender=account("watcher"))
    for wrong in (3, 2**32, 0):
        with refused():
            distributor.demand(wrong, sender=account("watcher"))
    pass_time(CHALLENGE_S)
    with refused("demands"):
        distributor.finalise()
    with refused("window"):
        distributor.demand(0, sender=account("watcher"))
    before = balance(world, "relayer")
    for chunk in (2, 0, 1):
        shown = [leaf_tuple(leaf) for leaf in tree.leaves[64 * chunk : 64 * chunk + 64]]
        path = tree.path(6, chunk)
        with refused():
            distributor.answer(chunk, shown[:-1], path)
        with refused():
            distributor.answer(chunk, [*shown[:-1], (shown[-1][0], 5)], path)
        distributor.answer(chunk, shown, path, sender=account("relayer"))
        with refused("not asked"):
            distributor.answer(chunk, shown, path)
        with refused("not asked"):
            distributor.reject_withheld(chunk)
    assert balance(world, "relayer") == before + 3 * DEMAND_FEE
    distributor.finalise()
    assert distributor.locked_micro() == 0


def test_a_small_tree_is_one_chunk(world: World) -> None:
    tree = RawTree(many(5))
    propose(world, 1, tree)
    world.distributor.demand(0, sender=account("watcher"))
    with refused("chunk"):
        world.distributor.demand(1, sender=account("watcher"))
    with refused("level"):
        world.distributor.answer(0, [leaf_tuple(leaf) for leaf in tree.leaves[:2]], tree.path(1, 0))
    world.distributor.answer(0, [leaf_tuple(leaf) for leaf in tree.leaves], [])


def test_withheld_data_strikes_the_proposal_and_pays_who_asked(world: World) -> None:
    tree = RawTree(many(130))
    propose(world, 1, tree)
    distributor = world.distributor
    before = balance(world, "watcher")
    distributor.demand(1, sender=account("watcher"))
    world.give_stable("second watcher")
    distributor.demand(2, sender=account("second watcher"))
    second = balance(world, "second watcher")
    with refused("window"):
        distributor.reject_withheld(1)
    pass_time(ANSWER_S)
    with refused("window"):
        distributor.reject_withheld(1)
    with refused("still open"):
        distributor.reclaim(1, 2)
    pass_time(1)
    with refused("not asked"):
        distributor.reject_withheld(0)
    distributor.reject_withheld(1, sender=account("anybody"))
    (event,) = distributor.events("Rejected")
    assert event.values["fault"] == FAULT_WITHHELD
    assert not is_fraudulent(world, 1, tree.root)
    assert balance(world, "watcher") == before + PROPOSER_BOND // 2
    # The other demand of the same proposal comes back, once.
    distributor.reclaim(1, 2)
    assert balance(world, "second watcher") == second + DEMAND_FEE
    for attempt, chunk in ((1, 2), (1, 1), (1, 0)):
        with refused("not asked"):
            distributor.reclaim(attempt, chunk)
    assert distributor.locked_micro() == 0
    # What was withheld may have been right: it may be proposed again and become final.
    settle(world, 1, tree)


@pytest.mark.parametrize("kind", ["garbage", "order", "beyond", "zero"])
def test_what_no_proof_catches_cannot_be_shown(world: World, kind: str) -> None:
    leaves = many(70)
    nodes = {}
    if kind == "garbage":
        nodes[1, 10] = keccak_256(b"nobody knows") + sums_word(10**6, 0).to_bytes(32, "big")
    elif kind == "order":
        leaves[20], leaves[21] = leaves[21], leaves[20]
    elif kind == "zero":
        leaves[0] = Leaf(bytes(20), 0, 0)
    chunk = 0
    if kind == "beyond":
        hidden = Leaf(account_bytes("attacker"), 10**6, 0)
        word = sums_word(10**6, 0).to_bytes(32, "big")
        nodes[0, 70] = leaf_hash(hidden) + word
        chunk = 1
    tree = RawTree(leaves, nodes=nodes)
    propose(world, 1, tree)
    world.distributor.demand(chunk, sender=account("watcher"))
    shown = [leaf_tuple(leaf) for leaf in leaves[64 * chunk : 64 * chunk + 64]]
    with refused():
        world.distributor.answer(chunk, shown, tree.path(6, chunk), sender=account("proposer"))
    pass_time(ANSWER_S + 1)
    world.distributor.reject_withheld(chunk)


def test_leaves_beyond_the_count_are_found_by_the_last_chunk(world: World) -> None:
    # 129 leaves lie in three chunks; where the fourth would be is money that nobody can see.
    leaves = many(129)
    known = RawTree(leaves)
    hidden = keccak_256(b"hidden") + (9).to_bytes(32, "big")
    left, third = known.node(7, 0), known.node(6, 2)
    right = node_hash(third, hidden) + (as_int(third) + 9).to_bytes(32, "big")
    known.top, known.word = node_hash(left, right), as_int(left) + as_int(right)
    propose(world, 1, known)
    world.distributor.demand(2, sender=account("watcher"))
    with refused("beyond"):
        world.distributor.answer(2, [leaf_tuple(leaves[128])], words((hidden, left)))
    pass_time(ANSWER_S + 1)
    world.distributor.reject_withheld(2)


# Money


def test_a_wrong_final_root_never_pays_more_than_its_sum(world: World) -> None:
    # Verifiers and watchers all slept: the second root leaves everybody out for the attacker.
    first = tree_of(earned())
    settle(world, 1, first)
    claim_many(world, 1, first, 4, 0)
    second = tree_of({account_bytes("attacker"): (first.released_micro, 0)})
    settle(world, 2, second)
    with refused("more than released"):
        claim(world, 2, second, 0)
    with refused("more than released"):
        claim_many(world, 2, second, 0, 0)
    assert world.distributor.paid_micro() == first.released_micro


def test_held_funds_are_not_paid(world: World) -> None:
    tree = tree_of({account_bytes("provider"): (3, 10**9 - 3)})
    settle(world, 1, tree)
    assert claim(world, 1, tree, 0) == 3
    assert world.distributor.held_of(account("provider")) == 10**9 - 3
    released = tree_of({account_bytes("provider"): (10**9, 0)})
    settle(world, 2, released)
    assert claim(world, 2, released, 0) == 10**9 - 3
    assert world.distributor.held_of(account("provider")) == 0


def test_only_new_money_is_absorbed(world: World) -> None:
    distributor, stable = world.distributor, world.stable
    assert distributor.absorb() == 0
    stable.mint(distributor.address, 77)
    tree = tree_of(earned())
    propose(world, 1, tree)
    distributor.demand(0, sender=account("watcher"))
    assert distributor.absorb() == 77
    assert distributor.absorb() == 0
    assert distributor.funded_micro() == 10**9 + 77


def test_a_pause_stops_entry_only(world: World) -> None:
    distributor = world.distributor
    tree = tree_of(earned())
    settle(world, 1, tree)
    raw_tree = RawTree(raw(earned(2)))
    propose(world, 2, raw_tree)
    world.pause()
    for call in (
        lambda: distributor.fund(1, sender=account("funder")),
        lambda: propose(world, 3, tree),
    ):
        with refused("paused"):
            call()
    distributor.demand(0, sender=account("watcher"))
    distributor.answer(0, [leaf_tuple(leaf) for leaf in raw_tree.leaves], [])
    assert claim(world, 1, tree, 0) > 0
    pass_time(CHALLENGE_S)
    distributor.finalise()
    assert claim_many(world, 2, tree_of(earned(2)), 4, 0) > 0


def test_who_cannot_be_paid_stops_nobody(world: World) -> None:
    distributor, stable = world.distributor, world.stable
    tree = tree_of(earned())
    unlucky = "0x" + tree.leaf(3).account.hex()
    stable.set_refused(unlucky, True)
    stable.set_refused(account("proposer"), True)
    settle(world, 1, tree)
    assert distributor.owed_micro(account("proposer")) == PROPOSER_BOND
    assert distributor.locked_micro() == PROPOSER_BOND
    with refused("refused"):
        claim(world, 1, tree, 3)
    paid = claim_many(world, 1, tree, 4, 0)
    (failed,) = distributor.events("ClaimFailed")
    assert failed.values["account"] == unlucky
    assert len(distributor.events("Claimed")) == 8
    assert paid == tree.released_micro - tree.leaf(3).released_micro
    assert distributor.paid_of(unlucky) == 0
    stable.set_refused(unlucky, False)
    assert claim(world, 1, tree, 3) == tree.leaf(3).released_micro
    with refused():
        distributor.withdraw_owed(account("proposer"))
    stable.set_refused(account("proposer"), False)
    before = balance(world, "proposer")
    distributor.withdraw_owed(account("proposer"), sender=account("anybody"))
    assert balance(world, "proposer") == before + PROPOSER_BOND
    with refused("nothing owed"):
        distributor.withdraw_owed(account("proposer"))
    assert distributor.locked_micro() == 0


def test_a_skipped_leaf_stays_unpaid(world: World) -> None:
    tree = tree_of(earned())
    settle(world, 1, tree)
    paid = claim_many(world, 1, tree, 2, 0, skip=0b0101)
    assert paid == tree.leaf(1).released_micro + tree.leaf(3).released_micro
    assert claim_many(world, 1, tree, 2, 0) == (
        tree.leaf(0).released_micro + tree.leaf(2).released_micro
    )


def test_figures_stay_in_their_places(world: World) -> None:
    whale = account("whale")
    world.give_stable("whale", 2**70)
    with refused("more money than there is"):
        world.distributor.fund(2**64, sender=whale)
    before = world.distributor.funded_micro()
    world.distributor.fund(2**64 - 1 - before, sender=whale)
    assert world.distributor.funded_micro() == 2**64 - 1
    assert world.distributor.paid_micro() == world.distributor.locked_micro() == 0
    with refused("more money than there is"):
        world.distributor.fund(1, sender=whale)
    world.stable.mint(world.distributor.address, 1)
    with refused("more money than there is"):
        world.distributor.absorb()


def test_odd_tokens(world: World) -> None:
    distributor, stable = world.distributor, world.stable
    tree = tree_of(earned())
    stable.set_fee(1)
    with refused("transfer"):
        distributor.fund(10**6, sender=account("funder"))
    with refused("transfer"):
        propose(world, 1, tree)
    stable.set_fee(0)
    settle(world, 1, tree)
    stable.set_lies(True)
    with refused("transfer"):
        claim(world, 1, tree, 0)
    assert claim_many(world, 1, tree, 4, 0) == 0
    assert distributor.paid_micro() == 0


def test_a_token_that_calls_back_gets_nothing(world: World) -> None:
    distributor, stable = world.distributor, world.stable
    tree = tree_of(earned())
    settle(world, 1, tree)
    proof = tree.prove(0)
    again = (1, 9, 0, leaf_tuple(proof.leaf), words(proof.path))
    owner = "0x" + proof.leaf.account.hex()
    for name, arguments in (
        ("claim", again),
        ("finalise", ()),
        ("absorb", ()),
        # Read-only: figures in the middle of a transfer are nobody's business.
        ("held_of", (owner,)),
        ("paid_of", (owner,)),
    ):
        data = distributor.function(name, len(arguments)).data(*arguments)
        stable.set_hook(distributor.address, data)
        distributor.fund(1, sender=account("funder"))
        assert stable.hook_calls() == 1
        assert not stable.hook_worked(), name
    data = distributor.function("claim", 5).data(*again)
    stable.set_hook(distributor.address, data)
    assert claim(world, 1, tree, 0) == proof.leaf.released_micro
    assert not stable.hook_worked()
    assert stable.balanceOf(owner) == proof.leaf.released_micro


def test_constructor_refuses_nobody() -> None:
    some = account("somebody")
    for place in range(4):
        arguments = [some] * 4
        arguments[place] = ZERO
        with refused("zero address"):
            deploy("EpochDistributor", *arguments)


# Gas


def deep(
    world: World, epoch: int, factor: int
) -> tuple[Leaf, list[bytes], list[Leaf], list[bytes]]:
    """A final root over 2**20 leaves, of which the first 256 are known and the rest are hashes."""
    leaves = [
        Leaf(account_bytes(f"provider {at}"), factor * (at + 1) * 10_007, factor * at)
        for at in range(256)
    ]
    leaves.sort(key=lambda leaf: leaf.account)
    known = RawTree(leaves)
    node, path = known.node(8, 0), []
    for level in range(8, 20):
        beside = keccak_256(bytes([level])) + sums_word(factor << level, factor << level).to_bytes(
            32, "big"
        )
        path += [beside[:32], beside[32:]]
        node = node_hash(node, beside) + (as_int(node) + as_int(beside)).to_bytes(32, "big")
    known.top, known.word, known.count = node[:32], as_int(node), 1 << 20
    propose(world, epoch, known)
    pass_time(CHALLENGE_S)
    world.distributor.finalise()
    return leaves[77], known.path(0, 77)[:16] + path, leaves, path


def test_gas() -> None:
    with new_chain():
        measure_gas()


def measure_gas() -> None:
    world = make_world()
    owner = world.owner
    distributor, measured = world.distributor, {}
    world.give_stable("funder", 10**13)
    distributor.fund(10**13, sender=account("funder"))
    tree = tree_of(earned())
    settle(world, 1, tree)
    transaction()
    propose(world, 2, tree_of(earned(2)))
    measured["propose, 2 signatures"] = distributor.gas_used()
    pass_time(CHALLENGE_S)
    transaction()
    distributor.finalise(sender=account("relayer"))
    measured["finalise"] = distributor.gas_used()
    for number in range(4, 16):
        role = f"verifier {number}"
        world.court.add_verifier(account(role), keccak_256(role.encode()), sender=owner)
    transaction()
    everyone = tuple(f"verifier {number}" for number in range(1, 11))
    propose(world, 3, tree_of(earned(3)), signers=everyone)
    measured["propose, 10 of 15 signatures"] = distributor.gas_used()
    for signers in ("2", "10 of 15"):
        measured[f"settlement, {signers} signatures"] = (
            measured[f"propose, {signers} signatures"] + measured["finalise"]
        )
    pass_time(CHALLENGE_S)
    distributor.finalise()
    for role in everyone[3:] + tuple(f"verifier {number}" for number in range(11, 16)):
        world.court.remove_verifier(account(role), sender=owner)
    for epoch, name in ((4, "first claim"), (5, "claim")):
        leaf, path, leaves, way = deep(world, epoch, 100 * epoch)
        transaction()
        distributor.claim(epoch, 1 << 20, 77, leaf_tuple(leaf), path, sender=account("relayer"))
        measured[f"{name}, depth 20"] = distributor.gas_used()
        transaction()
        shown = [leaf_tuple(one) for one in leaves]
        distributor.claim_many(epoch, 1 << 20, 8, 0, shown, 0, way, sender=account("relayer"))
        measured[f"{name} in a batch of 256, each"] = distributor.gas_used() // 256
    release = json.loads((FOLDER / "gas_escrow.json").read_text())["release"]
    measured["with the release, 2 signatures"] = measured["settlement, 2 signatures"] + release
    check_gas(
        "EpochDistributor",
        measured,
        {
            "settlement, 2 signatures": 300_000,
            "with the release, 2 signatures": 300_000,
            "settlement, 10 of 15 signatures": 300_000,
            "claim, depth 20": 110_000,
            "claim in a batch of 256, each": 65_000,
            "first claim in a batch of 256, each": 65_000,
        },
    )
