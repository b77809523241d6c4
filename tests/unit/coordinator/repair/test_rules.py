"""Claims about repair's pure rules."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.client.transfer import rebuild
from atoll.coordinator.placement.model import NOBODY, Candidate, NodeState, Policy, Standing
from atoll.coordinator.repair import rules
from atoll.core.merkle import PieceHasher, piece_root
from atoll.core.messages import StoredPiece
from atoll.core.policy.text import parse
from atoll.core.ports import Address
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, RS_20_40, TINY, Scheme

SCHEMES = [TINY, RS_2_4, RS_4_8, RS_10_20, RS_20_40]
ALIVE, SUSPECT, DEAD, LOST = WORSE = [
    NodeState.ALIVE,
    NodeState.SUSPECT,
    NodeState.DEAD,
    NodeState.LOST,
]


def node(alias: int, state: NodeState = ALIVE, since_ms: int = 0) -> Candidate:
    return Candidate(
        alias=alias,
        node_id=alias.to_bytes(32, "big"),
        address=Address(f"127.0.{alias}.1", 7000),
        operator=f"operator-{alias}",
        site=f"site-{alias}",
        region="eu",
        country="DE",
        tier="home",
        state=state,
        full=False,
        free_bytes=1 << 30,
        since_ms=since_ms,
    )


def judged(scheme: Scheme, *states: NodeState) -> rules.Health:
    nodes = {alias: node(alias, state) for alias, state in enumerate(states, 1)}
    pieces = [StoredPiece(index=alias - 1, alias=alias) for alias in nodes]
    return rules.health_of(scheme.k, scheme.n, pieces, nodes)


def test_health_counts_what_can_be_had() -> None:
    health = judged(RS_4_8, ALIVE, ALIVE, ALIVE, ALIVE, SUSPECT, DEAD, LOST)
    assert (health.alive, health.suspect) == (4, 1)
    assert health.missing == (5, 6, 7)
    assert [piece.alias for piece in health.gone] == [6, 7]
    assert health.readable
    assert not health.full
    assert health.safe == 4.5


def test_a_suspect_is_not_missing_and_a_returned_node_counts_again() -> None:
    assert judged(RS_2_4, ALIVE, ALIVE, ALIVE, SUSPECT).full
    assert judged(RS_2_4, ALIVE, ALIVE, ALIVE, DEAD).missing == (3,)
    assert judged(RS_2_4, ALIVE, ALIVE, ALIVE, ALIVE).full


def test_two_copies_of_one_piece_count_once() -> None:
    nodes = {1: node(1), 2: node(2, SUSPECT), 3: node(3)}
    pieces = [StoredPiece(index=0, alias=2), StoredPiece(index=0, alias=1)]
    health = rules.health_of(2, 4, [*pieces, StoredPiece(index=1, alias=3)], nodes)
    assert [piece.alias for piece in health.kept] == [1, 3], "the one alive is preferred"
    assert health.missing == (2, 3)


def test_a_piece_on_an_unknown_node_is_gone() -> None:
    health = rules.health_of(2, 4, [StoredPiece(index=0, alias=99)], {})
    assert health.missing == (0, 1, 2, 3)
    assert not health.readable


def test_pieces_that_share_a_domain_are_one_piece_of_safety() -> None:
    nodes = {alias: replace(node(alias), site="one barn") for alias in (1, 2, 3)}
    nodes |= {alias: node(alias) for alias in range(4, 9)}
    pieces = [StoredPiece(index=alias - 1, alias=alias) for alias in nodes]
    health = rules.health_of(4, 8, pieces, nodes)
    assert health.full
    assert health.safe == 6


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_urgency_rises_as_pieces_vanish(scheme: Scheme) -> None:
    levels = [rules.urgency(judged(scheme, *[ALIVE] * count)) for count in range(scheme.n, 0, -1)]
    assert levels == sorted(levels)
    assert levels[0] == 0, "full strength"
    assert levels[scheme.n - scheme.repair] >= 1, "due at the threshold"
    if scheme.repair + 1 < scheme.n:
        assert levels[scheme.n - scheme.repair - 1] == 0, "not due above it"
    assert levels[scheme.n - scheme.k] == rules.URGENCY_MAX, "one death from unreadable"


@given(
    st.sampled_from(SCHEMES),
    st.lists(st.sampled_from(WORSE), min_size=1, max_size=40),
    st.data(),
)
def test_health_never_improves_when_a_node_gets_worse(
    scheme: Scheme, states: list[NodeState], data: st.DataObject
) -> None:
    states = states[: scheme.n]
    place = data.draw(st.integers(0, len(states) - 1))
    worse = list(states)
    worse[place] = data.draw(st.sampled_from(WORSE[WORSE.index(states[place]) :]))
    before, after = judged(scheme, *states), judged(scheme, *worse)
    assert after.safe <= before.safe
    assert len(after.missing) >= len(before.missing)
    assert rules.hours_to_loss(after) <= rules.hours_to_loss(before)
    assert set(after.missing) | {p.index for p in after.kept} == set(range(scheme.n))


def test_schemes_are_compared_by_time_to_loss_not_by_pieces() -> None:
    """Two pieces above k: a wide segment loses a piece sooner than a narrow one."""
    narrow = judged(RS_4_8, *[ALIVE] * 6)
    wide = judged(RS_20_40, *[ALIVE] * 22)
    assert rules.hours_to_loss(wide) < rules.hours_to_loss(narrow)


def test_expected_time_to_loss_of_one_piece_above_k() -> None:
    """By hand: 5 holders, 3 % a month: 720 h / (5 x 0.03046) = 4,728 h to the next death."""
    assert rules.hours_to_loss(judged(RS_4_8, *[ALIVE] * 5)) == pytest.approx(4728, abs=1)
    assert rules.hours_to_loss(judged(RS_4_8, *[ALIVE] * 4)) == 0
    assert rules.hours_to_loss(judged(RS_4_8, *[ALIVE] * 2)) == 0


def crowd(alive: int, dead: int, since_ms: int = 1000) -> dict[int, Candidate]:
    nodes = {alias: node(alias) for alias in range(1, alive + 1)}
    return nodes | {
        alias: node(alias, DEAD, since_ms) for alias in range(alive + 1, alive + dead + 1)
    }


def test_wide_area_repair_freezes_on_mass_vanishing_and_thaws() -> None:
    freezer = rules.Freezer(rules.WAN)
    assert not freezer.look(crowd(96, 4), 2000), "four deaths are deaths"
    assert freezer.look(crowd(90, 10), 2000)
    assert freezer.look(crowd(94, 6), 3000)
    assert not freezer.look(crowd(97, 3), 4000), "most are back"


def test_a_freeze_ends_and_the_same_deaths_do_not_renew_it() -> None:
    freezer = rules.Freezer(rules.WAN)
    assert freezer.look(crowd(80, 20), 2000)
    later_ms = 2000 + rules.WAN.freeze_ms_max
    assert not freezer.look(crowd(80, 20), later_ms)
    fresh = {a: replace(n, since_ms=later_ms) for a, n in crowd(80, 20).items()}
    assert not freezer.look(fresh, later_ms + 1)


def test_old_deaths_do_not_freeze() -> None:
    assert not rules.Freezer(rules.WAN).look(crowd(80, 20), 1000 + rules.WAN.freeze_window_ms + 1)


def test_on_one_machine_repair_never_freezes() -> None:
    for dead in range(12):
        assert not rules.Freezer(rules.LOCAL).look(crowd(12 - dead, dead), 2000)


def test_retries_wait_longer_up_to_a_bound() -> None:
    waits = [rules.retry_ms(attempts, rules.LOCAL) for attempts in range(100)]
    assert waits == sorted(waits)
    assert waits[0] == waits[1] == rules.LOCAL.retry_ms_min
    assert waits[-1] == rules.LOCAL.retry_ms_max


def hasher(data: bytes) -> PieceHasher:
    made = PieceHasher()
    made.update(data)
    return made


def test_the_check_names_wrong_sources_and_wrong_results() -> None:
    roots = [piece_root(bytes([index]) * 10) for index in range(4)]
    right = {index: hasher(bytes([index]) * 10) for index in range(4)}
    rebuild.check_rebuild(roots, {0: right[0], 1: right[1]}, {2: right[2]})
    with pytest.raises(rebuild.WrongBytesError) as caught:
        rebuild.check_rebuild(roots, {0: right[0], 1: hasher(b"lie")}, {2: hasher(b"nonsense")})
    assert caught.value.indexes == (1,)
    with pytest.raises(rebuild.WrongBytesError) as caught:
        rebuild.check_rebuild(roots, {0: right[0], 1: right[1]}, {2: hasher(b"nonsense")})
    assert caught.value.indexes == ()


# --- the judgement of a piece --------------------------------------------------------------------

SWITZERLAND = Policy(7, "switzerland", parse("country in CH"))


@pytest.mark.parametrize(
    ("facts", "verdict", "weight"),
    [
        ({}, rules.Verdict.HEALTHY, 1.0),
        ({"state": NodeState.AWAY}, rules.Verdict.HEALTHY, 1.0),
        ({"state": SUSPECT}, rules.Verdict.HALF, 0.5),
        ({"state": DEAD}, rules.Verdict.LOST, 0.0),
        ({"state": LOST}, rules.Verdict.LOST, 0.0),
        ({"standing": Standing.UNVETTED}, rules.Verdict.HEALTHY, 1.0),
        ({"standing": Standing.TRUSTED}, rules.Verdict.HEALTHY, 1.0),
        ({"standing": Standing.SUSPECT}, rules.Verdict.HALF, 0.5),
        ({"standing": Standing.SUSPENDED}, rules.Verdict.HALF, 0.5),
        ({"standing": Standing.DISQUALIFIED}, rules.Verdict.LOST, 0.0),
        ({"standing": Standing.EXITING}, rules.Verdict.MISPLACED, 1.0),
        ({"exiting": True}, rules.Verdict.MISPLACED, 1.0),
        ({"exiting": True, "state": SUSPECT}, rules.Verdict.MISPLACED, 0.5),
    ],
    ids=str,
)
def test_what_a_piece_is_worth(
    facts: dict[str, object], verdict: rules.Verdict, weight: float
) -> None:
    found = rules.judge_node(replace(node(1), **facts))  # type: ignore[arg-type]
    assert (found.verdict, found.weight) == (verdict, weight)
    assert bool(found.reason) == (verdict is not rules.Verdict.HEALTHY)


def test_a_piece_its_policy_no_longer_admits_must_move_and_counts_until_then() -> None:
    nodes = {alias: replace(node(alias), country="CH", subject=NOBODY) for alias in range(1, 9)}
    nodes[3] = replace(nodes[3], country="DE", subject=NOBODY)
    pieces = [StoredPiece(index=alias - 1, alias=alias) for alias in nodes]
    health = rules.health_of(4, 8, pieces, nodes, SWITZERLAND)
    assert [one.piece.alias for one in health.misplaced] == [3]
    assert "country" in health.misplaced[0].reason
    assert health.safe == 8
    assert health.full
    assert not health.settled
    assert rules.urgency(health) == 0
    assert rules.health_of(4, 8, pieces, nodes).settled, "whoever does not ask a policy has none"


def test_of_pieces_in_one_domain_as_few_move_as_may_be() -> None:
    nodes = {alias: node(alias) for alias in range(1, 9)}
    nodes[2] = replace(nodes[2], operator="operator-1")
    nodes[3] = replace(nodes[3], network=nodes[2].network)
    pieces = [StoredPiece(index=alias - 1, alias=alias) for alias in nodes]
    health = rules.health_of(4, 8, pieces, nodes)
    assert [one.piece.alias for one in health.misplaced] == [2], "it shares with both others"
    assert health.shared == 2
    assert health.safe == 7


def test_a_node_away_is_safe_but_cannot_be_read() -> None:
    nodes = {alias: node(alias) for alias in range(1, 5)}
    for alias in (1, 2, 3):
        nodes[alias] = replace(nodes[alias], state=NodeState.AWAY)
    pieces = [StoredPiece(index=alias - 1, alias=alias) for alias in nodes]
    health = rules.health_of(2, 4, pieces, nodes)
    assert health.settled
    assert health.safe == 4
    assert not health.readable


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12))
def test_what_stays_after_declumping_shares_nothing(operators: list[int]) -> None:
    nodes = {
        alias: replace(node(alias), operator=f"o{operator}")
        for alias, operator in enumerate(operators, 1)
    }
    pieces = [StoredPiece(index=alias, alias=alias) for alias in nodes]
    moved = {one.piece for one in rules.clumped(pieces, nodes)}
    staying = [nodes[piece.alias] for piece in pieces if piece not in moved]
    assert rules.shared_domain(staying) == 1
    assert len(staying) == len(set(operators)), "not one more than needed moves"


def test_pieces_of_a_node_suspended_beyond_its_grace_count_as_lost() -> None:
    suspended = replace(node(1), standing=Standing.SUSPENDED)
    assert rules.judge_node(suspended).verdict is rules.Verdict.HALF
    assert rules.judge_node(replace(suspended, forfeit=True)).verdict is rules.Verdict.LOST


@pytest.mark.parametrize(
    ("profile", "scheme", "fills"),
    [
        (rules.LOCAL, RS_20_40, 39),
        (rules.LOCAL, RS_2_4, 3),
        (rules.WAN, RS_20_40, 35),
        (rules.WAN, RS_10_20, 17),
        (rules.WAN, RS_4_8, 7),
        (rules.WAN, RS_2_4, 3),
        (rules.WAN, TINY, 3),
    ],
    ids=str,
)
def test_where_an_idle_repair_fills_up(profile: rules.Profile, scheme: Scheme, fills: int) -> None:
    assert rules.fill_at(scheme, profile) == fills
    assert fills >= scheme.repair
    assert rules.worth_repair(judged(scheme, *[ALIVE] * fills), profile)
    assert not rules.worth_repair(judged(scheme, *[ALIVE] * scheme.n), profile)
    if fills + 1 < scheme.n:
        assert not rules.worth_repair(judged(scheme, *[ALIVE] * (fills + 1)), profile)
    due = judged(scheme, *[ALIVE] * scheme.repair)
    assert rules.worth_repair(due, profile), "at the threshold always"
