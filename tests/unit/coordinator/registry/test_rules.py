"""The registry's decisions: facts, silence, replays."""

from dataclasses import replace
from typing import Any

import pytest

from atoll.coordinator.registry.model import (
    LOCAL,
    NO_COUNTERS,
    TIMERS,
    WAN,
    NodeState,
    NodeView,
    Timers,
)
from atoll.coordinator.registry.rules import (
    check_heartbeat,
    checked_facts,
    is_loopback,
    is_repeat,
    matters,
    silence_at_start,
    state_after,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Heartbeat, NodeCounters, NodeFacts, SignedFacts, encode

PROVIDER = Identity(b"p" * 32)
ATTACKER = Identity(b"a" * 32)
HOUR_MS = 3_600_000


def facts_of(**changes: Any) -> NodeFacts:
    values: dict[str, Any] = {
        "public_key": PROVIDER.public_key,
        "operator": "operator",
        "site": "cellar",
        "region": "eu",
        "country": "DE",
        "tier": "home",
        "host": "127.0.1.1",
        "port": 9003,
        "fingerprint": b"",
        "capacity_bytes": 1000,
        "price_micro": 0,
        "version": "1",
    }
    return NodeFacts(**{**values, **changes})


def signed(facts: NodeFacts, signer: Identity = PROVIDER) -> SignedFacts:
    encoded = encode(facts)
    return SignedFacts(facts=encoded, signature=signer.sign(b"node-facts/1", encoded))


def view_of(**changes: Any) -> NodeView:
    view = NodeView(
        alias=1, node_id=b"n" * 32, facts=facts_of(), signed_facts=b"", signature=b"", proof_ms=1,
        registered_ms=1, last_seen_ms=1000, heartbeat_ms=500, incarnation=2, full=False, skew_ms=0,
        state=NodeState.ALIVE, state_since_ms=1, counters=NO_COUNTERS,
    )  # fmt: skip
    return replace(view, **changes)


def beat(**changes: Any) -> Heartbeat:
    values: dict[str, Any] = {
        "time_ms": 500,
        "incarnation": 2,
        "full": False,
        "counters": NO_COUNTERS,
    }
    return Heartbeat(**{**values, **changes})


def test_the_nodes_own_facts_are_believed() -> None:
    facts = facts_of()
    assert checked_facts(signed(facts), PROVIDER.public_key) == facts


@pytest.mark.parametrize(
    ("offered", "prover"),
    [
        (signed(facts_of(), ATTACKER), PROVIDER),
        (signed(facts_of()), ATTACKER),
        (SignedFacts(facts=encode(facts_of()), signature=bytes(64)), PROVIDER),
        (SignedFacts(facts=encode(facts_of(port=1)), signature=signed(facts_of()).signature),
         PROVIDER),
    ],
)  # fmt: skip
def test_facts_of_another_are_refused(offered: SignedFacts, prover: Identity) -> None:
    with pytest.raises(AtollError) as caught:
        checked_facts(offered, prover.public_key)
    assert caught.value.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize(
    "changes",
    [
        {"operator": ""},
        {"site": ""},
        {"host": ""},
        {"operator": "o" * 129},
        {"region": "a\nb"},
        {"tier": "palace"},
        {"country": "Germany"},
        {"country": "4 "},
        {"port": 0},
        {"parent_country": "USA"},
        {"asn": 1 << 32},
        {"certificates": [b""] * 17},
        {"port": 65_536},
        {"capacity_bytes": -1},
        {"capacity_bytes": 1 << 61},
        {"price_micro": -1},
        {"fingerprint": b"short"},
        {"payout_account": b"short"},
        {"payout_account": bytes(20)},
        {"host": "192.0.2.1"},
        {"host": "example.org"},
    ],
)
def test_facts_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(AtollError) as caught:
        checked_facts(signed(facts_of(**changes)), PROVIDER.public_key)
    assert caught.value.kind is Kind.BAD_REQUEST


def test_beyond_loopback_a_certificate_is_enough() -> None:
    checked_facts(signed(facts_of(host="192.0.2.1", fingerprint=bytes(32))), PROVIDER.public_key)


@pytest.mark.parametrize("junk", [b"", b"\xff" * 100, bytes(9000)])
def test_facts_that_cannot_be_read_are_refused(junk: bytes) -> None:
    with pytest.raises(AtollError) as caught:
        checked_facts(SignedFacts(facts=junk, signature=bytes(64)), PROVIDER.public_key)
    assert caught.value.kind is Kind.BAD_REQUEST


@pytest.mark.parametrize(
    ("timers", "silence_ms", "state"),
    [
        (LOCAL, 0, NodeState.ALIVE),
        (LOCAL, 2_999, NodeState.ALIVE),
        (LOCAL, 3_000, NodeState.SUSPECT),
        (LOCAL, 9_999, NodeState.SUSPECT),
        (LOCAL, 10_000, NodeState.DEAD),
        (WAN, 5 * 60_000 - 1, NodeState.ALIVE),
        (WAN, 5 * 60_000, NodeState.SUSPECT),
        (WAN, 4 * HOUR_MS - 1, NodeState.SUSPECT),
        (WAN, 4 * HOUR_MS, NodeState.DEAD),
        (WAN, 72 * HOUR_MS - 1, NodeState.DEAD),
        (WAN, 72 * HOUR_MS, NodeState.LOST),
    ],
)
def test_silence_by_profile(timers: Timers, silence_ms: int, state: NodeState) -> None:
    assert state_after(silence_ms, timers) is state


def test_timers_that_contradict_each_other_are_refused() -> None:
    assert {"local", "wan"} <= set(TIMERS)
    with pytest.raises(ValueError, match="contradict"):
        replace(LOCAL, heartbeat_interval_ms=1_501)
    with pytest.raises(ValueError, match="contradict"):
        replace(LOCAL, dead_ms=3_000, suspect_ms=3_000)


def test_only_who_was_there_gets_time_after_a_restart() -> None:
    late = 1000 + HOUR_MS
    assert silence_at_start(view_of(state=NodeState.ALIVE), late) == 0
    assert silence_at_start(view_of(state=NodeState.SUSPECT), late) == 0
    assert silence_at_start(view_of(state=NodeState.DEAD), late) == HOUR_MS
    assert silence_at_start(view_of(state=NodeState.LOST), 0) == 0


@pytest.mark.parametrize(
    ("incarnation", "time_ms", "repeat"),
    [(2, 500, True), (2, 501, False), (3, 100, False), (2, 499, None), (1, 900, None)],
)
def test_heartbeats_are_heard_in_order(incarnation: int, time_ms: int, repeat: bool | None) -> None:
    heartbeat = beat(incarnation=incarnation, time_ms=time_ms)
    if repeat is not None:
        assert is_repeat(view_of(), heartbeat) is repeat
        return
    with pytest.raises(AtollError) as caught:
        is_repeat(view_of(), heartbeat)
    assert caught.value.kind is Kind.REPLAYED


@pytest.mark.parametrize(
    "changes",
    [
        {"incarnation": -1},
        {"lost_pieces": [b"x" * 15]},
        {"lost_pieces": [b"x" * 16] * 1001},
        {"counters": NodeCounters(used_bytes=-1, trash_bytes=0, free_bytes=0, pieces=0,
                                  put_bytes=0, get_bytes=0, errors=0)},
        {"time_ms": 1 << 63},
    ],
)  # fmt: skip
def test_heartbeats_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    check_heartbeat(beat(lost_pieces=[b"x" * 16] * 1000))
    with pytest.raises(AtollError) as caught:
        check_heartbeat(beat(**changes))
    assert caught.value.kind is Kind.BAD_REQUEST


def counted(free_bytes: int, used_bytes: int = 0, trash_bytes: int = 0) -> NodeCounters:
    return NodeCounters(
        used_bytes=used_bytes, trash_bytes=trash_bytes, free_bytes=free_bytes, pieces=0,
        put_bytes=0, get_bytes=0, errors=0,
    )  # fmt: skip


def test_room_is_what_was_offered_and_is_there() -> None:
    assert view_of().free_bytes == 0, "nothing is known before the first heartbeat"
    assert view_of(counters=counted(500)).free_bytes == 500
    assert view_of(counters=counted(5000, 300, 200)).free_bytes == 500
    assert view_of(counters=counted(5000, 3000)).free_bytes == 0


def test_placement_looks_again_when_it_matters() -> None:
    view = view_of(counters=counted(640))
    assert not matters(view, replace(view, last_seen_ms=9999, counters=counted(631)))
    assert matters(view, replace(view, counters=counted(600)))
    assert matters(view, replace(view, state=NodeState.DEAD))
    assert matters(view, replace(view, full=True))
    assert matters(view, replace(view, facts=facts_of(port=5)))


def test_loopback() -> None:
    assert is_loopback("127.0.3.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("example.org")
