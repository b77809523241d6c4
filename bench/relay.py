"""Bytes through a relay against bytes sent directly, in one run: ``python bench/relay.py``.

Three processes besides this one: the relay, the node's tunnel, the server it is joined to. Prints
megabytes a second both ways, their ratio, and what the relay's process spends.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import uvloop

from atoll.core.identity import Identity
from atoll.core.ports import Address, ByteStream
from atoll.node.tunnel import NodeTunnels
from atoll.runtime.clock import SystemClock
from atoll.runtime.rng import SystemRng
from atoll.runtime.sockets import RealSockets

HOST = "127.0.0.1"
BLOCK = bytes(256 << 10)
WAIT_S_MAX = 20.0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


async def server(port: int) -> None:
    """Send as many bytes as the first line asks for; take as many as the second says."""

    async def serve(stream: ByteStream, _: str) -> None:
        asked = int((await stream.read()).split()[0])
        while asked > 0:
            await stream.write(BLOCK[: min(asked, len(BLOCK))])
            asked -= len(BLOCK)
        await stream.end()

    await RealSockets().listen(HOST, port, serve, tls=False)
    await asyncio.Event().wait()


async def node(port: int, relay_port: int, out: str) -> None:
    """Keep a tunnel; write down where it leads."""

    def changed() -> None:
        places = [place.port for place in tunnels.places]
        Path(out).write_text(json.dumps(places))

    tunnels = NodeTunnels(
        SystemClock(),
        SystemRng(),
        RealSockets(),
        Identity(b"n" * 32),
        (Address(HOST, relay_port),),
        Address(HOST, port),
        changed,
    )
    tunnels.start()
    await asyncio.Event().wait()


async def fetch(port: int, total: int, streams: int) -> float:
    """Return the seconds it takes to read ``total`` bytes over some connections."""
    sockets = RealSockets()

    async def one(count: int) -> int:
        stream = await sockets.connect(Address(HOST, port), WAIT_S_MAX)
        await stream.write(b"%d\n" % count)
        got = 0
        while data := await stream.read():
            got += len(data)
        stream.close()
        return got

    began = time.perf_counter()
    got = await asyncio.gather(*(one(total // streams) for _ in range(streams)))
    took = time.perf_counter() - began
    assert sum(got) == total // streams * streams
    return took


def wait_for(path: Path) -> int:
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        if path.exists() and (found := json.loads(path.read_text() or "[]")):
            return int(found[0])
        time.sleep(0.05)
    raise SystemExit("no tunnel came up")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1 << 30)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--part", choices=("server", "node"))
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    if given.part == "server":
        uvloop.run(server(int(given.words[0])))
    elif given.part == "node":
        uvloop.run(node(int(given.words[0]), int(given.words[1]), given.words[2]))
    else:
        measure(given.bytes, given.streams)


def measure(total: int, streams: int) -> None:
    port, relay_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "place"
        me = [sys.executable, __file__, "--part"]
        atoll = [sys.executable, "-m", "atoll", "relay", "run", "--data", f"{folder}/relay"]
        relay = subprocess.Popen(
            [*atoll, "--port", str(relay_port), "--port-first", "0", "--operator", "bench"],
            stderr=subprocess.DEVNULL,
        )
        children = [
            relay,
            subprocess.Popen([*me, "server", str(port)]),
            subprocess.Popen([*me, "node", str(port), str(relay_port), str(out)]),
        ]
        try:
            place = wait_for(out)
            uvloop.run(fetch(port, total // 8, streams))
            uvloop.run(fetch(place, total // 8, streams))
            direct_s = uvloop.run(fetch(port, total, streams))
            before = psutil.Process(relay.pid).cpu_times()
            relayed_s = uvloop.run(fetch(place, total, streams))
            after = psutil.Process(relay.pid).cpu_times()
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(timeout=WAIT_S_MAX)
    used_s = after.user + after.system - before.user - before.system
    print(
        json.dumps(
            {
                "direct_mb_per_s": round(total / direct_s / 1e6),
                "relayed_mb_per_s": round(total / relayed_s / 1e6),
                "ratio": round(direct_s / relayed_s, 3),
                "relay_cpu_ms_per_gb": round(used_s * 1e12 / total),
                "relay_mb_per_cpu_s": round(total / used_s / 1e6),
                "load": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
