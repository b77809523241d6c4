"""What a watcher reads of the distributor's words and of transactions that called it."""

from atoll.core.ports import ChainCall
from atoll.economy.chain import abi
from atoll.economy.settlement.fraud import chunk_level, leaf_words, path_words, shown_chunk
from atoll.economy.settlement.sumtree import Leaf, build
from atoll.runtime.clock import SystemClock
from atoll.watcher.contract import Distributor

ADDRESS = b"d" * 20
TREE = build([Leaf(number.to_bytes(20, "big"), number, 1) for number in range(1, 100)])


def test_an_answer_is_read_wherever_it_was_passed_on() -> None:
    contract = Distributor(ADDRESS, SystemClock(), embedded=True)
    opening = TREE.open(chunk_level(99), 1)
    leaves = [leaf_words(leaf) for leaf in opening.leaves]
    data = contract.call("answer", (1, leaves, path_words(opening.path)))
    direct = ChainCall(ADDRESS, data)
    passed_on = ChainCall(b"m" * 20, b"\x12\x34\x56\x78" + bytes(64) + data + bytes(28))
    for call in (direct, passed_on):
        found = contract.read_answer(call)
        assert found is not None
        assert found[0] == 1
        assert shown_chunk(TREE.root, 99, *found) == opening.leaves
    for other in (
        ChainCall(ADDRESS, contract.call("finalise", ())),
        ChainCall(b"m" * 20, b"nothing of the kind"),
        ChainCall(ADDRESS, data[:100]),
        ChainCall(ADDRESS, b""),
    ):
        assert contract.read_answer(other) is None


def test_a_call_is_read_by_its_function_only() -> None:
    contract = Distributor(ADDRESS, SystemClock(), embedded=True)
    data = contract.call("demand", (7,))
    assert abi.read_call(contract.artifact, "demand", data) == (7,)
    assert abi.read_call(contract.artifact, "answer", data) is None
