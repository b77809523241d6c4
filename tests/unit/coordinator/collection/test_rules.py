"""Claims about collection's pure rules."""

from atoll.coordinator.collection import rules
from atoll.core.errors import Kind


def test_a_deletion_is_settled_when_the_piece_is_gone_never_there_anothers_or_locked() -> None:
    settled = {Kind.NOT_FOUND, Kind.RETAINED, Kind.FORBIDDEN}
    assert rules.settled("")
    assert {kind for kind in Kind if rules.settled(kind.value)} == settled


def test_a_node_is_left_alone_longer_each_time_up_to_a_bound() -> None:
    waits = [rules.retry_ms(failures, rules.LOCAL) for failures in range(1, 60)]
    assert waits[0] == rules.LOCAL.retry_ms_min
    assert waits == sorted(waits)
    assert waits[-1] == rules.LOCAL.retry_ms_max
