"""Room for a piece where operators and sites overlap: another piece goes elsewhere first."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.coordinator.placement.test_relayed import node

from atoll.coordinator.placement import rules
from atoll.coordinator.placement.model import POLICY_EVERYWHERE, Candidate


def at(number: int, operator: int, site: int) -> Candidate:
    return replace(node(number), operator=f"o{operator}", site=f"s{site}")


def found(staying: list[Candidate], free: list[Candidate]) -> tuple[Candidate, Candidate] | None:
    held = {one.alias for one in staying}
    return rules.step_aside(rules.pool_of(free, POLICY_EVERYWHERE, 1000), staying, held)


def test_a_holder_makes_room_for_a_node_that_only_it_stands_in_the_way_of() -> None:
    holder, rival, elsewhere = at(1, 1, 1), at(2, 1, 2), at(3, 3, 1)
    assert found([holder], [rival, elsewhere]) == (holder, elsewhere)
    assert found([holder], [rival]) is None, "it has nowhere to go"
    assert found([holder], [at(4, 1, 1), at(5, 1, 4)]) is None, "they are in each other's way"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_what_is_found_makes_room_and_nothing_worse(places: list[tuple[int, int]]) -> None:
    nodes = [at(number, *place) for number, place in enumerate(places, 1)]
    staying: list[Candidate] = []
    for one in nodes:
        if rules.Domains(staying).admit(one):
            staying.append(one)
    free = [one for one in nodes if one not in staying]
    pair = found(staying, free)
    if pair is None:
        return
    holder, other = pair
    after = [one for one in staying if one is not holder]
    assert rules.Domains(after).admit(other)
    assert any(rules.Domains([*after, other]).admit(one) for one in free)
