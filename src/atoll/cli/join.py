"""``atoll join``: a provider's first steps — key, disk test, offer, reachability, settings."""

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from atoll.cli.options import Size, data_option, json_option
from atoll.cli.output import emit, say, table
from atoll.cli.places import NODE_SEED
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import SEED_BYTES
from atoll.core.ids import show_node
from atoll.core.units import exact_bytes, show_bytes
from atoll.runtime.config import FILE_NAME, TIERS, NodeSettings, load_here, to_toml
from atoll.runtime.folder import default_folder, open_folder, write_file

if TYPE_CHECKING:
    from atoll.core.ports import Address
    from atoll.runtime.config import Config
    from atoll.runtime.folder import Folder

TEST_BYTES = 64 << 20
TEST_BLOCK_BYTES = 1 << 20
SYNCS = 20
SYNC_MS_WARN = 50.0
SHARE_OF_FREE_PERCENT = 80
"""Of the free disk, offered by default."""
PROBE_TIMEOUT_S = 10.0
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class DiskTest:
    """What the disk can do."""

    write_bytes_per_s: float
    sync_ms_median: float
    free_bytes: int


@click.command()
@click.argument("url")
@data_option("The node's data folder. Default: an XDG data folder.")
@click.option("--fingerprint", metavar="HEX", help="SHA-256 of the coordinator's certificate.")
@click.option("--host", help="Address to listen on; beyond loopback always with TLS.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on.")
@click.option("--advertise", metavar="HOST[:PORT]", help="Where others reach it.")
@click.option("--capacity", type=Size(), help="Room offered, as 500GB.")
@click.option("--operator", help="Who runs it.")
@click.option("--site", help="Where it stands, as one word.")
@click.option("--region", help="Region, as eu-central.")
@click.option("--country", help="Country, two letters.")
@click.option("--tier", type=click.Choice(TIERS), help="Kind of place.")
@click.option("--price", "price_micro", type=click.IntRange(0), help="Micro-euro per TB and month.")
@click.option("--run", "run_now", is_flag=True, help="Run the node at once.")
@json_option
def join(
    url: str,
    data: Path | None,
    fingerprint: str | None,
    capacity: int | None,
    run_now: bool,
    as_json: bool,
    **given: object,
) -> None:
    """Offer this machine's disk to the coordinator at URL (https://HOST:PORT#FINGERPRINT).

    Makes the node's key, tests the disk, asks what is not given (on a terminal), checks that the
    coordinator answers and that the node can be reached, and writes the settings down.
    """
    from atoll.cli import wire
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.rng import SystemRng

    path = (data or default_folder("node")).expanduser().absolute()
    address = wire.address_of(url, fingerprint or "")
    folder = open_folder(path, "node", SystemClock().now_ms())
    folder.secret(NODE_SEED, lambda: SystemRng().bytes(SEED_BYTES))
    disk = check_disk(path)
    config = load_here(path, None, {f"node.{name}": value for name, value in given.items()}).config
    settings = replace(
        config.node,
        coordinator=str(address),
        fingerprint=address.fingerprint.hex(),
        capacity_bytes=capacity or _default_capacity(disk.free_bytes),
    )
    settings = checked(_ask_rest(settings, asked=not as_json and sys.stdin.isatty()), disk)
    reached = asyncio.run(_reach(folder, replace(config, node=settings), address))
    write_file(path / FILE_NAME, to_toml("node", settings).encode())
    node_id = show_node(wire.identity_of(path, NODE_SEED).node_id)
    command = f"{_program()} node run --data {path}"
    if as_json:
        facts = {"node": node_id, "data": str(path), "command": command, "reached": reached}
        emit({**facts, "disk": msgspec.to_builtins(disk), "capacity": settings.capacity_bytes})
    else:
        _tell(node_id, path, settings, disk, command)
    folder.close()
    if run_now:
        again = load_here(path).config
        wire.run(again, wire.run_node(open_folder(path, "node", SystemClock().now_ms()), again))


def _program() -> str:
    return shutil.which("atoll") or f"{sys.executable} -m atoll"


def _default_capacity(free_bytes: int) -> int:
    share = free_bytes * SHARE_OF_FREE_PERCENT // 100
    return max(64 << 20, share // (1 << 30) * (1 << 30))


def check_disk(path: Path) -> DiskTest:
    """Write, sync and remove a test file; return what the disk can do."""
    place = path / "disk-test"
    block = os.urandom(TEST_BLOCK_BYTES)
    times: list[float] = []
    facts = os.statvfs(path)
    free = facts.f_bavail * facts.f_frsize
    if free < 4 * TEST_BYTES:
        raise AtollError(
            Kind.DISK_FULL,
            "test disk",
            f"only {show_bytes(free)} are free in {path}",
            hint="choose a disk with more room with --data",
        )
    handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        begun = time.monotonic()
        for _ in range(TEST_BYTES // TEST_BLOCK_BYTES):
            os.write(handle, block)
        os.fdatasync(handle)
        rate = TEST_BYTES / max(time.monotonic() - begun, 1e-6)
        for number in range(SYNCS):
            os.pwrite(handle, block[:4096], number * 4096)
            begun = time.monotonic()
            os.fdatasync(handle)
            times.append((time.monotonic() - begun) * 1000)
    finally:
        os.close(handle)
        place.unlink(missing_ok=True)
    return DiskTest(rate, sorted(times)[SYNCS // 2], free)


def _ask_rest(settings: NodeSettings, *, asked: bool) -> NodeSettings:
    """Fill what is empty by asking on a terminal; elsewhere it stays empty and is refused."""
    questions = {
        "operator": "Who runs this node (a name that your other nodes share)",
        "site": "Where does it stand, as one word (home, office-2)",
        "region": "Region (eu-central, us-east)",
        "country": "Country, two letters",
    }
    given: dict[str, Any] = {}
    for name, question in questions.items():
        if not getattr(settings, name) and asked:
            given[name] = click.prompt(question, err=True).strip()
    return replace(settings, **given)


def checked(settings: NodeSettings, disk: DiskTest) -> NodeSettings:
    """Return the offer in its written form. Raises ``BAD_REQUEST`` naming what is wrong."""
    settings = replace(settings, country=settings.country.upper(), region=settings.region.lower())
    faults = {
        "operator": not settings.operator,
        "site": not _WORD.match(settings.site.lower()),
        "region": not _WORD.match(settings.region),
        "country": not _COUNTRY.match(settings.country),
    }
    for name, wrong in faults.items():
        if wrong:
            value = getattr(settings, name)
            raise AtollError(
                Kind.BAD_REQUEST,
                "join",
                f"{name} is {value!r}" if value else f"{name} is missing",
                hint=f"give it with --{name}" + (", two letters" if name == "country" else ""),
            )
    if settings.capacity_bytes > disk.free_bytes:
        raise AtollError(
            Kind.BAD_REQUEST,
            "join",
            f"{exact_bytes(settings.capacity_bytes)} are more than the "
            f"{show_bytes(disk.free_bytes)} that are free",
            hint="offer less with --capacity",
        )
    return settings


async def _reach(folder: "Folder", config: "Config", address: "Address") -> bool:
    """Check that the coordinator answers, and that this node can be reached where it says.

    The node's own door is opened for the probe, with its certificate; so a wrong --advertise, a
    closed firewall towards oneself or a taken port are found now and not by lost pieces.
    """
    from atoll.cli import wire
    from atoll.core.ports import Address
    from atoll.runtime.server import HttpServer, open_socket
    from atoll.runtime.transport import HttpPieceTransport

    settings = config.node
    host, port = wire.advertised(settings)
    tls = wire.tls_of(folder.path, settings.host, (host,))
    transport = HttpPieceTransport()
    server = HttpServer(_answer_probe, open_socket(settings.host, settings.port), tls=tls)
    try:
        reply = await transport.call(address, "GET", "/v1/health", {}, b"", PROBE_TIMEOUT_S)
        if reply.status != 200:
            raise AtollError(
                Kind.UNREACHABLE,
                "join",
                f"{address} is no coordinator: it answers {reply.status}",
                hint="check the URL with the coordinator's operator",
            )
        await server.start()
        own = Address(host, port, tls.fingerprint if tls is not None else b"")
        try:
            probe = await transport.call(own, "GET", "/v1/health", {}, b"", PROBE_TIMEOUT_S)
        except AtollError as cause:
            raise AtollError(
                Kind.UNREACHABLE,
                "join",
                f"this node cannot be reached at {own}: {cause.message}",
                hint="open the port in firewall and router, or correct --advertise",
            ) from cause
        return probe.status == 200
    finally:
        await server.stop()
        await transport.close()


async def _answer_probe(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """The door of a node that is not yet one: it only says that it is there."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


def _tell(node_id: str, path: Path, settings: NodeSettings, disk: DiskTest, command: str) -> None:
    rows = [
        ("node", node_id),
        ("disk", f"{show_bytes(disk.write_bytes_per_s)}/s, sync {disk.sync_ms_median:.1f} ms"),
        ("offer", f"{exact_bytes(settings.capacity_bytes)} of {show_bytes(disk.free_bytes)} free"),
        ("place", f"{settings.site}, {settings.region} {settings.country}, {settings.tier}"),
        ("price", f"{settings.price_micro} micro-euro per TB and month"),
        ("settings", str(path / FILE_NAME)),
    ]
    click.echo("\n".join(table(rows)))
    if disk.sync_ms_median > SYNC_MS_WARN:
        say(f"a sync takes {disk.sync_ms_median:.0f} ms: small objects will be slow on this disk")
    say(f"run it:      {command}")
    say("as service:  sudo systemctl enable --now atoll-node   (see deploy/)")
