import asyncio

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Address
from atoll.sim.network import NetworkFaults
from atoll.sim.transport import SimPieceTransport

ADDRESS = Address("127.0.2.1", 7001)


class Counter:
    """Counts what it did; the caller counts what he heard of."""

    def __init__(self):
        self.done = 0

    async def __call__(self, scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        self.done += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


def place(lab, app=None):
    server, caller = lab.incarnation("node1"), lab.incarnation("gateway")
    app = app or Counter()
    lab.network.listen(ADDRESS.host, ADDRESS.port, server, app)
    return server, caller, app, SimPieceTransport(caller, lab.network)


def test_a_lossy_network_loses_questions_and_answers(lab):
    _, caller, app, transport = place(lab)
    lab.network.faults = NetworkFaults(loss=0.5)
    heard = 0
    kinds = set()

    async def ask():
        nonlocal heard
        for _ in range(100):
            try:
                await transport.call(ADDRESS, "POST", "/", {}, b"x" * 10, 1)
                heard += 1
            except AtollError as error:
                kinds.add(error.kind)

    async def main():
        await caller.start(ask())

    lab.run(main())
    assert 20 < heard < 80
    assert kinds <= {Kind.UNREACHABLE, Kind.TIMEOUT}
    assert heard < app.done < 100, "some answers were lost after the work was done"


def test_a_partition_is_silence_until_it_heals(lab):
    _, caller, app, transport = place(lab)

    async def ask():
        lab.network.cut("gateway", "node1")
        before = asyncio.get_running_loop().time()
        with pytest.raises(AtollError) as caught:
            await transport.call(ADDRESS, "GET", "/", {}, b"", 3)
        assert caught.value.kind is Kind.TIMEOUT
        assert asyncio.get_running_loop().time() - before == pytest.approx(3, abs=0.2)
        lab.network.heal()
        assert (await transport.call(ADDRESS, "GET", "/", {}, b"", 3)).body == b"ok"

    async def main():
        await caller.start(ask())

    lab.run(main())
    assert app.done == 1


def test_a_servers_death_ends_its_answers(lab):
    async def hang(scope, receive, send):
        await asyncio.Event().wait()

    server, caller, _, transport = place(lab, hang)
    kinds = []

    async def ask():
        try:
            await transport.call(ADDRESS, "GET", "/", {}, b"", 5)
        except AtollError as error:
            kinds.append(error.kind)
        try:
            await transport.call(ADDRESS, "GET", "/", {}, b"", 5)
        except AtollError as error:
            kinds.append(error.kind)

    async def main():
        task = caller.start(ask())
        await asyncio.sleep(1)
        server.crash()
        await task

    lab.run(main())
    assert kinds[0] in (Kind.UNREACHABLE, Kind.TIMEOUT)
    assert kinds[1] is Kind.UNREACHABLE


def test_a_callers_death_disconnects_the_server(lab):
    seen = []

    async def watch(scope, receive, send):
        seen.append((await receive())["type"])
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                seen.append("http.disconnect")
                return

    _, caller, _, transport = place(lab, watch)

    async def main():
        caller.start(transport.call(ADDRESS, "POST", "/", {}, b"x", 60))
        await asyncio.sleep(1)
        caller.crash()
        await asyncio.sleep(1)

    lab.run(main())
    assert seen == ["http.request", "http.disconnect"]


def test_a_liar_flips_bits_in_pieces(lab):
    _, caller, _, transport = place(lab)
    lab.network.let_lie("node1")
    bodies = []

    async def ask():
        calls = [transport.call(ADDRESS, "GET", "/", {}, b"", 5) for _ in range(20)]
        bodies.extend([(await call).body for call in calls])

    async def main():
        await caller.start(ask())

    lab.run(main())
    assert b"ok" in bodies
    assert len(set(bodies)) > 2
