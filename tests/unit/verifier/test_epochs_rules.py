"""Proof lines of an epoch held against own verdicts: no lie passes, no honest line is refused."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.economy.settlement.model import ProofLine
from atoll.verifier.epochs_rules import OBJECTIONS_MAX, OwnVerdict, objections

NODE = b"n" * 32
_VERDICTS = st.lists(
    st.tuples(st.integers(1, 64), st.integers(0, 64)).map(lambda p: (p[0], min(p))), max_size=12
)


@given(_VERDICTS, st.data())
def test_an_honest_line_is_never_refused(
    verdicts: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Whatever part of the verdicts we gave, and whichever slots count as missed."""
    ours = data.draw(st.lists(st.booleans(), min_size=len(verdicts), max_size=len(verdicts)))
    missed = data.draw(st.lists(st.booleans(), min_size=len(verdicts), max_size=len(verdicts)))
    met = [one for one, gone in zip(verdicts, missed, strict=True) if not gone]
    line = ProofLine(
        NODE,
        len(verdicts),
        sum(missed),
        sum(samples for samples, _ in met),
        sum(failed for _, failed in met),
        b"e",
    )
    own = [
        OwnVerdict(slot, *one)
        for slot, (one, mine) in enumerate(zip(verdicts, ours, strict=True))
        if mine
    ]
    assert objections([line], {NODE: own}) == []


@given(_VERDICTS.filter(lambda some: any(failed for _, failed in some)))
def test_a_failure_that_is_left_out_is_told(verdicts: list[tuple[int, int]]) -> None:
    samples, failed = (sum(column) for column in zip(*verdicts, strict=True))
    line = ProofLine(NODE, len(verdicts), 0, samples, failed - 1, b"e")
    own = [OwnVerdict(slot, *one) for slot, one in enumerate(verdicts)]
    (objection,) = objections([line], {NODE: own})
    assert f"not {failed - 1}" in objection


def test_samples_that_are_left_out_are_told() -> None:
    line = ProofLine(NODE, 2, 0, 32, 0, b"e")
    own = [OwnVerdict(1, 32, 0), OwnVerdict(2, 32, 0)]
    assert objections([line], {NODE: own}) == [f"n-{NODE.hex()[:10]}: we judged 64 samples, not 32"]


def test_nodes_that_we_did_not_judge_are_believed_and_lists_end() -> None:
    lines = [ProofLine(bytes([n]) * 32, 1, 0, 1, 0, b"e") for n in range(100)]
    assert objections(lines, {}) == []
    own = {one.node: [OwnVerdict(1, 1, 1)] for one in lines}
    assert len(objections(lines, own)) == OBJECTIONS_MAX
