"""What a watcher keeps: what the chain told last counts, for the contract that told it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection

from atoll.watcher import store
from atoll.watcher.model import Proposed, Strike, Verdict
from atoll.watcher.tables import SCHEMA

HERE, THERE = b"d" * 20, b"e" * 20
OWN, OTHER = b"o" * 20, b"x" * 20
FIRST = Proposed(1, 5, b"r" * 32, b"c" * 32, 150, b"t" * 32, 10)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    SCHEMA.create_all(engine)
    with engine.begin() as opened:
        yield opened


def test_each_contract_has_a_past_of_its_own(connection: Connection) -> None:
    store.put_proposal(connection, HERE, FIRST)
    assert store.proposals_of(connection, HERE, 5) == [FIRST]
    assert store.proposals_of(connection, THERE, 5) == []
    assert store.read_to(connection, HERE) is None
    store.set_read_to(connection, HERE, 9)
    store.set_read_to(connection, THERE, 12)
    assert (store.read_to(connection, HERE), store.distributors(connection)) == (9, [THERE, HERE])


def test_the_same_told_again_changes_nothing(connection: Connection) -> None:
    """Blocks are read again each time."""
    for _ in range(2):
        store.put_proposal(connection, HERE, FIRST)
        store.put_demand(connection, HERE, 1, 2, OWN)
        store.put_answer(connection, HERE, 1, 2, b"a" * 32)
        store.put_strike(connection, HERE, Strike(1, 5, 2, OWN, 50))
    assert store.demands_of(connection, HERE, 1, 10) == [(2, b"a" * 32)]
    assert store.earned_micro(connection, HERE, OWN) == 50
    assert store.unsettled(connection, HERE, OWN, 10) == [(1, 2)]
    store.settle_demand(connection, HERE, 1, 2)
    store.put_demand(connection, HERE, 1, 2, OWN)
    assert store.unsettled(connection, HERE, OWN, 10) == []


def test_an_attempt_of_another_branch_takes_its_traces_along(connection: Connection) -> None:
    store.put_proposal(connection, HERE, FIRST)
    store.put_demand(connection, HERE, 1, 2, OWN)
    store.put_case(connection, HERE, 1, Verdict.WRONG, "disorder")
    store.put_strike(connection, HERE, Strike(1, 5, 2, OWN, 50))
    (kept,) = store.cases(connection, HERE)
    assert (kept.verdict, kept.outcome, kept.reward_micro) == (Verdict.WRONG, "struck", 50)
    other = replace(FIRST, root=b"n" * 32, transaction=b"u" * 32)
    store.put_proposal(connection, HERE, other)
    (kept,) = store.cases(connection, HERE)
    assert (kept.root, kept.verdict, kept.outcome) == (b"n" * 32, Verdict.UNKNOWN, "")
    assert store.earned_micro(connection, HERE, OWN) == 0
    assert store.demands_of(connection, HERE, 1, 10) == []


def test_what_others_earned_is_not_ours(connection: Connection) -> None:
    large = 1 << 100
    for attempt, challenger in ((1, OWN), (2, OTHER), (3, OWN)):
        store.put_proposal(
            connection, HERE, replace(FIRST, attempt=attempt, transaction=bytes([attempt]) * 32)
        )
        store.put_strike(connection, HERE, Strike(attempt, 5, 1, challenger, large))
    assert store.earned_micro(connection, HERE, OWN) == 2 * large
    assert [one.attempt for one in store.cases(connection, HERE)] == [3, 2, 1]


def test_fees_that_were_lost_are_counted(connection: Connection) -> None:
    for attempt in (1, 2, 3):
        for chunk, demander in ((0, OWN), (1, OWN), (2, OTHER)):
            store.put_demand(connection, HERE, attempt, chunk, demander)
    store.put_answer(connection, HERE, 1, 0, b"a" * 32)
    store.put_answer(connection, HERE, 3, 0, b"a" * 32)
    store.put_answer(connection, HERE, 3, 2, b"a" * 32)
    assert store.lost(connection, HERE, OWN, after=0) == 2
    assert store.lost(connection, HERE, OWN, after=1) == 1
    assert store.lost(connection, THERE, OWN, after=0) == 0
