"""What a person is told about a cloud."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.console.model import Health, Sample
from atoll.console.rules import (
    facts_of,
    headline_of,
    health_of,
    node_of,
    number_of,
    ordinal,
    rates_of,
    view_of,
)
from atoll.core.messages import CloudStatus, NodeStatus, RepairStatus, Survival
from atoll.core.messages.status import EpochsStatus
from atoll.core.messages.upgrades import UpgradeStatus

NOW_MS = 1_800_000_000_000


def a_node(alias: int, state: str = "alive", seen_ms: int = NOW_MS) -> NodeStatus:
    return NodeStatus(
        alias=alias,
        node_id=bytes([alias]) * 32,
        operator=f"operator-{alias}",
        site="attic",
        region="eu-central",
        country="DE",
        tier="home",
        address=f"127.0.{alias}.1:9003",
        state=state,
        last_seen_ms=seen_ms,
        capacity_bytes=1 << 30,
        used_bytes=1 << 28,
        free_bytes=3 << 28,
        pieces=10,
        full=False,
        errors=0,
    )


def a_status(**changes: object) -> CloudStatus:
    status = CloudStatus(
        time_ms=NOW_MS,
        nodes=[a_node(alias) for alias in range(1, 13)],
        repair=RepairStatus(
            segments_degraded=0,
            segments_urgent=0,
            pieces_missing=0,
            pieces_repaired=0,
            bytes_downloaded=0,
            bytes_uploaded=0,
            running=0,
            frozen=False,
        ),
        survival=Survival(any_nodes=4, nodes_alive=12, next_loss_objects=3),
        buckets=1,
        objects=7,
        object_bytes=1 << 20,
        segments=7,
        pieces=56,
        stored_bytes=2 << 20,
        garbage_pieces=0,
        put_bytes=0,
        get_bytes=0,
        one_machine=True,
        profile="local",
    )
    return msgspec.structs.replace(status, **changes)


def survive(any_nodes: int, alive: int, loss: int) -> Survival:
    return Survival(any_nodes=any_nodes, nodes_alive=alive, next_loss_objects=loss)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Any 4 of 12 nodes may die now; the 5th would take 3 objects until one returns."),
        (
            {"survival": survive(2, 10, 1)},
            "Any 2 of 10 nodes may die now; the 3rd would take 1 object until one returns.",
        ),
        (
            {"survival": survive(0, 6, 40)},
            "No node may die now: the next would take 40 objects until one returns.",
        ),
        ({"survival": survive(0, 0, 0)}, "No node is alive yet."),
        ({"objects": 0}, "Nothing is stored yet; 12 nodes ready to take it."),
        (
            {"objects": 0, "survival": survive(2, 2, 0)},
            "Nothing is stored yet; that takes 3 nodes, 2 alive.",
        ),
    ],
)
def test_the_headline_says_how_many_may_die(changes: dict[str, object], words: str) -> None:
    assert headline_of(a_status(**changes)) == words


@pytest.mark.parametrize(
    ("epochs", "remark"),
    [
        (EpochsStatus(7, "published", NOW_MS - 12_000), "published, ended 12 s ago"),
        (
            EpochsStatus(7, "closed", NOW_MS + 5, 5, 2_592_000),
            "closed, ended 0.0 s ago; settled up to 5; time counts 2,592,000 times",
        ),
    ],
)
def test_the_last_epoch_is_told(epochs: EpochsStatus, remark: str) -> None:
    facts = {fact.label: fact for fact in facts_of(a_status(epochs=epochs))}
    assert (facts["Epoch"].value, facts["Epoch"].remark) == ("7", remark)
    assert "Epoch" not in {fact.label for fact in facts_of(a_status())}, "there are none"


def test_health_follows_the_worst_that_holds() -> None:
    missing = msgspec.structs.replace(a_status().repair, pieces_missing=5, segments_degraded=2)
    assert health_of(a_status()) is Health.HEALTHY
    assert health_of(a_status(repair=missing)) is Health.REPAIRING
    assert health_of(a_status(repair=missing, survival=survive(0, 6, 1))) is Health.EXPOSED
    assert health_of(a_status(survival=survive(0, 0, 0))) is Health.WAITING
    assert health_of(a_status(objects=0, survival=survive(2, 2, 0))) is Health.WAITING


def test_the_repair_bar_counts_from_when_something_was_first_missing() -> None:
    history = [Sample(t, 0, 0, missing) for t, missing in enumerate([0, 90, 0, 40, 30, 10])]
    repair = msgspec.structs.replace(
        a_status().repair, pieces_missing=10, segments_degraded=4, running=1, pieces_repaired=120
    )
    view = view_of(a_status(repair=repair), history).repair
    assert view.active
    assert view.percent == 75.0
    assert view.headline == "10 pieces missing in 4 segments"
    frozen = msgspec.structs.replace(repair, frozen=True)
    assert "held back" in view_of(a_status(repair=frozen), history).repair.detail


def test_what_waits_for_a_wider_scheme_and_what_was_copied_is_told() -> None:
    assert "wider" not in view_of(a_status()).repair.detail
    upgrades = UpgradeStatus(below_segments=1, upgraded_segments=1_234)
    detail = view_of(a_status(upgrades=upgrades)).repair.detail
    assert "1 segment below the scheme that so many operators allow" in detail
    assert "1,234 segments copied into wider schemes" in detail


def test_rates_never_go_below_zero_when_a_node_starts_again() -> None:
    history = [Sample(0, 1000, 0, 0), Sample(1000, 3000, 500, 0), Sample(2000, 100, 500, 0)]
    assert rates_of(history) == ([2000.0, 0.0], [500.0, 0.0])


@given(st.lists(st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 50)), max_size=200))
def test_every_chart_stays_in_its_box(figures: list[tuple[int, int]]) -> None:
    history = [Sample(t * 1000, put, get, 0) for t, (put, get) in enumerate(figures)]
    view = view_of(a_status(), history).throughput
    for point in (view.put_points + " " + view.get_points).split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 240
        assert 0 <= y <= 48


def test_a_node_line_says_when_it_was_last_seen() -> None:
    assert node_of(a_node(1), NOW_MS).seen == "now"
    gone = node_of(a_node(1, "dead", NOW_MS - 45_000), NOW_MS)
    assert gone.seen == "45 s ago"
    assert gone.filled_percent == 25.0
    assert node_of(a_node(1, "alive", NOW_MS + 9_000), NOW_MS).seen == "now"


def test_local_nodes_are_called_by_their_address_others_by_alias() -> None:
    local = msgspec.structs.replace(a_node(7), address="http://127.0.3.1:9003")
    far = msgspec.structs.replace(a_node(7), address="https://198.51.100.4:9003")
    assert (number_of(local), number_of(far)) == (3, 7)
    view = view_of(a_status(nodes=[a_node(9), local, a_node(1)]))
    assert [node.number for node in view.nodes] == [1, 3, 9]


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (11, "11th"), (22, "22nd"), (113, "113th")],
)
def test_ordinals(number: int, text: str) -> None:
    assert ordinal(number) == text
