"""What events make of an epoch, and that claims cover exactly what is unpaid."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.coordinator.settlement import rules
from atoll.coordinator.settlement.model import (
    EPOCHS_AT_ONCE_MAX,
    REJECTIONS_MAX,
    SettlementRow,
    State,
)
from atoll.economy.settlement.fraud import leaf_words
from atoll.economy.settlement.sumtree import Leaf, SumTree, build

ROW = SettlementRow(
    epoch=7,
    state=State.SIGNED,
    content=b"c" * 32,
    root=b"r" * 32,
    count=3,
    released_micro=10,
    held_micro=5,
    attempt=4,
)
TRANSACTION = b"t" * 32


def said(**changes: Any) -> dict[str, Any]:
    return {"root": ROW.root, "content": ROW.content, "attempt": 4, "ends_s": 99, **changes}


def test_a_proposal_by_whomever_is_the_epoch_s() -> None:
    for state in (State.SIGNED, State.PUBLISHED, State.REJECTED):
        after = rules.proposed(replace(ROW, state=state), said(attempt=9), TRANSACTION)
        assert (after.state, after.attempt, after.ends_s) == (State.PROPOSED, 9, 99)
        assert after.proposed_transaction == TRANSACTION


@pytest.mark.parametrize("state", [State.PROPOSED, State.FINAL, State.CLAIMED, State.CARRIED])
def test_an_event_that_comes_late_changes_nothing(state: State) -> None:
    row = replace(ROW, state=state)
    assert rules.proposed(row, said(), TRANSACTION) == row


@pytest.mark.parametrize("name", ["root", "content"])
def test_another_root_is_no_proposal_of_ours(name: str) -> None:
    after = rules.proposed(ROW, said(**{name: b"x" * 32}), TRANSACTION)
    assert after.state is State.SIGNED
    assert "another root" in after.problem


def test_what_was_withheld_is_proposed_again_and_not_for_ever() -> None:
    row = replace(ROW, state=State.PROPOSED, ends_s=99)
    for number in range(1, REJECTIONS_MAX):
        row = rules.rejected(row, {"attempt": row.attempt, "fault": rules.FAULT_WITHHELD})
        assert (row.state, row.rejections, row.attempt) == (State.PUBLISHED, number, 0)
        row = replace(row, state=State.PROPOSED, attempt=4 + number)
    row = rules.rejected(row, {"attempt": row.attempt, "fault": rules.FAULT_WITHHELD})
    assert row.state is State.REJECTED
    assert "not shown in time" in row.problem


@pytest.mark.parametrize("fault", [1, 2, 3])
def test_what_is_wrong_stays_wrong(fault: int) -> None:
    row = rules.rejected(replace(ROW, state=State.PROPOSED), {"attempt": 4, "fault": fault})
    assert row.state is State.REJECTED
    assert f"fault {fault}" in row.problem


def test_a_rejection_of_another_attempt_is_not_ours() -> None:
    row = replace(ROW, state=State.PROPOSED)
    assert rules.rejected(row, {"attempt": 3, "fault": 1}) == row


def test_a_final_root_is_ours_only_if_it_is_ours() -> None:
    row = replace(ROW, state=State.PROPOSED)
    assert rules.finalised(row, {"root": ROW.root}, TRANSACTION).state is State.FINAL
    other = rules.finalised(row, {"root": b"x" * 32}, TRANSACTION)
    assert other.state is State.REJECTED
    claimed = replace(ROW, state=State.CLAIMED)
    assert rules.finalised(claimed, {"root": ROW.root}, TRANSACTION) == claimed


def test_the_newest_open_epochs_are_signed() -> None:
    rows = [replace(ROW, epoch=n, state=list(State)[n % len(State)]) for n in range(1, 100)]
    chosen = rules.to_sign(rows)
    assert len(chosen) == EPOCHS_AT_ONCE_MAX
    assert {one.state for one in chosen} <= {State.PUBLISHED, State.SIGNED}
    assert [one.epoch for one in chosen] == sorted((one.epoch for one in chosen), reverse=True)
    older = [one for one in rows if one.epoch < chosen[-1].epoch or one not in chosen]
    assert not any(
        one.state in (State.PUBLISHED, State.SIGNED) and one.epoch > chosen[-1].epoch
        for one in older
    )


def tree_of(released: list[int]) -> SumTree:
    return build(Leaf(n.to_bytes(20, "big"), amount, 1) for n, amount in enumerate(released, 1))


@settings(max_examples=60)
@given(st.data(), st.integers(1, 700))
def test_claims_cover_who_is_unpaid_and_nobody_else(data: st.DataObject, count: int) -> None:
    amounts = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    paid = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    tree = tree_of(amounts)
    claimed = {tree.leaf(n).account: min(paid[n], amounts[n]) for n in range(count)}
    wanted: list[tuple[str, int]] = []
    for group in rules.claim_groups(tree, claimed):
        name, values = rules.claim_call(tree, 7, group)
        if name == "claim":
            assert group.unpaid == 1
            wanted.append(values[3])
            continue
        assert name == "claim_many"
        leaves, skip = values[4], values[5]
        assert len(leaves) <= 256
        kept = [leaf for place, leaf in enumerate(leaves) if not skip >> place & 1]
        assert len(kept) == group.unpaid >= 2
        wanted += kept
    unpaid = [tree.leaf(n) for n in range(count) if amounts[n] > claimed[tree.leaf(n).account]]
    assert sorted(wanted) == sorted(leaf_words(leaf) for leaf in unpaid)
