"""Drift: what policy and caps have against where pieces lie."""

from dataclasses import replace

from tests.unit.coordinator.placement.test_rules import node

from atoll.coordinator.placement.drift import violations
from atoll.coordinator.placement.model import POLICY_EVERYWHERE, Policy
from atoll.core.messages import StoredPiece
from atoll.core.policy.text import parse

PIECES = [StoredPiece(index=i, alias=i + 1) for i in range(8)]


def test_pieces_in_place_have_nothing_against_them() -> None:
    nodes = {i: node(i) for i in range(1, 9)}
    assert violations(PIECES, nodes, POLICY_EVERYWHERE) == []


def test_a_changed_claim_misplaces_the_piece() -> None:
    nodes = {i: node(i, country="DE") for i in range(1, 9)}
    nodes[3] = node(3, country="US")
    policy = Policy(2, "country in DE", parse("country in DE"))
    (found,) = violations(PIECES, nodes, policy)
    assert (found.piece, found.rule, found.hard) == (PIECES[2], "policy", True)
    assert "country is US" in found.text


def test_a_shared_domain_names_one_of_two() -> None:
    nodes = {i: node(i) for i in range(1, 9)}
    nodes[4] = replace(nodes[4], operator=nodes[5].operator)
    (found,) = violations(PIECES, nodes, POLICY_EVERYWHERE)
    assert found.rule == "operator"
    assert found.piece.alias in (4, 5)


def test_a_crowded_autonomous_system_only_shows() -> None:
    nodes = {i: node(i, asn=64496) for i in range(1, 9)}
    found = violations(PIECES, nodes, POLICY_EVERYWHERE)
    assert [one.hard for one in found] == [False] * 6


def test_pieces_of_unknown_nodes_are_lost_not_misplaced() -> None:
    policy = Policy(2, "country in DE", parse("country in DE"))
    assert violations(PIECES, {}, policy) == []
