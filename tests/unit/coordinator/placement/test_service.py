"""Claims about the order limits that placement signs."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from atoll.coordinator.placement import service as placement
from atoll.coordinator.placement.model import Candidate, NodeState
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import (
    GrantReads,
    OrderSegment,
    PieceGrant,
    ReplaceGrants,
    StoredPiece,
)
from atoll.core.orders import (
    ANY_INDEX,
    LINK_MAC_BYTES,
    Action,
    OrderLimit,
    check_order,
    link_key,
)
from atoll.core.ports import Address

COORDINATOR = Identity(b"c" * 32)
GATEWAY = Identity(b"g" * 32).public_key
NOW_MS = 1_800_000_000_000
BUCKET = b"b" * 16


class StillClock:
    """The Clock port with a hand to turn."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class SeededRng:
    """The Rng port on the standard generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def uniform(self) -> float:
        return self._random.random()

    def sample(self, population: Sequence[Any], count: int) -> list[Any]:
        return self._random.sample(list(population), count)


class Table:
    """A node table that counts its changes."""

    def __init__(self, nodes: int) -> None:
        self.version = 1
        self.rows = {alias: candidate(alias) for alias in range(1, nodes + 1)}

    def candidates(self) -> list[Candidate]:
        return list(self.rows.values())

    def change(self, alias: int, **facts: Any) -> None:
        self.rows[alias] = replace(self.rows[alias], **facts)
        self.version += 1


def candidate(alias: int) -> Candidate:
    return Candidate(
        alias=alias,
        node_id=alias.to_bytes(32, "big"),
        address=Address(f"127.{alias >> 8}.{alias & 255}.1", 7000 + alias),
        operator=f"operator-{alias}",
        site=f"site-{alias}",
        region="eu",
        country="DE",
        tier="home",
        state=NodeState.ALIVE,
        full=False,
        free_bytes=10 << 30,
    )


def service(table: Table, clock: StillClock | None = None) -> placement.PlacementService:
    return placement.PlacementService(clock or StillClock(), SeededRng(1), COORDINATOR, table)


def order(plain_bytes: int) -> OrderSegment:
    return OrderSegment(bucket=BUCKET, plain_bytes=plain_bytes, gateway_key=GATEWAY)


def limit_of(grant: PieceGrant) -> OrderLimit:
    return check_order(grant.order, [COORDINATOR.public_key], NOW_MS, 1000)


@pytest.mark.parametrize(
    ("nodes", "plain_bytes", "shape", "given"),
    [
        (12, 64 << 20, (4, 8), 10),
        (12, 0, (1, 4), 5),
        (8, 1 << 20, (4, 8), 8),
        (7, 1 << 20, (2, 4), 5),
        (3, 1 << 20, (2, 4), 3),
        (16, 1 << 20, (10, 20), 16),
        (60, 1 << 20, (20, 40), 46),
    ],
)
def test_a_segment_gets_indexed_limits_and_spares(
    nodes: int, plain_bytes: int, shape: tuple[int, int], given: int
) -> None:
    answer = service(Table(nodes)).order_segment(order(plain_bytes), serial=7)
    assert (answer.k, answer.n) == shape
    assert len(answer.grants) == given
    assert [g.index for g in answer.grants] == [
        i if i < answer.n else ANY_INDEX for i in range(given)
    ]
    assert len({g.alias for g in answer.grants}) == given
    limits = [limit_of(g) for g in answer.grants]
    assert {limit.action for limit in limits} == {Action.PUT}
    assert len({bytes(limit.serial) for limit in limits}) == given
    for grant, limit in zip(answer.grants, limits, strict=True):
        assert limit.node_id == grant.node_id
        assert (limit.index, limit.segment_id) == (grant.index, answer.segment)
        assert limit.byte_cap > -(-plain_bytes // answer.k)
        assert limit.gateway_key == GATEWAY
        assert limit.issued_ms == NOW_MS < limit.expires_ms
        assert limit.payer_tag not in (BUCKET, bytes(16))


def test_too_few_nodes_is_told_in_words() -> None:
    with pytest.raises(AtollError, match="needs 3 independent operators") as caught:
        service(Table(2)).order_segment(order(1 << 20), serial=7)
    assert caught.value.kind is Kind.TOO_FEW_NODES
    with pytest.raises(AtollError) as caught:
        service(Table(12)).order_segment(order((64 << 20) + 1), serial=7)
    assert caught.value.kind is Kind.BAD_REQUEST


def test_a_node_that_dies_gets_nothing_more() -> None:
    table = Table(12)
    placing = service(table)
    placing.order_segment(order(1 << 20), serial=7)
    for alias in (1, 2, 3, 4):
        table.change(alias, state=NodeState.DEAD)
    for _ in range(5):
        grants = placing.order_segment(order(1 << 20), serial=7).grants
        assert sorted(g.alias for g in grants) == list(range(5, 13))


def test_a_node_without_room_for_the_piece_is_passed_over() -> None:
    table = Table(12)
    table.change(3, free_bytes=1 << 20)
    table.change(4, full=True)
    placing = service(table)
    large = {
        g.alias for _ in range(20) for g in placing.order_segment(order(64 << 20), serial=7).grants
    }
    small = {g.alias for _ in range(20) for g in placing.order_segment(order(100), serial=7).grants}
    assert 3 not in large
    assert 3 in small
    assert 4 not in large | small


def test_replacements_avoid_used_nodes_and_keep_indexes() -> None:
    placing = service(Table(12))
    first = placing.order_segment(order(1 << 20), serial=7)
    used = [g.alias for g in first.grants]
    request = ReplaceGrants(
        bucket=BUCKET,
        segment=first.segment,
        serial=first.serial,
        plain_bytes=1 << 20,
        k=first.k,
        n=first.n,
        indexes=[2, 5, 6],
        used_aliases=used,
        gateway_key=GATEWAY,
    )
    grants = placing.replace_grants(request).grants
    assert [g.index for g in grants] == [2, 5], "two nodes are left of twelve"
    assert not {g.alias for g in grants} & set(used)
    assert limit_of(grants[0]).segment_id == first.segment
    assert {limit_of(g).segment_serial for g in [*first.grants, *grants]} == {7}
    for bad in (
        {"indexes": [8]},
        {"indexes": [-1]},
        {"k": 3},
        {"plain_bytes": -1},
        {"indexes": [0] * 11},
        {"segment": b"short"},
    ):
        fields = {name: getattr(request, name) for name in request.__struct_fields__}
        with pytest.raises(AtollError) as caught:
            placing.replace_grants(ReplaceGrants(**(fields | bad)))
        assert caught.value.kind is Kind.BAD_REQUEST


def test_reads_come_best_first_and_skip_the_dead() -> None:
    table = Table(6)
    table.change(1, state=NodeState.SUSPECT, latency_ms=1.0)
    table.change(2, latency_ms=30.0)
    table.change(3, latency_ms=5.0)
    table.change(4, state=NodeState.DEAD)
    table.change(5, state=NodeState.LOST)
    pieces = [StoredPiece(index=7 - alias, alias=alias) for alias in (1, 2, 3, 4, 5, 6, 99)]
    answer = service(table).grant_reads(
        GrantReads(segment=b"s" * 16, pieces=pieces[:6], byte_cap=123, gateway_key=GATEWAY)
    )
    assert [g.alias for g in answer.grants] == [6, 3, 2, 1]
    for grant in answer.grants:
        limit = limit_of(grant)
        assert (limit.action, limit.byte_cap, limit.index) == (Action.GET, 123, 7 - grant.alias)


def test_deletions_name_their_piece() -> None:
    table = Table(3)
    placing = service(table)
    nodes = placing.nodes()
    orders = placing.delete_orders(
        [placement.OrderItem(nodes[2], b"s" * 16, i, 9) for i in (0, 3)]  # type: ignore[arg-type]
    )
    limits = [check_order(o, [COORDINATOR.public_key], NOW_MS, 1000) for o in orders]
    assert [(limit.action, limit.index) for limit in limits] == [
        (Action.DELETE, 0),
        (Action.DELETE, 3),
    ]


def test_an_order_carries_a_mac_that_its_node_alone_can_check() -> None:
    secret = b"l" * 32
    placing = placement.PlacementService(
        StillClock(), SeededRng(1), COORDINATOR, Table(12), link_secret=secret
    )
    grant = placing.order_segment(order(1 << 20), serial=7).grants[0]
    keys = {COORDINATOR.public_key: link_key(secret, grant.node_id)}
    spoiled = bytearray(grant.order)
    spoiled[-LINK_MAC_BYTES - 1] ^= 1  # the signature: under a wrong MAC it decides
    check_order(grant.order, keys, NOW_MS, 1000)
    check_order(grant.order, keys, NOW_MS, 1000, link_keys=keys)
    with pytest.raises(AtollError, match="signature does not hold"):
        check_order(bytes(spoiled), keys, NOW_MS, 1000, link_keys=keys)
    plain = service(Table(12)).order_segment(order(1 << 20), serial=7).grants[0].order
    assert len(grant.order) == len(plain) + LINK_MAC_BYTES


def test_payer_tags_are_stable_and_keyed() -> None:
    one = service(Table(1)).payer_tag(BUCKET)
    other = placement.PlacementService(
        StillClock(), SeededRng(1), Identity(b"d" * 32), Table(1)
    ).payer_tag(BUCKET)
    assert one == service(Table(2)).payer_tag(BUCKET)
    assert one != other
    assert len(one) == 16


def test_a_small_segment_is_placed_in_little_time() -> None:
    placing = service(Table(12))
    request = order(4096)
    placing.order_segment(request, serial=7)
    signing = min(_seconds(lambda: COORDINATOR.sign(b"order/1", b"x" * 64)) for _ in range(50))
    best = min(_seconds(lambda: placing.order_segment(request, serial=7)) for _ in range(200))
    assert best - signing < 600e-6, "four times the budget, for a busy machine"


def _seconds(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
