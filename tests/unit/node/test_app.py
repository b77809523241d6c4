"""The node's interface, driven as ASGI: what an honest client gets and what an attacker gets."""

import asyncio
import base64
import hmac
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from tests.unit.node.machine import (
    COORDINATOR,
    HOUR_MS,
    KIB,
    TINY,
    Machine,
    Piece,
    forged,
    limit_of,
    make_piece,
    signed_again,
)

from atoll.core.errors import Kind, kind_named
from atoll.core.identity import Identity
from atoll.core.merkle import piece_root
from atoll.core.messages import Failure, decode
from atoll.core.orders import Action, OrderLimit, check_receipt, sign_orders
from atoll.node.app import NodeApp
from atoll.node.config import NodeConfig
from atoll.node.orders import OrderDesk

NODE = Identity(b"node".ljust(32, b"."))
LINK_KEY = b"link".ljust(32, b".")
STRANGER = Identity(b"stranger".ljust(32, b"."))
CONFIG = NodeConfig(
    operator="o",
    site="s",
    region="r",
    country="DE",
    tier="home",
    host="127.0.0.1",
    port=1,
    store=TINY,
    transfer_memory_bytes=6000,
    transfers_waiting_max=1,
    transfer_wait_s=2.0,
    body_stall_s=10.0,
)


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def kind(self) -> Kind:
        failure: Failure = decode(self.body, Failure)
        return kind_named(failure.kind)


class Door:
    """A node's app and the ways to knock."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        desk = OrderDesk(NODE.node_id, {COORDINATOR.public_key: LINK_KEY}, machine.clock, 60_000)
        self.app = NodeApp(machine.store, NODE, CONFIG, machine.clock, desk)

    def limit(self, piece: Piece, action: Action, **changes: Any) -> OrderLimit:
        name = str(random.random())
        return replace(limit_of(NODE.node_id, piece, action, name, self.machine.now_ms), **changes)

    def order(self, piece: Piece, action: Action, **changes: Any) -> bytes:
        return sign_orders(COORDINATOR, [self.limit(piece, action, **changes)])[0]

    async def ask(
        self,
        method: str,
        path: str,
        order: bytes | None = None,
        body: bytes = b"",
        *,
        cut: int = 16 * KIB,
        length: int | None = None,
        gone_after: int | None = None,
        stall: bool = False,
    ) -> Answer:
        path, _, query = path.partition("?")
        headers = [(b"content-length", str(len(body) if length is None else length).encode())]
        if order is not None:
            headers.append((b"x-atoll-order", base64.b64encode(order)))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
        }
        parts = [body[i : i + cut] for i in range(0, len(body), cut)] or [b""]
        left = list(parts)
        answer = Answer(0, {}, b"")

        async def receive() -> dict[str, Any]:
            if gone_after is not None and len(parts) - len(left) >= gone_after:
                return {"type": "http.disconnect"}
            if not left or (stall and len(left) == 1):
                await asyncio.Event().wait()
            part = left.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(left)}

        async def send(event: Any) -> None:
            if event["type"] == "http.response.start":
                answer.status = event["status"]
                answer.headers = dict(event["headers"])
            else:
                answer.body += event["body"]

        await self.app(scope, receive, send)
        assert int(answer.headers[b"content-length"]) == len(answer.body)
        return answer

    def run(self, work: Awaitable[Any]) -> Any:
        return self.machine.run(work)

    def put(self, piece: Piece, order: bytes, **how: Any) -> Answer:
        return self.run(self.ask("PUT", f"/v1/pieces/{piece.id.hex()}", order, piece.record, **how))

    def get(self, piece: Piece, order: bytes, query: str = "part=data") -> Answer:
        return self.run(self.ask("GET", f"/v1/pieces/{piece.id.hex()}?{query}", order))

    def delete(self, orders: list[bytes]) -> Any:
        body = msgspec.msgpack.encode(orders)
        answer = self.run(self.ask("POST", "/v1/delete", None, body))
        assert answer.status == 200, answer.kind
        return msgspec.msgpack.decode(answer.body)


@pytest.fixture
def door(machine: Machine) -> Door:
    return Door(machine)


@pytest.mark.parametrize("data_bytes", [4096, 150 * KIB])
def test_a_piece_goes_in_and_comes_out(door: Door, data_bytes: int) -> None:
    piece = make_piece("a", data_bytes)
    put_order = door.order(piece, Action.PUT)
    answer = door.put(piece, put_order)
    assert answer.status == 201
    receipt = check_receipt(answer.body, NODE.node_id)
    assert (receipt.segment_id, receipt.index) == (piece.header.segment_id, piece.header.index)
    again = door.put(piece, put_order)
    assert (again.status, again.body) == (201, answer.body)
    order = door.order(piece, Action.GET)
    assert door.get(piece, order).body == piece.data
    head = door.get(piece, order, "part=head")
    trailer = door.get(piece, order, "part=trailer")
    assert head.body + piece.data + trailer.body == piece.record
    fresh = door.order(piece, Action.REPAIR_GET)
    ranged = door.get(piece, fresh, "part=data&offset=1000&length=777")
    assert (ranged.status, ranged.body) == (200, piece.data[1000:1777])


def test_a_link_mac_stands_for_the_signature_and_a_wrong_one_does_not(door: Door) -> None:
    piece = make_piece("a", 4096)
    links = {NODE.node_id: LINK_KEY}
    put = sign_orders(COORDINATOR, [door.limit(piece, Action.PUT)], link_keys=links)[0]
    # The signature itself is spoilt: only the MAC, renewed over it, can have admitted this.
    spoilt = bytearray(put[:-16])
    spoilt[-1] ^= 1
    mac = hmac.digest(LINK_KEY, bytes(spoilt), "sha256")[:16]
    assert door.put(piece, bytes(spoilt) + mac).status == 201
    other = hmac.digest(b"other".ljust(32), bytes(spoilt), "sha256")[:16]
    assert door.put(piece, bytes(spoilt) + other).kind is Kind.UNAUTHENTICATED
    assert door.put(piece, put[:-16] + bytes(16)).status == 201


def test_a_read_order_serves_its_bytes_and_no_more(door: Door) -> None:
    piece = make_piece("a", 10_000)
    door.put(piece, door.order(piece, Action.PUT))
    order = door.order(piece, Action.GET, byte_cap=6000)
    assert door.get(piece, order, "part=data&offset=0&length=4000").status == 200
    assert door.get(piece, order, "part=data&offset=0&length=2001").kind is Kind.FORBIDDEN
    assert door.get(piece, order, "part=data&offset=9000&length=1000").status == 200
    assert door.get(piece, order, "part=data&offset=0&length=1000").status == 200
    assert door.get(piece, order, "part=data&offset=0&length=1").kind is Kind.FORBIDDEN


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("part=data&offset=9999&length=2", Kind.BAD_REQUEST),
        ("part=data&offset=-1&length=2", Kind.BAD_REQUEST),
        ("part=data&offset=20000", Kind.BAD_REQUEST),
        ("part=data&offset=1e3", Kind.BAD_REQUEST),
        ("part=data&length=99999999999999999999", Kind.BAD_REQUEST),
        ("part=everything", Kind.BAD_REQUEST),
        ("x" * 2000, Kind.BAD_REQUEST),
    ],
)
def test_a_range_outside_the_piece_is_refused(door: Door, query: str, kind: Kind) -> None:
    piece = make_piece("a", 10_000)
    door.put(piece, door.order(piece, Action.PUT))
    assert door.get(piece, door.order(piece, Action.GET), query).kind is kind


def _forged(door: Door, piece: Piece, action: Action) -> bytes:
    return sign_orders(STRANGER, [door.limit(piece, action)])[0]


def _flipped(door: Door, piece: Piece, action: Action) -> bytes:
    order = bytearray(door.order(piece, action))
    order[-1] ^= 1
    return bytes(order)


def _raised_cap(door: Door, piece: Piece, action: Action) -> bytes:
    order = bytearray(door.order(piece, action))
    order[4] ^= 1
    return bytes(order)


BAD_ORDERS: dict[str, tuple[Kind, Callable[[Door, Piece, Action], bytes]]] = {
    "of a stranger": (Kind.UNAUTHENTICATED, _forged),
    "with another signature": (Kind.UNAUTHENTICATED, _flipped),
    "with another cap": (Kind.UNAUTHENTICATED, _raised_cap),
    "cut short": (Kind.BAD_REQUEST, lambda d, p, a: d.order(p, a)[:-1]),
    "empty": (Kind.UNAUTHENTICATED, lambda d, p, a: b""),
    "random": (Kind.NEWER_FORMAT, lambda d, p, a: random.Random(1).randbytes(400)),
    "too long": (Kind.BAD_REQUEST, lambda d, p, a: bytes(100_000)),
    "for another node": (
        Kind.FORBIDDEN,
        lambda d, p, a: d.order(p, a, node_id=STRANGER.node_id),
    ),
    "for another piece": (Kind.FORBIDDEN, lambda d, p, a: d.order(p, a, index=2)),
    "for another action": (Kind.FORBIDDEN, lambda d, p, a: d.order(p, Action.DELETE)),
    "expired": (
        Kind.EXPIRED,
        lambda d, p, a: d.order(
            p, a, issued_ms=d.machine.now_ms - HOUR_MS, expires_ms=d.machine.now_ms - 60_001
        ),
    ),
    "of the future": (
        Kind.CLOCK_SKEW,
        lambda d, p, a: d.order(p, a, issued_ms=d.machine.now_ms + 61_000),
    ),
}


@pytest.mark.parametrize("name", BAD_ORDERS)
@pytest.mark.parametrize("action", [Action.PUT, Action.GET])
def test_a_bad_order_is_refused(door: Door, name: str, action: Action) -> None:
    piece = make_piece("a", 4096)
    kind, make = BAD_ORDERS[name]
    if action is Action.GET:
        door.put(piece, door.order(piece, Action.PUT))
    order = make(door, piece, action)
    answer = door.put(piece, order) if action is Action.PUT else door.get(piece, order)
    assert answer.kind is kind
    assert door.machine.store.counters().pieces == (1 if action is Action.GET else 0)


def test_an_order_for_any_piece_admits_one_of_its_segment_only(door: Door) -> None:
    one, other = make_piece("a", 4096, index=1), make_piece("b", 4096, index=1)
    order = door.order(one, Action.PUT, index=255)
    assert door.put(other, order).kind is Kind.CORRUPT
    assert door.put(one, order).status == 201
    assert door.put(make_piece("a", 4096, index=2), order).kind is Kind.REPLAYED
    door.put(other, door.order(other, Action.PUT))
    read = door.order(one, Action.GET, index=255)
    assert door.get(other, read).kind is Kind.FORBIDDEN
    assert door.get(one, read).body == one.data


@pytest.mark.parametrize("data_bytes", [4096, 150 * KIB])
def test_a_body_that_is_not_as_announced_is_refused_and_forgotten(
    door: Door, data_bytes: int
) -> None:
    piece = make_piece("a", data_bytes)
    order = door.order(piece, Action.PUT)
    size = len(piece.record)
    assert door.put(piece, order, length=size + 1).kind is Kind.TOO_LARGE
    assert door.put(piece, order, length=size - 1).kind is Kind.TOO_LARGE
    assert door.put(piece, order, cut=size // 3, gone_after=2).kind is Kind.CANCELLED
    assert door.put(piece, order, cut=size // 3, stall=True).kind is Kind.TIMEOUT
    bad = bytearray(piece.record)
    bad[size // 2] ^= 4
    assert door.put(Piece(piece.header, bytes(bad)), order).kind is Kind.CORRUPT
    assert door.machine.store.volume.logs.physical_bytes == 0
    assert door.put(piece, order).status == 201


def test_other_paths_and_methods_are_refused(door: Door) -> None:
    piece = make_piece("a", 4096)
    path = f"/v1/pieces/{piece.id.hex()}"
    for method, target, kind in (
        ("POST", path, Kind.BAD_REQUEST),
        ("GET", path + "00", Kind.BAD_REQUEST),
        ("GET", "/v1/pieces/" + "z" * 32, Kind.BAD_REQUEST),
        ("GET", "/", Kind.NOT_FOUND),
        ("PUT", "/v1/delete", Kind.BAD_REQUEST),
        ("GET", path, Kind.UNAUTHENTICATED),
    ):
        assert door.run(door.ask(method, target)).kind is kind
    assert door.get(piece, door.order(piece, Action.GET)).kind is Kind.NOT_FOUND


def test_deletions_answer_one_by_one(door: Door) -> None:
    kept = make_piece("kept", 4096)
    locked = make_piece("locked", 4096)
    gone = make_piece("gone", 4096)
    door.put(kept, door.order(kept, Action.PUT))
    door.put(gone, door.order(gone, Action.PUT))
    until = door.machine.now_ms + HOUR_MS
    door.put(locked, door.order(locked, Action.PUT, retention_until_ms=until))
    delete = door.order(gone, Action.DELETE)
    orders = [
        delete,
        door.order(locked, Action.DELETE),
        _forged(door, kept, Action.DELETE),
        door.order(kept, Action.GET),
        door.order(make_piece("absent", 64), Action.DELETE),
        door.order(kept, Action.DELETE, index=255),
        b"garbage",
    ]
    assert door.delete(orders) == [
        "", "retained", "unauthenticated", "forbidden", "not_found", "bad_request", "bad_request",
    ]  # fmt: skip
    assert door.delete([delete]) == [""]
    assert door.machine.store.counters().pieces == 2
    assert door.run(door.ask("POST", "/v1/delete", None, b"\xc1")).kind is Kind.BAD_REQUEST
    many = msgspec.msgpack.encode([b""] * 1001)
    assert door.run(door.ask("POST", "/v1/delete", None, many)).kind is Kind.TOO_LARGE
    assert door.run(door.ask("POST", "/v1/delete", None, bytes(2 << 20))).kind is Kind.TOO_LARGE


def test_transfers_at_the_same_time_are_bounded(door: Door) -> None:
    pieces = [make_piece(f"p{i}", 4096) for i in range(4)]

    async def put(number: int, *, stall: bool) -> Answer:
        piece = pieces[number]
        order = door.order(piece, Action.PUT)
        path = f"/v1/pieces/{piece.id.hex()}"
        return await door.ask("PUT", path, order, piece.record, cut=2000, stall=stall)

    async def crowd() -> list[Answer]:
        # One piece fits the memory beside no other; one may wait; one is too many.
        first = asyncio.create_task(put(0, stall=True))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(put(1, stall=False))
        await asyncio.sleep(0.01)
        third = asyncio.create_task(put(2, stall=False))
        answers = await asyncio.gather(first, second, third)
        return [*answers, await put(3, stall=False)]

    answers = door.run(crowd())
    assert [a.kind for a in answers[:3]] == [Kind.TIMEOUT, Kind.OVERLOADED, Kind.OVERLOADED]
    assert answers[3].status == 201


def test_a_turn_comes_when_another_transfer_ends(door: Door) -> None:
    pieces = [make_piece(f"p{i}", 4096) for i in range(2)]

    async def both() -> list[Answer]:
        return await asyncio.gather(
            *(
                door.ask(
                    "PUT", f"/v1/pieces/{p.id.hex()}", door.order(p, Action.PUT), p.record, cut=900
                )
                for p in pieces
            )
        )

    assert [answer.status for answer in door.run(both())] == [201, 201]


def test_a_piece_found_damaged_on_the_way_out_is_reported_lost(door: Door) -> None:
    piece = make_piece("a", 4096)
    door.put(piece, door.order(piece, Action.PUT))
    log = door.machine.platter.files["logs/00000001.log"]
    log.content.resize(1000)
    assert door.get(piece, door.order(piece, Action.GET)).kind is Kind.DATA_LOST
    assert door.machine.store.lost(10) == [piece.id]
    assert door.run(door.ask("GET", "/v1/health")).body.count(b'"lost_pieces":1') == 1


def test_health_and_metrics_tell_the_figures(door: Door) -> None:
    piece = make_piece("a", 4096)
    door.put(piece, door.order(piece, Action.PUT))
    health = msgspec.json.decode(door.run(door.ask("GET", "/v1/health")).body)
    assert health["state"] == "ok"
    assert health["pieces"] == 1
    assert health["used_bytes"] == len(piece.record)
    assert health["node_id"] == NODE.node_id.hex()
    metrics = door.run(door.ask("GET", "/v1/metrics")).body.decode()
    assert f"atoll_node_used_bytes {len(piece.record)}\n" in metrics
    assert "atoll_node_puts_total 1\n" in metrics


def test_a_repair_order_admits_only_what_its_segment_root_commits_to(door: Door) -> None:
    """Whoever carries it out, and whatever it was told: a wrong piece is refused at its target."""
    piece = make_piece("a", 5000)
    order = door.order(piece, Action.REPAIR_PUT)
    others = [piece_root(piece.data)] * piece.header.n
    for wrong in (forged(piece), signed_again(piece, others)):
        assert wrong.header.segment_id == piece.header.segment_id
        answer = door.put(wrong, order)
        assert answer.kind is Kind.CORRUPT
    assert door.machine.store.counters().pieces == 0
    assert door.put(piece, order).status == 201
