from hypothesis import given
from hypothesis import strategies as st

from atoll.runtime.rng import SystemRng


def test_sleep_lets_at_least_the_time_pass(world):
    async def check(w):
        begin, wall = w.clock.monotonic(), w.clock.now_ms()
        await w.clock.sleep(0.02)
        assert w.clock.monotonic() - begin >= 0.0199
        assert w.clock.now_ms() - wall >= 19

    world.run(check)


def test_wall_time_is_of_this_century_in_milliseconds(world):
    async def check(w):
        assert 1_600_000_000_000 < w.clock.now_ms() < 5_000_000_000_000

    world.run(check)


def test_chance_keeps_its_bounds_and_differs(world):
    async def check(w):
        assert len(w.rng.bytes(33)) == 33
        assert w.rng.bytes(16) != w.rng.bytes(16)
        assert {w.rng.below(3) for _ in range(200)} == {0, 1, 2}
        assert all(0 <= w.rng.uniform() < 1 for _ in range(100))
        drawn = w.rng.sample(range(10), 10)
        assert sorted(drawn) == list(range(10))

    world.run(check)


@given(st.lists(st.integers(), unique=True, max_size=20), st.data())
def test_a_sample_holds_distinct_members(members, data):
    count = data.draw(st.integers(0, len(members)))
    drawn = SystemRng().sample(members, count)
    assert len(set(drawn)) == count
    assert set(drawn) <= set(members)
