"""`atoll node health` in words: names are found, and everything that counts is said."""

import click
import pytest

from atoll.cli.node.health import chosen, lines_of, listing_lines
from atoll.core.errors import AtollError, Kind
from atoll.core.messages.reputation import (
    AxisHealth,
    FailedCheck,
    MassFailure,
    NodeHealth,
    NodeStanding,
    StandingEvent,
    StandingList,
)

NOW_MS = 1_800_000_000_000


def standing(alias: int, operator: str, node_id: bytes) -> NodeStanding:
    return NodeStanding(
        alias=alias, node_id=node_id, operator=operator, region="eu", country="PT", tier="home",
        state="alive", standing="suspended", since_ms=1, deadline_ms=NOW_MS, possession=-6.9,
        online_share=0.5, windows=10, success=0.99, p50_ms=1, p95_ms=12, samples_passed=5,
        samples_failed=1, last_proof_ms=NOW_MS - 60_000, warnings=["availability breach"],
    )  # fmt: skip


LISTING = StandingList(
    time_ms=NOW_MS,
    profile="local",
    nodes=[
        standing(4, "operator-1", b"\xaa" * 32),
        standing(1, "operator-2", b"\xab" * 32),
        standing(2, "Anna", b"\xcc" * 32),
    ],
    more=False,
    forgiven=[
        MassFailure(
            axis="availability", number=1, at_ms=1, operators_failed=4, operators=10, reason="x"
        )
    ],
)


@pytest.mark.parametrize(
    ("name", "alias"),
    [("1", 4), ("4", 4), ("operator-2", 1), ("anna", 2), ("n-cccccc", 2), ("aaaa", 4)],
)
def test_a_node_is_found_by_what_people_call_it(name: str, alias: int) -> None:
    assert chosen(LISTING, name) == alias


@pytest.mark.parametrize(
    ("name", "kind"),
    [("nobody", Kind.NOT_FOUND), ("n-a", Kind.NOT_FOUND), ("99", Kind.NOT_FOUND)],
)
def test_a_name_that_means_nobody_is_refused(name: str, kind: Kind) -> None:
    with pytest.raises(AtollError) as caught:
        chosen(LISTING, name)
    assert caught.value.kind is kind
    assert caught.value.hint


def test_a_name_that_means_two_is_refused_with_their_names() -> None:
    twins = StandingList(
        time_ms=1,
        profile="local",
        nodes=[standing(1, "same", b"\xaa" * 32), standing(2, "same", b"\xbb" * 32)],
        more=False,
    )
    with pytest.raises(AtollError) as caught:
        chosen(twins, "same")
    assert caught.value.kind is Kind.BAD_REQUEST
    assert "n-aaaaaaaaaa" in caught.value.message


def test_health_says_rule_figure_threshold_margin_deadline_and_remedy() -> None:
    axis = AxisHealth(
        axis="availability", level="breach", rule="the rule", figure="the figure",
        threshold="the threshold", margin="the margin", window="the window",
        remedy="the remedy", deadline_ms=NOW_MS + 3_600_000, used=1.0,
    )  # fmt: skip
    event = StandingEvent(
        at_ms=NOW_MS, kind="standing", before="vetted", after="suspended", axis="availability",
        rule="r", figure="f", threshold="t", evidence="verdict:99", remedy="do",
    )  # fmt: skip
    checks = [
        FailedCheck(
            axis="possession", at_ms=NOW_MS, slot=n, piece=bytes([n] * 16), reason="wrong",
            evidence="verdict:01", forgiven="mass failure" if n else "",
        )
        for n in range(60)
    ]  # fmt: skip
    found = NodeHealth(
        time_ms=NOW_MS, alias=1, node_id=b"n" * 32, operator="anna", region="eu", country="PT",
        tier="home", state="dead", last_seen_ms=NOW_MS - 9_000, registered_ms=1,
        standing="suspended", since_ms=1, meaning="gets no new pieces",
        deadline_ms=NOW_MS + 3_600_000, axes=[axis], speeds=[], failed=checks, history=[event],
        samples_passed=5, samples_failed=1, last_proof_ms=0, profile="local",
    )  # fmt: skip
    text = click.unstyle("\n".join(lines_of(found, 100)))
    for words in (
        "suspended  anna", "It gets no new pieces.", "Deadline:", "in 1 h 00 min", "the rule",
        "the figure", "the threshold", "the margin", "the window", "the remedy", "00" * 16,
        "verdict:01", "forgiven: mass failure", "vetted → suspended", "evidence: verdict:99",
        "latest 50 of 60",
    ):  # fmt: skip
        assert words in text, words
    prose, _, _ = text.partition("FAILED SAMPLES")
    assert max(len(line) for line in prose.splitlines()) <= 100


def test_the_table_of_all_says_what_is_forgiven() -> None:
    text = click.unstyle("\n".join(listing_lines(LISTING)))
    for words in ("Anna", "suspended", "50.0 %", "-6.90", "12 ms", "1 min 00 s ago", "4 of 10"):
        assert words in text
