"""Nodes behind relays: at most a third of a segment, and not all behind the same relays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.coordinator.placement.test_rules import SeededRng

from atoll.coordinator.placement import rules
from atoll.coordinator.placement.drift import violations
from atoll.coordinator.placement.model import POLICY_EVERYWHERE, Candidate
from atoll.coordinator.registry.model import NodeState
from atoll.core.messages import StoredPiece
from atoll.core.policy.model import Subject
from atoll.core.ports import Address


def node(number: int, relays: tuple[str, ...] = ()) -> Candidate:
    host = "127.9.9.1" if relays else f"127.0.{number}.1"
    return Candidate(
        alias=number,
        node_id=number.to_bytes(32, "big"),
        address=Address(host, 9003),
        operator=f"o{number}",
        site=f"s{number}",
        region="eu",
        country="DE",
        tier="home",
        state=NodeState.ALIVE,
        full=False,
        free_bytes=1 << 40,
        relays=tuple(Subject(operator=r, node_id=r.encode().ljust(32)) for r in relays),
    )


@given(st.integers(0, 24), st.integers(0, 24), st.integers(1, 24), st.integers(0, 99))
def test_never_more_than_a_third_lies_behind_relays(
    direct: int, relayed: int, count: int, seed: int
) -> None:
    nodes = [node(n) for n in range(1, direct + 1)]
    nodes += [node(100 + n, ("reef", "lagoon")) for n in range(relayed)]
    pool = rules.pool_of(nodes, POLICY_EVERYWHERE, 1000)
    chosen = rules.choose(pool, count, SeededRng(seed))
    behind = sum(one.relayed for one in chosen)
    assert behind <= max(1, count // 3)
    assert len(chosen) >= min(count, direct)


@given(st.integers(0, 12), st.integers(0, 12))
def test_what_lies_behind_relays_beyond_a_third_is_to_move(direct: int, relayed: int) -> None:
    nodes = [node(n) for n in range(direct)]
    nodes += [node(100 + n, ("reef", "lagoon")) for n in range(relayed)]
    pieces = [StoredPiece(index=i, alias=one.alias) for i, one in enumerate(nodes)]
    by_alias = {one.alias: one for one in nodes}
    moving = rules.beyond_relays(pieces, by_alias, len(pieces))
    assert len(moving) == max(0, relayed - max(1, len(pieces) // 3))
    assert all(by_alias[piece.alias].relayed for piece in moving)
    found = [one for one in violations(pieces, by_alias, POLICY_EVERYWHERE) if one.rule == "relays"]
    assert [one.piece for one in found] == moving


@pytest.mark.parametrize(
    ("direct", "relayed", "counted"), [(0, 9, 0), (2, 9, 3), (3, 1, 4), (6, 9, 9), (8, 0, 8)]
)
def test_a_scheme_counts_on_a_third_at_most(direct: int, relayed: int, counted: int) -> None:
    nodes = [node(n) for n in range(1, direct + 1)]
    nodes += [node(100 + n, ("reef",)) for n in range(relayed)]
    assert rules.independent(nodes) == counted


def test_nodes_with_other_relays_come_first() -> None:
    nodes = [node(n) for n in range(1, 8)]
    nodes += [node(100 + n, ("reef", "lagoon")) for n in range(6)]
    nodes += [node(200, ("cay", "bank"))]
    pool = rules.pool_of(nodes, POLICY_EVERYWHERE, 1000)
    for seed in range(20):
        chosen = rules.choose(pool, 9, SeededRng(seed))
        pairs = [one.relays for one in chosen if one.relayed]
        assert len(set(pairs)) == min(2, len(pairs))


def test_a_change_of_relay_is_no_change_of_network() -> None:
    assert node(5, ("reef",)).network == node(5, ("lagoon",)).network
    assert node(5, ("reef",)).network != node(6, ("reef",)).network
