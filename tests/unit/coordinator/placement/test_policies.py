"""Whatever the policy and the nodes: nothing is placed where the policy or a cap forbids it."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.coordinator.placement.test_rules import SeededRng, node
from tests.unit.core.test_policy import EXPRESSIONS, SUBJECTS, brute

from atoll.coordinator.placement import rules
from atoll.coordinator.placement.drift import violations
from atoll.coordinator.placement.model import Candidate, Policy
from atoll.core.messages import StoredPiece
from atoll.core.policy.model import Expression, Rules, Subject

FACTS = st.tuples(SUBJECTS, st.integers(0, 14), st.integers(0, 14), st.sampled_from((0, 1, 2, 3)))


def candidate(alias: int, subject: Subject, operator: int, site: int, asn: int) -> Candidate:
    return node(
        alias, subject=subject, operator=f"operator-{operator}", site=f"site-{site}", asn=asn
    )


@settings(max_examples=200, deadline=None)
@given(
    EXPRESSIONS,
    st.lists(FACTS, min_size=1, max_size=24),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_placement_never_violates_a_policy_or_a_cap(
    expression: Expression,
    facts: Sequence[tuple[Subject, int, int, int]],
    count: int,
    seed: int,
) -> None:
    policy = Policy(2, "drawn", Rules((("data", expression),)))
    nodes = [candidate(i, *one) for i, one in enumerate(facts, 1)]
    pool = rules.pool_of(nodes, policy, 1)
    held = rules.choose(pool, count, SeededRng(seed))
    assert all(brute(expression, one.subject) == 1 for one in held)
    for fact in ("operator", "site", "network"):
        assert max(Counter(getattr(one, fact) for one in held).values(), default=1) == 1
    pieces = [StoredPiece(index=i, alias=one.alias) for i, one in enumerate(held)]
    by_alias = {one.alias: one for one in nodes}
    assert not [one for one in violations(pieces, by_alias, policy) if one.hard]


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.lists(FACTS, min_size=1, max_size=12))
def test_drift_names_exactly_the_pieces_that_a_policy_does_not_admit(
    expression: Expression, facts: Sequence[tuple[Subject, int, int, int]]
) -> None:
    policy = Policy(2, "drawn", Rules((("data", expression),)))
    nodes = {i: candidate(i, one[0], i, i, 0) for i, one in enumerate(facts, 1)}
    pieces = [StoredPiece(index=i, alias=i) for i in nodes]
    named = {one.piece.alias for one in violations(pieces, nodes, policy)}
    assert named == {i for i, one in nodes.items() if brute(expression, one.subject) != 1}
