"""Judgements: one step at a time, each told once, never against whoever has something left."""

from hypothesis import given
from hypothesis import strategies as st

from atoll.coordinator.customers.model import Customer, Known, LineKind, Standing, Times, UsageLine
from atoll.coordinator.customers.rules import judge, merged, month_span, net_pico

TIMES = Times(10, 20, 30)
MICRO = 10**6


def known(available: int = 1, *, stored: int = 1, used: int = 0, month: str = "2026-11") -> Known:
    return Known(max(0, available), max(0, -available), 0, stored, stored, month, used)


def test_each_alert_of_a_budget_is_told_once_a_month() -> None:
    customer = Customer(b"a", budget_micro=100)
    told: list[str] = []
    for used in (0, 74, 75, 80, 99, 100, 500):
        customer, news = judge(customer, known(used=used * MICRO), 0, TIMES, enforced=True)
        told += [one.kind for one in news]
    assert told == ["budget_75", "budget_100"]
    again, news = judge(customer, known(-1, used=500 * MICRO), 5, TIMES, enforced=True)
    assert [one.kind for one in news] == ["notice"], "nothing of the budget a second time"
    _, news = judge(again, known(used=80 * MICRO, month="2026-12"), 5, TIMES, enforced=True)
    assert [one.kind for one in news] == ["active", "budget_75"]


def test_a_budget_of_nothing_stops_at_once() -> None:
    customer, _ = judge(Customer(b"a", budget_micro=0), known(), 0, TIMES, enforced=False)
    assert customer.refused == "budget"


def test_where_it_is_not_enforced_nothing_follows_from_an_empty_balance() -> None:
    before = Customer(b"a", standing=Standing.DELETION, refused="unpaid")
    after, told = judge(before, known(-1), 5, TIMES, enforced=False)
    assert (after.standing, after.refused, [one.kind for one in told]) == (
        Standing.ACTIVE, "", ["active"],
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.integers(0, 15), st.integers(-3, 3), st.sampled_from((0, 1, 1, 1)), st.booleans()
        ),
        max_size=60,
    )
)
def test_no_standing_is_shorter_than_it_was_announced(
    moments: list[tuple[int, int, int, bool]],
) -> None:
    order = [Standing.NOTICE, Standing.READ_ONLY, Standing.GRACE, Standing.DELETION]
    lasting = {Standing.NOTICE: 10, Standing.READ_ONLY: 20, Standing.GRACE: 30}
    customer, now = Customer(b"a"), 0
    for step, available, stored, enforced in moments:
        now += step
        before = customer
        customer, told = judge(
            customer, known(available, stored=stored), now, TIMES, enforced=enforced
        )
        assert (customer.standing is not before.standing) == bool(told)
        if available > 0 or not enforced:
            assert customer.standing is Standing.ACTIVE
            assert not customer.refused
        elif before.standing in order and customer.standing in order and stored:
            moved = order.index(customer.standing) - order.index(before.standing)
            assert moved in (0, 1)
            if moved and before.until_ms:
                assert now >= before.since_ms + lasting[before.standing]
        if customer.standing is Standing.DELETION and before.standing is not Standing.DELETION:
            assert before.standing is Standing.GRACE
            assert now >= before.until_ms > 0
        again, news = judge(
            customer, known(available, stored=stored), now, TIMES, enforced=enforced
        )
        assert news == [] or again.standing is not customer.standing
        if not news:
            assert again == customer


@given(st.integers(1970, 9998), st.integers(1, 12))
def test_months_follow_each_other(year: int, month: int) -> None:
    begin, end = month_span(f"{year:04}-{month:02}")
    assert 28 * 86_400_000 <= end - begin <= 31 * 86_400_000
    following = f"{year + month // 12:04}-{month % 12 + 1:02}"
    if year + month // 12 <= 9998:
        assert month_span(following)[0] == end


@given(
    st.lists(
        st.builds(
            UsageLine,
            st.sampled_from((b"", b"a", b"b")),
            st.sampled_from([kind.value for kind in LineKind]),
            st.integers(0, 10**30),
            st.integers(0, 10**30),
        ),
        max_size=20,
    ),
    st.integers(0, 20),
)
def test_months_add_up_in_any_portions(lines: list[UsageLine], cut: int) -> None:
    whole = merged(lines)
    assert merged(merged(lines[:cut]), lines[cut:]) == whole
    assert net_pico(whole) == net_pico(lines)
