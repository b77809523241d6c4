"""What a watcher sends, and when."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from atoll.economy.settlement.fraud import Disorder, unshown
from atoll.economy.settlement.sumtree import Leaf, build
from atoll.watcher import rules
from atoll.watcher.model import SPENT, Case, Demand, Proposal, Snapshot, Verdict, Windows

OWN, OTHER = b"o" * 20, b"x" * 20
WINDOWS = Windows(challenge_s=1_000, answer_s=100, fee_micro=1_000_000)
SECRET = b"s" * 32
ENDS_S = 10_000
LEAVES = [Leaf(number.to_bytes(20, "big"), 5, 1) for number in range(1, 151)]
TREE = build(LEAVES)
PROPOSAL = Proposal(7, 3, TREE.root, b"c" * 32, 750, 150, 150, 100, b"p" * 20, ENDS_S, 0)


def at(time_s: int, proposal: Proposal | None = PROPOSAL, attempts: int = 7) -> Snapshot:
    return Snapshot(1, time_s, attempts, proposal, 2, bytes(32))


def sent(
    case: Case, time_s: int, demands: list[Demand] | None = None, demands_max: int = 64
) -> list[tuple[str, str]]:
    found = rules.calls(case, at(time_s), WINDOWS, demands or [], SECRET, demands_max)
    return [(key, name) for key, name, _ in found]


def test_nothing_is_sent_about_an_honest_root() -> None:
    case = Case(PROPOSAL, Verdict.HONEST, tree=TREE)
    for time_s in (ENDS_S - 1_000, ENDS_S - 1, ENDS_S + 5_000):
        assert sent(case, time_s) == []
    for verdict in (Verdict.SHOWN, Verdict.UNCHECKED):
        assert sent(Case(PROPOSAL, verdict), ENDS_S - 1) == []


def test_a_document_has_a_quarter_of_the_window_to_turn_up() -> None:
    case = Case(PROPOSAL)
    assert sent(case, ENDS_S - 501) == [], "it was not looked for to the end yet"
    assert len(sent(case, ENDS_S - 500)) == 3, "but that must not take for ever"
    case.looked = 1.0
    assert sent(case, ENDS_S - 1_000 + 249) == []
    assert [name for _, name in sent(case, ENDS_S - 1_000 + 250)] == ["demand"] * 3
    assert sent(case, ENDS_S) == [], "the chain takes no demand after the window"
    assert len(sent(Case(PROPOSAL, Verdict.UNSHOWN), ENDS_S - 1_000)) == 3, "no reason to wait"


def test_what_can_be_proven_is_proven_and_what_was_asked_is_not_asked_again() -> None:
    fault = Disorder(TREE.prove(0), TREE.prove(1))
    wrong = Case(PROPOSAL, Verdict.WRONG, fault=fault)
    assert sent(wrong, ENDS_S + 1) == [("7/prove_disorder", "prove_disorder")]
    asked = [Demand(7, 1, OTHER, ENDS_S, 1)]
    keys = [key for key, _ in sent(Case(PROPOSAL, Verdict.UNSHOWN), ENDS_S - 900, asked)]
    assert keys == ["7/demand/0", "7/demand/2"]


def test_a_demand_is_followed_to_its_end() -> None:
    case = Case(PROPOSAL, Verdict.UNSHOWN)
    mine, answered = Demand(7, 0, OWN, 9_500, 1), Demand(7, 1, OWN, SPENT, 1, b"t" * 32)
    last = Demand(7, 2, OTHER, 9_500, 1)
    demands = [mine, answered, last]
    assert sent(case, 9_500, demands) == []
    assert sent(case, 9_501, demands) == [
        ("7/reject/0", "reject_withheld"),
        ("7/reject/2", "reject_withheld"),
    ]


def test_what_is_known_is_shown_for_whoever_is_away() -> None:
    case = Case(PROPOSAL, Verdict.HONEST, tree=TREE)
    demand = Demand(7, 2, OTHER, 9_500, 1)
    assert sent(case, 9_449, [demand]) == [], "the proposer has half of the time for himself"
    assert sent(case, 9_450, [demand]) == [("7/answer/2", "answer")]
    chunk, leaves, path = rules.answer(case, 2)
    assert (chunk, len(leaves), len(path)) == (2, 150 - 128, 2 * 2)


@given(st.integers(1, 10**6), st.integers(1, 64), st.binary(min_size=32, max_size=32))
def test_chosen_chunks_are_few_all_different_and_the_same_again(
    count: int, most: int, secret: bytes
) -> None:
    proposal = replace(PROPOSAL, count=count)
    chunks = unshown(count).chunks
    chosen = rules.chosen_chunks(proposal, secret, most)
    assert len(chosen) == len(set(chosen)) == min(chunks, most)
    assert all(0 <= chunk < chunks for chunk in chosen)
    assert chosen == rules.chosen_chunks(proposal, secret, most)


def test_fees_come_back_only_where_nothing_is_left_to_win() -> None:
    mine, other = Demand(7, 0, OWN, 9_500, 1), Demand(7, 1, OTHER, 9_500, 1)
    spent = Demand(6, 3, OWN, SPENT, 1)
    assert rules.to_reclaim([mine, other, spent], OWN, at(1)) == []
    gone = rules.to_reclaim([mine, other, spent], OWN, at(1, None))
    assert gone == [("7/reclaim/0", "reclaim", (7, 0))]
    assert rules.to_reclaim([mine], OWN, at(1, replace(PROPOSAL, attempt=8), 8)) == gone


def test_whoever_hides_documents_to_live_on_fees_gets_one_at_a_time() -> None:
    assert rules.demands_allowed(rules.LOSSES_MAX - 1, 64) == 64
    most = rules.demands_allowed(rules.LOSSES_MAX, 64)
    case = Case(PROPOSAL, Verdict.UNSHOWN)
    (first,) = sent(case, ENDS_S - 900, demands_max=most)
    other = Case(replace(PROPOSAL, attempt=8), Verdict.UNSHOWN)
    assert first[1] == "demand"
    assert len(sent(other, ENDS_S - 900, demands_max=most)) == 1
