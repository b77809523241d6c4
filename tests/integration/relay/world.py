"""A small internet in network namespaces: run by ``test_relays.py`` as ``unshare -rn``.

Some nodes stand in namespaces of their own, behind a link that they can call out of and at which
nobody can call them, as behind a NAT: they listen at an address that only they can route to. A
coordinator, a gateway, two relays and nodes with addresses of their own are outside.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atoll.cli.status import ask_page
from atoll.client import Client, Options

WAIT_S_MAX = 60.0
PORT = 9003
COORDINATOR, GATEWAY_PORT, PAGE_PORT = "10.88.0.1", 9000, 9002
RELAYS = ("10.88.1.1", "10.88.2.1")
DIRECT = 3
HIDDEN = 2


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class World:
    """Starts everything, and stops what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        ip("link", "set", "lo", "up")
        for host in (COORDINATOR, *RELAYS, *(f"10.99.{n}.1" for n in range(1, DIRECT + 1))):
            ip("addr", "add", f"{host}/32", "dev", "lo")

    def start(self, name: str, *words: object, **environment: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                [str(word) for word in words],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        self.running.append(child)
        return child

    def atoll(self, name: str, *words: object, **environment: str) -> "subprocess.Popen[bytes]":
        return self.start(name, sys.executable, "-m", "atoll", *words, **environment)

    def ask(self, *words: object) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "atoll", *map(str, words), "--json"],
            capture_output=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_S_MAX
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not so after {WAIT_S_MAX:.0f} s")
            time.sleep(0.2)
        return found

    def stop(self) -> None:
        for child in reversed(self.running):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.running:
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()

    # --- the parts ---

    def relay(self, number: int) -> "subprocess.Popen[bytes]":
        return self.atoll(
            f"relay{number}", "relay", "run", "--data", self.folder / f"relay{number}",
            "--host", RELAYS[number - 1], "--operator", f"carrier-{number}",
        )  # fmt: skip

    def relay_facts(self, number: int) -> Any:
        folder = self.folder / f"relay{number}"

        def shown() -> Any:
            written = (folder / "relay.json").exists()
            return self.ask("relay", "show", "--data", folder) if written else None

        return self.wait(f"relay {number}", shown)

    def node(self, number: int, url: str, relays: str = "", mode: str = "direct") -> None:
        environment = {
            "ATOLL_NODE_COORDINATOR": url,
            "ATOLL_NODE_OPERATOR": f"provider-{number}",
            "ATOLL_NODE_SITE": f"attic-{number}",
            "ATOLL_NODE_REGION": "eu-central",
            "ATOLL_NODE_COUNTRY": "DE",
            "ATOLL_NODE_CAPACITY_BYTES": str(1 << 30),
            "ATOLL_NODE_LOG_BYTES": str(64 << 20),
            "ATOLL_NODE_PORT": str(PORT),
            "ATOLL_NODE_REACH": mode,
            "ATOLL_NODE_RELAYS": relays,
        }
        words = [sys.executable, "-m", "atoll", "node", "run"]
        words += ["--data", str(self.folder / f"node{number}")]
        if not relays:
            host = f"10.99.{number}.1"
            self.start(f"node{number}", *words, ATOLL_NODE_HOST=host, **environment)
            return
        inside = self.hidden_place(number)
        self.start(
            f"node{number}", "nsenter", "-t", inside, "-n", *words,
            ATOLL_NODE_HOST=f"192.168.{number}.2", **environment,
        )  # fmt: skip

    def hidden_place(self, number: int) -> int:
        """Make a namespace that can call out, and at which nobody can call."""
        keeper = self.start(f"place{number}", "unshare", "-n", "sleep", "3600")
        self.wait("the namespace", lambda: _namespace(keeper.pid) != _namespace(os.getpid()))
        inside = ["nsenter", "-t", str(keeper.pid), "-n", "ip"]
        outer, inner = f"out{number}", f"in{number}"
        ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        ip("link", "set", inner, "netns", str(keeper.pid))
        ip("addr", "add", f"10.77.{number}.1/24", "dev", outer)
        ip("link", "set", outer, "up")
        for words in (
            ["link", "set", "lo", "up"],
            ["addr", "add", f"192.168.{number}.2/32", "dev", "lo"],
            ["addr", "add", f"10.77.{number}.2/24", "dev", inner],
            ["link", "set", inner, "up"],
            ["route", "add", "default", "via", f"10.77.{number}.1"],
        ):
            subprocess.run([*inside, *words], check=True)
        return keeper.pid


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def alive() -> list[Any]:
    try:
        nodes = ask_page(f"http://127.0.0.1:{PAGE_PORT}/").nodes
    except Exception:  # noqa: BLE001 - not up yet: another look follows
        return []
    return [node for node in nodes if node.state == "alive"]


def main(folder: Path) -> dict[str, Any]:
    world = World(folder)
    try:
        return scenes(world)
    finally:
        world.stop()


def scenes(world: World) -> dict[str, Any]:
    found: dict[str, Any] = {}
    home = world.folder / "home"
    relays = [world.relay(number) for number in (1, 2)]
    facts = [world.relay_facts(number) for number in (1, 2)]
    named = ",".join(f"{f['host']}:{f['port']}#{f['fingerprint']}" for f in facts)
    place = ("--data", home, "--host", COORDINATOR, "--port", 9001, "--page-port", PAGE_PORT)
    world.atoll("coordinator", "coordinator", "run", *place, "--profile", "local")
    url = world.wait(
        "the coordinator", lambda: world.ask("coordinator", "show", "--data", home).get("url")
    )
    world.wait("the coordinator's port", lambda: answers(COORDINATOR, 9001))
    for number in range(1, DIRECT + 1):
        world.node(number, url)
    for number in range(DIRECT + 1, DIRECT + HIDDEN + 1):
        world.node(number, url, named, "auto")
    world.atoll("gateway", "gateway", "run", "--data", home, "--port", GATEWAY_PORT, "--workers", 1)
    world.wait("all nodes", lambda: len(alive()) == DIRECT + HIDDEN)
    world.wait("tunnels", lambda: len(behind()) == HIDDEN)
    found["behind"] = sorted(behind())

    access = json.loads((home / "secrets" / "access.json").read_text())
    options = Options(attempts=20, backoff_s=0.2, backoff_s_max=1.0)
    with Client(f"http://127.0.0.1:{GATEWAY_PORT}", **access, options=options) as client:
        client.make_bucket("attic")
        bodies = {f"photo{n}": os.urandom(300_000 * n) for n in range(1, 9)}
        for key, body in bodies.items():
            client.put_bytes("attic", key, body)
        found["pieces"] = sorted(node.pieces for node in hidden())
        world.wait("pieces behind relays", lambda: any(node.pieces for node in hidden()))
        # Two of the three nodes with an address go: half of each object now comes by a relay.
        for name in ("node1", "node2"):
            stop_of(world, name)
        found["read"] = sum(client.get_bytes("attic", key) == body for key, body in bodies.items())
        before = {address for _, address in behind()}
        # A relay goes as well: the other carries on.
        relays[0].kill()
        world.wait(
            "the other relay",
            lambda: (
                len(behind()) == HIDDEN
                and {host_of(address) for _, address in behind()} == {RELAYS[1]}
            ),
        )
        found["moved"] = len(before)
        found["read again"] = sum(
            client.get_bytes("attic", key) == body for key, body in bodies.items()
        )
    time.sleep(6)  # figures are written every five seconds
    carried = world.ask("relay", "show", "--data", world.folder / "relay2")
    found["carried"] = sum(node["from_node_bytes"] for node in carried["nodes"])
    return found


def host_of(address: str) -> str:
    return address.partition("://")[2].rpartition(":")[0]


def behind() -> list[tuple[int, str]]:
    return [(n.alias, n.address) for n in alive() if host_of(n.address) in RELAYS]


def hidden() -> list[Any]:
    return [node for node in alive() if host_of(node.address) in RELAYS]


def stop_of(world: World, name: str) -> None:
    number = int(name.removeprefix("node"))
    for child in world.running:
        command = Path(f"/proc/{child.pid}/cmdline").read_bytes() if child.poll() is None else b""
        if command.endswith(f"node{number}\0".encode()):
            child.kill()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
