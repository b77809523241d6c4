"""Axes: the sequential test keeps its error rates, windows count what they should."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.coordinator.reputation.axes import (
    Surroundings,
    availability_view,
    closed,
    looked,
    measured,
    possession_view,
    span,
    was_online,
)
from atoll.coordinator.reputation.axes import (
    tested as sampled,
)
from atoll.coordinator.reputation.mass import Failing, mass_failure
from atoll.coordinator.reputation.model import (
    WAN,
    WINDOWS_KEPT,
    Level,
    Record,
    Score,
    SequentialTest,
    Speed,
    Windows,
)

TEST = WAN.possession
FLOOR = Score(TEST.clean)


def samples_until_out(share: float, chance: random.Random, most: int, start: Score) -> int | None:
    """How many samples a node failing this share of them survives; None if it survives them all."""
    score, count = start, 0
    while count < most:
        passed = int(math.log(1 - chance.random()) / math.log(1 - share))
        score = sampled(score, TEST, passed, 1, 0)
        count += passed + 1
        if score.score >= TEST.out:
            return count
    return None


def test_the_figures_of_the_design() -> None:
    assert round(TEST.fail_step, 2) == 2.30
    assert round(TEST.pass_step, 5) == -0.00905
    assert round(TEST.out, 1) == 13.8
    assert round(TEST.clean, 1) == -6.9
    assert sampled(Score(), TEST, 0, 5, 0).score < TEST.out <= sampled(Score(), TEST, 0, 6, 0).score


def test_one_percent_loss_is_found_in_about_a_thousand_samples() -> None:
    chance = random.Random("one percent")
    counts = [samples_until_out(0.01, chance, 20_000, Score()) for _ in range(400)]
    found = [count for count in counts if count is not None]
    assert len(found) == 400
    assert 850 < sum(found) / len(found) < 1150
    # A long good past delays it by half as much again, not more.
    late = [samples_until_out(0.01, chance, 20_000, FLOOR) or 20_000 for _ in range(400)]
    assert 1250 < sum(late) / len(late) < 1700
    assert sum(count <= 5_000 for count in late) >= 396


def test_five_percent_loss_is_found_in_about_130_samples() -> None:
    chance = random.Random("five percent")
    counts = [samples_until_out(0.05, chance, 5_000, Score()) or 5_000 for _ in range(400)]
    assert 105 < sum(counts) / len(counts) < 165


def test_honest_bit_rot_is_never_out() -> None:
    chance = random.Random("bit rot")
    # 400 nodes over a million samples each: three years at 768 a day.
    assert all(samples_until_out(0.0005, chance, 1_000_000, Score()) is None for _ in range(400))


def test_the_error_of_the_first_kind_is_below_what_was_asked() -> None:
    chance = random.Random("honest")
    # H0 itself, ten years of samples for each of 20 nodes: none is out.
    assert all(samples_until_out(0.001, chance, 2_800_000, Score()) is None for _ in range(20))


def test_the_error_of_the_second_kind_is_about_what_was_asked() -> None:
    chance = random.Random("faulty")
    cleaned = 0
    for _ in range(4000):
        score = Score()
        while TEST.clean < score.score < TEST.out:
            passed = int(math.log(1 - chance.random()) / math.log(0.99))
            score = sampled(score, TEST, passed, 0, 0)
            if score.score > TEST.clean:
                score = sampled(score, TEST, 0, 1, 0)
        cleaned += score.score <= TEST.clean
    assert cleaned <= 12  # beta is 1 in 1000


@settings(deadline=None)
@given(
    st.floats(TEST.clean, TEST.out - 0.01),
    st.integers(0, 5000),
    st.integers(0, 40),
)
def test_a_score_stays_within_its_bounds(start: float, passed: int, failed: int) -> None:
    after = sampled(Score(start), TEST, passed, failed, 7)
    assert TEST.clean - 1e-9 <= after.score <= TEST.out + 1e-9
    assert (after.passed, after.failed, after.at_ms) == (passed, failed, 7)
    if failed:
        assert after.score >= sampled(Score(start), TEST, passed, failed - 1, 7).score - 1e-9


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_samples_one_by_one_are_the_walk_itself(passes: list[bool]) -> None:
    score, walk = Score(), 0.0
    for good in passes:
        score = sampled(score, TEST, int(good), int(not good), 0)
        step = TEST.pass_step if good else TEST.fail_step
        walk = min(TEST.out, max(TEST.clean, walk + step))
        assert abs(score.score - walk) < 1e-9


def test_the_margin_counts_failures_in_a_row() -> None:
    record = Record(1, b"n" * 32, 0, possession=FLOOR)
    view = possession_view(record, WAN)
    assert view.margin.startswith("9 more")
    almost = sampled(FLOOR, TEST, 0, 8, 0)
    assert almost.score < TEST.out <= sampled(almost, TEST, 0, 1, 0).score


def test_a_test_between_other_shares_has_other_steps() -> None:
    other = SequentialTest(honest=0.01, faulty=0.1)
    assert round(other.pass_step, 4) == -0.0953
    assert other.out == TEST.out


def online(count: int, absent: int) -> Record:
    """A node with so many counted windows, of which it missed some."""
    windows = Windows(current=0)
    for number in range(1, count + 1):
        windows = closed(windows, number, number > absent)
    return Record(1, b"n" * 32, 0, windows=windows)


def level(record: Record, tier: str) -> Level:
    return availability_view(record, WAN, Surroundings(0, tier)).level


def test_thresholds_follow_the_tier() -> None:
    assert level(online(71, 71), "home") is Level.UNKNOWN  # too early to judge
    assert level(online(720, 144), "home") is not Level.BREACH
    assert level(online(720, 145), "home") is Level.BREACH
    assert level(online(720, 36), "dc") is not Level.BREACH
    assert level(online(720, 37), "dc") is Level.BREACH


def test_warning_and_suspicion_come_before_a_breach() -> None:
    found = [level(online(720, absent), "home") for absent in range(150)]
    order = [Level.FINE, Level.WARNING, Level.SUSPECT, Level.BREACH]
    assert [one for n, one in enumerate(found) if not n or found[n - 1] is not one] == order
    view = availability_view(online(720, 80), WAN, Surroundings(5_000, "home"))
    assert view.remedy
    assert view.deadline_ms == 5_000 + (144 - 80 + 1) * WAN.window_ms


def test_windows_are_forgotten_after_thirty_days() -> None:
    record = online(WINDOWS_KEPT + 100, 100)
    assert record.windows.count == WINDOWS_KEPT
    assert record.windows.share == 1.0
    assert closed(record.windows, 10**6, True).count == 0


def test_windows_in_which_we_were_away_do_not_count() -> None:
    windows = Windows(current=5)
    for _ in range(20):
        windows = looked(windows, False)
    assert was_online(windows, WAN) is None  # 20 of 60 looks
    for _ in range(20):
        windows = looked(windows, False)
    assert was_online(windows, WAN) is False
    after = closed(windows, 9, False)
    assert (after.count, after.share) == (1, 0.0)  # the three windows between count for nothing


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([True, False, None])), max_size=200))
def test_windows_count_exactly_what_they_were_told(steps: list[tuple[int, bool | None]]) -> None:
    windows, told = Windows(), []
    for jump, verdict in steps:
        windows = closed(windows, windows.current + jump, verdict)
        told += [verdict, *[None] * (jump - 1)]
    recent = [one for one in told[-WINDOWS_KEPT:] if one is not None]
    assert windows.count == len(recent)
    assert windows.share == (sum(recent) / len(recent) if recent else 1.0)


def test_speeds_are_smoothed_per_region_and_bounded() -> None:
    speeds = measured((), Speed("eu", 10, 20, 0, 64))
    speeds = measured(speeds, Speed("eu", 50, 100, 1000, 64))
    assert speeds[0].p50_ms == 20
    assert speeds[0].bytes_per_s == 1000  # unknown before
    assert measured(speeds, Speed("eu", 0, 0, 0, 0)) == speeds
    for number in range(50):
        speeds = measured(speeds, Speed(f"r{number}", 1, 1, 1, 1))
    assert len(speeds) == 8
    assert speeds[0].region == "eu"


def test_a_mass_is_counted_in_operators() -> None:
    one_big = [Failing("big", True)] * 50 + [Failing(f"o{n}", False) for n in range(10)]
    assert mass_failure(one_big, 0.2, 3) is None
    three = [Failing(f"o{n}", n < 3) for n in range(10)]
    assert mass_failure(three, 0.2, 3) == (3, 10)
    assert mass_failure(three, 0.3, 3) is None
    assert mass_failure([], 0.2, 3) is None


def test_spans_are_written_in_their_largest_whole_unit() -> None:
    assert [span(ms) for ms in (500, 5_000, 3_600_000, 5_400_000, 21 * 86_400_000)] == [
        "0.5 s",
        "5 s",
        "1 h",
        "90 min",
        "21 d",
    ]
