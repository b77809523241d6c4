"""Claims about collection's pure rules."""

from atoll.coordinator.collection import rules
from atoll.core.errors import Kind


def test_a_piece_is_gone_when_deleted_or_never_there() -> None:
    assert rules.deleted("")
    assert rules.deleted(Kind.NOT_FOUND.value)
    for kind in set(Kind) - {Kind.NOT_FOUND}:
        assert not rules.deleted(kind.value)


def test_a_node_is_left_alone_longer_each_time_up_to_a_bound() -> None:
    waits = [rules.retry_ms(failures, rules.LOCAL) for failures in range(1, 60)]
    assert waits[0] == rules.LOCAL.retry_ms_min
    assert waits == sorted(waits)
    assert waits[-1] == rules.LOCAL.retry_ms_max
