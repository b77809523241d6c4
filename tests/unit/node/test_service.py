"""A node among its coordinators: it registers, reports, keeps their keys, and stops in order."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.node.machine import TINY, admission_of, limit_of, make_piece, put

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, check_request, signature_holds
from atoll.core.messages import (
    Heartbeat,
    HeartbeatAnswer,
    Message,
    NodeFacts,
    Register,
    Registered,
    decode,
    encode,
)
from atoll.core.orders import Action, sign_orders
from atoll.core.ports import Address, PiecePart
from atoll.node.config import NodeConfig
from atoll.node.http import Receive, Scope, Send, read_body, send_whole
from atoll.node.service import MEMORY_FILE, NodeService
from atoll.sim.clock import WORLD_BEGINS_MS, SimClock
from atoll.sim.compute import SimCompute
from atoll.sim.disk import Platter, SimDisk
from atoll.sim.incarnation import Incarnation
from atoll.sim.loop import SimLoop
from atoll.sim.network import Network
from atoll.sim.rng import SimRng
from atoll.sim.trace import Trace
from atoll.sim.transport import SimPieceTransport

NODE = Identity(b"node".ljust(32, b"."))
NODE_ADDRESS = Address("127.0.1.1", 7001)


@dataclass
class Peer:
    """A coordinator as a node sees it: two paths, and a memory of who called."""

    identity: Identity
    address: Address
    loop: SimLoop
    known: bool = False
    registered: list[NodeFacts] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, 1 << 20, 10)
        headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
        now_ms = WORLD_BEGINS_MS + int(self.loop.time() * 1000)
        path = scope["path"]
        key = check_request(headers[RequestProof.HEADER], "POST", path, body, now_ms)
        assert key == NODE.public_key
        answer: Message
        if path == "/v1/node/register":
            register: Register = decode(body, Register)
            signed = register.signed_facts
            assert signature_holds(key, b"node-facts/1", signed.facts, signed.signature)
            self.registered.append(decode(signed.facts, NodeFacts))
            self.known = True
            answer = Registered(
                alias=5,
                coordinator_key=self.identity.public_key,
                heartbeat_interval_ms=2000,
                time_ms=now_ms,
                link_key=self.identity.sign(b"link", b"")[:32],
            )
        elif self.known:
            self.heartbeats.append(decode(body, Heartbeat))
            answer = HeartbeatAnswer(known=True, time_ms=now_ms, heartbeat_interval_ms=2000)
        else:
            answer = HeartbeatAnswer(known=False, time_ms=now_ms, heartbeat_interval_ms=2000)
        await send_whole(send, 200, b"application/msgpack", encode(answer))


class Town:
    """Coordinators and one node on a simulated network."""

    def __init__(self) -> None:
        self.loop = SimLoop("town")
        self.trace = Trace(self.loop.time)
        self.network = Network(self.loop, "network", self.trace)
        self.platter = Platter("node", 8 << 20)
        self.lives: list[Incarnation] = []
        self.peers = [self.open_peer(f"c{i}", 9001 + i) for i in range(2)]
        self.service: NodeService = None  # type: ignore[assignment]
        self.start_node()

    def live(self, name: str) -> Incarnation:
        self.lives.append(Incarnation(name, len(self.lives) + 1, self.loop, self.trace))
        return self.lives[-1]

    def open_peer(self, name: str, port: int) -> Peer:
        peer = Peer(Identity(name.encode().ljust(32)), Address("127.0.0.1", port), self.loop)
        self.network.listen("127.0.0.1", port, self.live(name), peer.app)
        return peer

    def start_node(self) -> None:
        life = self.node_life = self.live("node")
        config = NodeConfig(
            operator="o", site="s", region="r", country="DE", tier="home",
            host=NODE_ADDRESS.host, port=NODE_ADDRESS.port,
            coordinators=tuple(peer.address for peer in self.peers), store=TINY,
        )  # fmt: skip
        self.clock = SimClock(life)
        self.service = NodeService(
            self.clock,
            SimRng(life, "rng"),
            SimDisk(life, self.platter, "disk"),
            SimCompute(life, "compute"),
            SimPieceTransport(life, self.network),
            NODE,
            config,
        )
        self.run(self.service.start())
        self.network.listen(NODE_ADDRESS.host, NODE_ADDRESS.port, life, self.service.app)

    def run(self, work: Any, life: Incarnation | None = None) -> Any:
        async def coroutine() -> Any:
            return await work

        async def main() -> Any:
            return await (life or self.node_life).start(coroutine())

        asyncio.set_event_loop(None)
        return self.loop.run_until_complete(main())

    def pass_time(self, seconds: float) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(wait())

    def client(self) -> tuple[Incarnation, SimPieceTransport]:
        life = self.live("client")
        return life, SimPieceTransport(life, self.network)

    def end(self) -> None:
        for life in self.lives:
            life.crash()
            life.bury()
        self.loop.close()


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    yield town
    town.end()


def test_a_node_registers_everywhere_and_keeps_reporting(town: Town) -> None:
    town.pass_time(10)
    for peer in town.peers:
        assert len(peer.registered) == 1
        assert peer.registered[0].capacity_bytes == TINY.capacity_bytes
        assert 3 <= len(peer.heartbeats) <= 6
        assert peer.heartbeats[-1].incarnation == 1
    # A coordinator that forgot the node gets its facts again.
    town.peers[0].known = False
    town.pass_time(5)
    assert len(town.peers[0].registered) == 2
    count = len(town.peers[0].heartbeats)
    town.service.heartbeat_now()
    town.pass_time(0.5)
    assert len(town.peers[0].heartbeats) == count + 1


def test_pieces_come_and_go_over_the_network_even_while_coordinators_are_away(town: Town) -> None:
    town.pass_time(3)
    piece = make_piece("a", 50_000)
    coordinator = town.peers[0].identity
    now_ms = town.clock.now_ms()
    put_order, get_order = (
        sign_orders(coordinator, [limit_of(NODE.node_id, piece, action, action.name, now_ms)])[0]
        for action in (Action.PUT, Action.GET)
    )
    client, transport = town.client()

    async def body() -> Any:
        yield piece.record

    town.run(
        transport.put_piece(NODE_ADDRESS, piece.id, put_order, body(), len(piece.record), 5),
        client,
    )
    # Node and coordinators lose power; only the node comes back: it still knows whom to obey.
    for life in town.lives:
        if life.name != "client":
            life.crash()
    town.start_node()
    data = town.run(
        transport.get_piece(NODE_ADDRESS, piece.id, get_order, PiecePart.DATA, 0, 50_000, 5), client
    )
    assert data == piece.data
    assert town.service.incarnation == 2
    assert not any(link.registered for link in town.service.links)


def test_lost_pieces_are_told_to_every_coordinator_once(town: Town) -> None:
    town.pass_time(3)
    store = town.service.store
    piece = make_piece("a", 5000)
    town.run(put(store, piece, admission_of(piece, "a", town.clock.now_ms())))
    row = store.volume.index.get(piece.id)
    assert row is not None
    town.run(store.damaged(piece.id, row))
    town.pass_time(10)
    for peer in town.peers:
        told = [lost for heartbeat in peer.heartbeats for lost in heartbeat.lost_pieces]
        assert told == [piece.id]
    assert store.lost(10) == []


def test_another_key_under_the_same_address_is_not_obeyed(town: Town) -> None:
    town.pass_time(3)
    attacker = town.peers[0]
    attacker.identity = Identity(b"attacker".ljust(32))
    attacker.known = False
    town.pass_time(10)
    assert not town.service.links[0].registered
    assert town.service.links[1].registered
    piece = make_piece("a", 5000)
    limit = limit_of(NODE.node_id, piece, Action.GET, "x", town.clock.now_ms())
    order = sign_orders(attacker.identity, [limit])[0]
    client, transport = town.client()
    with pytest.raises(AtollError) as refused:
        town.run(
            transport.get_piece(NODE_ADDRESS, piece.id, order, PiecePart.HEAD, 0, 0, 5), client
        )
    assert refused.value.kind is Kind.UNAUTHENTICATED


def test_a_stopped_node_refuses_and_has_lost_nothing(town: Town) -> None:
    town.pass_time(3)
    town.run(town.service.stop())
    client, transport = town.client()
    reply = town.run(transport.call(NODE_ADDRESS, "GET", "/v1/health", {}, b"", 5), client)
    assert reply.status == 503
    town.node_life.crash()
    town.start_node()
    reply = town.run(transport.call(NODE_ADDRESS, "GET", "/v1/health", {}, b"", 5), client)
    assert reply.status == 200
    assert b'"state":"ok"' in reply.body


def test_an_unreadable_memory_is_said_clearly(town: Town) -> None:
    town.node_life.crash()
    town.platter.files[MEMORY_FILE].content.write(0, b"\xc1")
    with pytest.raises(AtollError) as refused:
        town.start_node()
    assert refused.value.kind is Kind.WRONG_FOLDER
    assert MEMORY_FILE in refused.value.hint
