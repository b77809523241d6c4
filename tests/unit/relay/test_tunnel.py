"""Relay and tunnels: every byte, both ways, within bounds, by proof of key."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from atoll.client.tunnel import Tunnel, TunnelStream, join_streams
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ports import Address, ByteStream, Listening
from atoll.core.relay import (
    CHALLENGE_BYTES,
    HELLO_BYTES,
    STREAMS_MAX,
    WELCOME_BYTES,
    WINDOW_BYTES,
    FrameType,
    encode_hello,
    frame_head,
    parse_challenge,
    parse_welcome,
)
from atoll.node.tunnel import NodeTunnels
from atoll.relay.config import RelayConfig
from atoll.relay.service import RelayService
from atoll.runtime.certificate import keep_certificate
from atoll.runtime.clock import SystemClock
from atoll.runtime.rng import SystemRng
from atoll.runtime.sockets import RealSockets

PROVIDER, RELAY = Identity(b"p" * 32), Identity(b"r" * 32)
NEIGHBOUR = Identity(b"n" * 32)
HOST = "127.0.0.1"
WAIT_S_MAX = 10.0


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


async def until(condition: Callable[[], bool]) -> None:
    """Let others work until something holds."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not condition():  # noqa: ASYNC110 - what is waited for is not ours to tell
            await asyncio.sleep(0.005)


class Pipe:
    """Two ends in memory; a ``ByteStream`` each."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.other: Pipe = self
        self.closed = False
        self.sent_bytes = 0

    @classmethod
    def pair(cls) -> "tuple[Pipe, Pipe]":
        one, other = cls(), cls()
        one.other, other.other = other, one
        return one, other

    async def read(self) -> bytes:
        return await self._queue.get()

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise AtollError(Kind.UNREACHABLE, "write", "closed")
        self.sent_bytes += len(data)
        self.other._queue.put_nowait(data)
        await asyncio.sleep(0)

    async def end(self) -> None:
        self.other._queue.put_nowait(b"")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._queue.put_nowait(b"")
            self.other._queue.put_nowait(b"")


async def tunnels(
    serve: Callable[[TunnelStream], Awaitable[None]],
) -> tuple[Tunnel, list["asyncio.Task[None]"], tuple[Pipe, Pipe]]:
    here, there = Pipe.pair()
    clock = SystemClock()
    opening, accepting = Tunnel(here, clock), Tunnel(there, clock, serve)
    tasks = [asyncio.create_task(opening.run()), asyncio.create_task(accepting.run())]
    return opening, tasks, (here, there)


async def done(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def echo(stream: ByteStream) -> None:
    while data := await stream.read():
        await stream.write(data)
    await stream.end()


@pytest.mark.parametrize("seed", range(4))
def test_many_streams_at_once_keep_their_bytes_apart(seed: int) -> None:
    async def main() -> None:
        tunnel, tasks, _ = await tunnels(echo)
        chance = random.Random(seed)

        async def one(number: int) -> None:
            body = random.Random(number).randbytes(chance.randrange(1, 900_000))
            stream = await tunnel.open()

            async def send() -> None:
                at = 0
                while at < len(body):
                    size = chance.randrange(1, 200_000)
                    await stream.write(body[at : at + size])
                    at += size
                await stream.end()

            sending = asyncio.create_task(send())
            got = bytearray()
            while data := await stream.read():
                got += data
            await sending
            assert bytes(got) == body

        await asyncio.gather(*(one(number) for number in range(20)))
        await until(lambda: tunnel.streams == 0)
        await done(tasks)

    run(main())


def test_a_slow_reader_stops_its_own_sender_only() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def serve(stream: TunnelStream) -> None:
            if stream.number == 1:
                await gate.wait()
            await echo(stream)

        tunnel, tasks, (here, _) = await tunnels(serve)
        slow, quick = await tunnel.open(), await tunnel.open()
        sending = asyncio.create_task(slow.write(bytes(4 * WINDOW_BYTES)))
        await quick.write(b"quick")
        assert await quick.read() == b"quick"
        assert not sending.done()
        assert here.sent_bytes < WINDOW_BYTES + 1000
        gate.set()
        got = 0
        while got < 4 * WINDOW_BYTES:
            got += len(await slow.read())
        await sending
        await done(tasks)

    run(main())


@pytest.mark.parametrize(
    "frames",
    [
        frame_head(FrameType.OPEN, 1, 0)
        + 5 * (frame_head(FrameType.DATA, 1, 65536) + bytes(65536)),
        frame_head(FrameType.OPEN, 1, 0) + frame_head(FrameType.CREDIT, 1, 4) + b"\xff" * 4,
        frame_head(FrameType.OPEN, 2, 0) + frame_head(FrameType.OPEN, 1, 0),
        b"\x09" * 8,
        frame_head(FrameType.PING, 1, 3) + b"abc",
        frame_head(FrameType.PING, 0, 0) * 5000,
    ],
    ids=["no credit", "too much credit", "old number", "no frame", "payload", "flood"],
)
def test_who_breaks_the_rules_loses_the_tunnel(frames: bytes) -> None:
    async def main() -> None:
        here, there = Pipe.pair()

        async def never(_: TunnelStream) -> None:
            await asyncio.Event().wait()

        accepting = asyncio.create_task(Tunnel(there, SystemClock(), never).run())
        await here.write(frames)
        with pytest.raises(AtollError) as broken:
            await accepting
        assert broken.value.kind is Kind.BAD_REQUEST
        assert there.closed

    run(main())


def test_streams_are_bounded() -> None:
    async def main() -> None:
        tunnel, tasks, _ = await tunnels(echo)
        for _ in range(STREAMS_MAX):
            await tunnel.open()
        with pytest.raises(AtollError) as refused:
            await tunnel.open()
        assert refused.value.kind is Kind.OVERLOADED
        await done(tasks)

    run(main())


def test_a_cut_tunnel_cuts_its_streams() -> None:
    async def main() -> None:
        tunnel, tasks, (here, _) = await tunnels(echo)
        stream = await tunnel.open()
        here.close()
        with pytest.raises(AtollError):
            await stream.read()
        with pytest.raises(AtollError):
            await stream.write(bytes(WINDOW_BYTES * 2))
        await done(tasks)

    run(main())


def test_joined_streams_end_together() -> None:
    async def main() -> None:
        outer, inner = Pipe.pair()
        tunnel, tasks, _ = await tunnels(echo)
        stream = await tunnel.open()
        counted = [0, 0]

        async def passed(forth: int, back: int) -> None:
            counted[0] += forth
            counted[1] += back

        joining = asyncio.create_task(join_streams(inner, stream, passed))
        await outer.write(b"hello")
        assert await outer.read() == b"hello"
        await outer.end()
        assert await outer.read() == b""
        await joining
        assert counted == [5, 5]
        await done(tasks)

    run(main())


# --- with a relay --------------------------------------------------------------------------------


class Scene:
    """A relay, a node behind it, and the node's own server."""

    def __init__(self, operators: tuple[str, ...] = ("reef",), bytes_per_s: int = 0) -> None:
        self.sockets = RealSockets()
        self.clock = SystemClock()
        self.relays = [
            RelayService(
                self.clock,
                SystemRng(),
                self.sockets,
                Identity(bytes((number,)) * 32),
                RelayConfig(operator, port=0, port_first=0, bytes_per_s=bytes_per_s),
            )
            for number, operator in enumerate(operators, 1)
        ]
        self.changes = 0

    async def __aenter__(self) -> "Scene":
        async def serve(stream: ByteStream, _: str) -> None:
            await echo(stream)

        self.own = await self.sockets.listen(HOST, 0, serve, tls=False)
        for relay in self.relays:
            await relay.start()

        def changed() -> None:
            self.changes += 1

        self.tunnels = NodeTunnels(
            self.clock,
            SystemRng(),
            self.sockets,
            PROVIDER,
            tuple(Address(HOST, relay.port) for relay in self.relays),
            Address(HOST, self.own.port),
            changed,
        )
        self.tunnels.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.tunnels.stop()
        for relay in self.relays:
            await relay.stop()
        await self.own.close()

    async def call(self, port: int, body: bytes) -> bytes:
        caller = await self.sockets.connect(Address(HOST, port), WAIT_S_MAX)

        async def send() -> None:
            await caller.write(body)
            await caller.end()

        sending = asyncio.create_task(send())
        got = bytearray()
        while data := await caller.read():
            got += data
        await sending
        caller.close()
        return bytes(got)


def test_what_comes_to_the_relay_reaches_the_node_and_is_metered() -> None:
    async def main() -> None:
        async with Scene() as scene:
            await until(lambda: len(scene.tunnels.places) == 1)
            (place,) = scene.tunnels.places
            assert place.operator == "reef"
            bodies = [random.Random(n).randbytes(50_000 * n + 1) for n in range(12)]
            answers = await asyncio.gather(*(scene.call(place.port, body) for body in bodies))
            assert list(answers) == bodies
            (meter,) = scene.relays[0].meters
            total = sum(map(len, bodies))
            assert (meter.to_node_bytes, meter.from_node_bytes) == (total, total)
            assert meter.connections == len(bodies)
            assert meter.node_id == PROVIDER.node_id

    run(main())


def test_two_relays_of_one_operator_count_as_one() -> None:
    async def main() -> None:
        async with Scene(("reef", "reef", "lagoon")) as scene:
            await until(lambda: len(scene.tunnels.places) == 2)
            assert {place.operator for place in scene.tunnels.places} == {"reef", "lagoon"}

    run(main())


def test_when_a_relay_goes_the_other_carries_on_and_the_change_is_told() -> None:
    async def main() -> None:
        async with Scene(("reef", "lagoon")) as scene:
            await until(lambda: len(scene.tunnels.places) == 2)
            before = scene.changes
            first = scene.tunnels.places[0]
            gone = next(r for r in scene.relays if r.config.operator == first.operator)
            await gone.stop()
            for guest in gone._guests.values():
                assert guest.tunnel is not None
                guest.tunnel._link.close()
            await until(lambda: len(scene.tunnels.places) == 1)
            assert scene.changes > before
            (place,) = scene.tunnels.places
            assert await scene.call(place.port, b"still here") == b"still here"

    run(main())


def test_a_node_whose_relays_are_all_away_does_not_pass_for_one_that_can_be_called() -> None:
    async def main() -> None:
        async with Scene(("reef",)) as scene:
            await until(lambda: len(scene.tunnels.places) == 1)
            before, changes = scene.tunnels.places, scene.changes
            await scene.relays[0].stop()
            for guest in scene.relays[0]._guests.values():
                assert guest.tunnel is not None
                guest.tunnel._link.close()
            await until(lambda: scene.changes > changes)
            assert scene.tunnels.places == before
            await scene.tunnels.stop()
            assert scene.tunnels.places == []

    run(main())


def test_a_key_that_is_not_proved_gets_no_port() -> None:
    async def main() -> None:
        async with Scene() as scene:
            await until(lambda: len(scene.tunnels.places) == 1)
            link = await scene.sockets.connect(Address(HOST, scene.relays[0].port), WAIT_S_MAX)
            challenge = parse_challenge((await link.read())[:CHALLENGE_BYTES])
            hello = bytearray(encode_hello(PROVIDER, challenge, bytes(32)))
            hello[50] ^= 1  # another key
            await link.write(bytes(hello))
            assert await link.read() == b""
            assert scene.relays[0].tunnels == 1
            assert len(hello) == HELLO_BYTES

    run(main())


class GatedSockets(RealSockets):
    """Opens ports for nodes only when it is let, and may refuse some."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.asked = 0
        self.refusals = 0

    async def listen(self, host: str, port: int, serve: Any, *, tls: bool) -> Listening:
        self.asked += 1
        if self.asked > 1:
            await self.let.wait()
            if self.refusals:
                self.refusals -= 1
                raise AtollError(Kind.PORT_TAKEN, "listen", "another holds the port")
        return await super().listen(host, port, serve, tls=tls)


class Reef:
    """A relay whose ports are opened through ``GatedSockets``."""

    def __init__(self, nodes_max: int = 4, port_first: int = 0) -> None:
        self.sockets = GatedSockets()
        config = RelayConfig("reef", port=0, port_first=port_first, nodes_max=nodes_max)
        self.relay = RelayService(SystemClock(), SystemRng(), self.sockets, RELAY, config)

    async def __aenter__(self) -> "Reef":
        await self.relay.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.relay.stop()

    async def greet(self, node: Identity) -> tuple[ByteStream, int]:
        """Prove a key; return the link and the port given, 0 where the relay turned it away."""
        link = await self.sockets.connect(Address(HOST, self.relay.port), WAIT_S_MAX)
        challenge = parse_challenge(await exactly(link, CHALLENGE_BYTES))
        await link.write(encode_hello(node, challenge, bytes(32)))
        answer = await exactly(link, WELCOME_BYTES)
        if not answer:
            return link, 0
        return link, parse_welcome(answer, RELAY.public_key, node.public_key, bytes(32)).port


async def exactly(link: ByteStream, length: int) -> bytes:
    got = b""
    while len(got) < length:
        part = await link.read()
        if not part:
            return b""
        got += part
    return got


def test_a_node_that_greets_again_while_its_port_is_opened_gets_that_one() -> None:
    async def main() -> None:
        async with Reef() as reef:
            # Both have proved the key; that takes a moment which nothing outside can tell.
            async def greeted() -> int:
                return (await reef.relay._guest(PROVIDER.node_id)).listening.port

            tasks = [asyncio.create_task(greeted()) for _ in range(3)]
            await until(lambda: reef.sockets.asked == 2)
            reef.sockets.let.set()
            ports = await asyncio.gather(*tasks)
            link, port = await reef.greet(PROVIDER)
            assert set(ports) == {port}
            assert reef.sockets.asked == 2
            link.close()

    run(main())


def test_a_node_for_which_no_port_was_free_may_come_again() -> None:
    async def main() -> None:
        async with Reef() as reef:
            reef.sockets.refusals = 1
            reef.sockets.let.set()
            assert (await reef.greet(PROVIDER))[1] == 0
            assert reef.relay.meters == []
            link, port = await reef.greet(PROVIDER)
            assert port
            await until(lambda: reef.relay.tunnels == 1)
            link.close()

    run(main())


def test_the_port_of_a_node_that_left_is_given_to_the_next() -> None:
    async def main() -> None:
        own = await RealSockets().listen(HOST, 0, lambda *_: echo(_[0]), tls=False)
        free = own.port
        await own.close()
        async with Reef(nodes_max=1, port_first=free) as reef:
            reef.sockets.let.set()
            link, port = await reef.greet(PROVIDER)
            assert port == free
            assert (await reef.greet(NEIGHBOUR))[1] == 0
            link.close()
            await until(lambda: reef.relay.tunnels == 0)
            link, port = await reef.greet(NEIGHBOUR)
            assert port == free
            assert [meter.node_id for meter in reef.relay.meters] == [NEIGHBOUR.node_id]
            link.close()

    run(main())


def test_the_pace_of_a_node_is_bounded() -> None:
    async def main() -> None:
        async with Scene(bytes_per_s=1_000_000) as scene:
            await until(lambda: len(scene.tunnels.places) == 1)
            began = scene.clock.monotonic()
            body = bytes(2_000_000)
            assert await scene.call(scene.tunnels.places[0].port, body) == body
            assert scene.clock.monotonic() - began > 0.8

    run(main())


# --- what a bad relay can do ---------------------------------------------------------------------


class LyingRelay(RelayService):
    """A relay that changes a byte of what it carries, or answers in the node's stead."""

    async def _carry(self, guest: Any, caller: ByteStream) -> None:
        tunnel = guest.tunnel
        assert tunnel is not None
        stream = await tunnel.open()
        read = stream.read
        seen = 0

        async def lying() -> bytes:
            nonlocal seen
            data = bytearray(await read())
            seen += len(data)
            if data and seen > 2000:
                data[-1] ^= 1
            return bytes(data)

        stream.read = lying

        async def passed(_: int, __: int) -> None:
            return

        await join_streams(caller, stream, passed)


def test_a_lying_relay_costs_time_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SystemClock()
        tls = keep_certificate(tmp_path, (HOST,), clock.now_ms())
        sockets = RealSockets(tls)

        async def serve(stream: ByteStream, _: str) -> None:
            await stream.write(bytes(100_000))
            await stream.read()

        own = await sockets.listen(HOST, 0, serve, tls=True)
        honest, liar = (
            kind(
                clock,
                SystemRng(),
                sockets,
                Identity(seed * 32),
                RelayConfig(name, port=0, port_first=0),
            )
            for kind, seed, name in ((RelayService, b"1", "reef"), (LyingRelay, b"2", "lagoon"))
        )
        for relay in (honest, liar):
            await relay.start()
        tunnels = NodeTunnels(
            clock,
            SystemRng(),
            sockets,
            PROVIDER,
            (Address(HOST, honest.port), Address(HOST, liar.port)),
            Address(HOST, own.port),
            lambda: None,
        )
        tunnels.start()
        await until(lambda: len(tunnels.places) == 2)
        for place in tunnels.places:
            caller = await sockets.connect(Address(HOST, place.port, tls.fingerprint), WAIT_S_MAX)
            got = bytearray()
            broke = False
            while len(got) < 100_000 and not broke:
                try:
                    part = await caller.read()
                except AtollError:
                    part = b""
                broke = not part
                got += part
            assert not any(got), "not a byte was changed unseen"
            assert broke == (place.operator == "lagoon")
            caller.close()
        await tunnels.stop()
        for relay in (honest, liar):
            await relay.stop()
        await own.close()

    run(main())


def test_a_relay_cannot_answer_in_the_nodes_stead(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SystemClock()
        (tmp_path / "node").mkdir()
        (tmp_path / "relay").mkdir()
        nodes = keep_certificate(tmp_path / "node", (HOST,), clock.now_ms())
        relays = RealSockets(keep_certificate(tmp_path / "relay", (HOST,), clock.now_ms()))

        async def pretend(stream: ByteStream, _: str) -> None:
            await stream.write(b"I am the node")

        listening = await relays.listen(HOST, 0, pretend, tls=True)
        with pytest.raises(AtollError) as refused:
            await relays.connect(Address(HOST, listening.port, nodes.fingerprint), WAIT_S_MAX)
        assert refused.value.kind is Kind.UNAUTHENTICATED
        await listening.close()

    run(main())


def test_a_relay_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.client.tunnel.KEEPALIVE_S", 0.02)
    monkeypatch.setattr("atoll.client.tunnel.SILENCE_S_MAX", 0.1)

    async def main() -> None:
        here, there = Pipe.pair()
        tunnel = asyncio.create_task(Tunnel(here, SystemClock(), echo).run())
        with pytest.raises(AtollError) as broken:
            await tunnel
        assert broken.value.kind is Kind.UNREACHABLE
        assert there.closed or here.closed

    run(main())
