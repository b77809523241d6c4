"""Claims about when a segment is copied into a wider scheme, and how much at a time."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from atoll.coordinator.upgrade.rules import (
    CLASSES,
    HOUR_MS,
    PROFILES,
    Since,
    Spent,
    allowance,
    gains,
    looked,
    offered,
    operators_needed,
    ripe_before_ms,
    with_spent,
)
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20, RS_20_40, scheme_for

NOW_MS = 1_800_000_000_000
WAN = PROFILES["wan"]


def test_a_class_is_offered_from_where_new_segments_have_it_and_start_at_full_strength() -> None:
    needed = [operators_needed(scheme) for scheme in CLASSES]
    assert needed == [5, 10, 23, 60]
    stays = [operators_needed(scheme, already=True) for scheme in CLASSES]
    assert stays == [4, 8, 20, 60]
    for scheme, least in zip(CLASSES, stays, strict=True):
        assert scheme_for(1 << 20, least).k >= scheme.k
        assert least >= scheme.n


def test_operators_must_stay_and_who_leaves_for_a_moment_begins_anew() -> None:
    since = looked(None, RS_10_20, 23, NOW_MS, WAN)
    assert since == Since(NOW_MS, NOW_MS)
    later = looked(since, RS_10_20, 20, NOW_MS + 60_000, WAN)
    assert later == Since(NOW_MS, NOW_MS + 60_000)
    assert looked(later, RS_10_20, 19, NOW_MS + 120_000, WAN) is None
    assert looked(None, RS_10_20, 22, NOW_MS + 180_000, WAN) is None


def test_what_nobody_watched_does_not_count() -> None:
    since = Since(NOW_MS, NOW_MS)
    unseen = NOW_MS + WAN.unseen_ms_max + 1
    assert looked(since, RS_10_20, 30, unseen, WAN) == Since(unseen, unseen)
    assert looked(since, RS_10_20, 21, unseen, WAN) is None
    assert looked(since, RS_10_20, 30, NOW_MS - 1, WAN) == Since(NOW_MS - 1, NOW_MS - 1)


def test_the_widest_class_that_was_held_long_enough_is_offered() -> None:
    held = Since(NOW_MS - WAN.hold_ms, NOW_MS)
    young = Since(NOW_MS - WAN.hold_ms + 1, NOW_MS)
    stale = Since(NOW_MS - WAN.hold_ms, NOW_MS - WAN.unseen_ms_max - 1)
    assert offered({}, NOW_MS, WAN) == 0
    assert offered({4: held, 10: held, 20: young}, NOW_MS, WAN) == 10
    assert offered({4: held, 10: stale}, NOW_MS, WAN) == 4
    assert offered({4: young}, NOW_MS, WAN) == 0


@given(st.sampled_from(CLASSES), st.sampled_from(CLASSES), st.data())
def test_a_swap_never_narrows_and_never_takes_a_loss_away(old, new, data) -> None:  # type: ignore[no-untyped-def]
    before = data.draw(st.integers(0, old.n))
    after = data.draw(st.integers(new.durable, new.n))
    if gains(old.k, before, new.k, after):
        assert new.k > old.k
        assert after - new.k > before - old.k


def test_a_copy_that_found_hardly_any_nodes_is_not_taken() -> None:
    assert not gains(RS_2_4.k, 4, RS_4_8.k, RS_4_8.durable)
    assert gains(RS_2_4.k, 4, RS_4_8.k, RS_4_8.commit)
    assert gains(RS_4_8.k, 8, RS_10_20.k, RS_10_20.durable)
    assert gains(RS_10_20.k, 20, RS_20_40.k, RS_20_40.durable)
    assert not gains(RS_4_8.k, 6, RS_4_8.k, 8)
    assert not gains(RS_10_20.k, 11, RS_4_8.k, 8)


def test_small_objects_are_the_packers_first() -> None:
    for profile in PROFILES.values():
        small = ripe_before_ms(NOW_MS, profile, small=True)
        assert small < ripe_before_ms(NOW_MS, profile, small=False) < NOW_MS


@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 256 << 20)), max_size=40),
    st.integers(0, HOUR_MS - 1),
)
def test_no_hour_hands_out_more_than_its_budget(
    batches: list[tuple[int, int]], into_ms: int
) -> None:
    profile = replace(WAN, segments_per_hour_max=500, bytes_per_hour_max=2 << 30)
    now_ms = NOW_MS - NOW_MS % HOUR_MS + into_ms
    spent = Spent()
    for segments, plain_bytes in batches:
        left = allowance(spent, now_ms, profile)
        if not left.any:
            break
        spent = with_spent(
            spent, now_ms, min(segments, left.segments), min(plain_bytes, left.plain_bytes)
        )
    assert spent.segments <= profile.segments_per_hour_max
    assert spent.plain_bytes <= profile.bytes_per_hour_max
    fresh = allowance(spent, now_ms + HOUR_MS, profile)
    assert fresh.segments == profile.segments_per_hour_max
    assert fresh.plain_bytes == profile.bytes_per_hour_max
