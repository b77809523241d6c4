"""What drills that end in a recovery share: large objects, the node list, ``atoll recover``."""

import asyncio
import hashlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from atoll.cli.drill.stage import Stage
from atoll.cli.drill.workload import digest_of
from atoll.core.errors import AtollError, Kind

NODES = "nodes.json"
NODES_S_MAX = 60.0
LARGE_BYTES = 24 << 20
LARGE = 3
"""Objects stored in parts."""
SAID_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Truth:
    """What must come back and what must not: keys, the former with their SHA-256."""

    objects: dict[str, str]
    gone: frozenset[str]


def truth_of(stage: Stage) -> Truth:
    """Return what the customers' ledger is sure of."""
    allowed = stage.workload.ledger.allowed
    sure = {key: next(iter(one)) for key, one in allowed.items() if len(one) == 1}
    return Truth(
        {key: digest for key, digest in sure.items() if digest is not None},
        frozenset(key for key, digest in sure.items() if digest is None),
    )


async def store_large(stage: Stage) -> None:
    """Store some objects in parts: their segments are found by their manifests alone."""
    with tempfile.TemporaryDirectory(prefix="atoll-drill-") as work:
        for number in range(LARGE):
            path = Path(work) / f"large-{number}"
            block = hashlib.shake_256(path.name.encode()).digest(1 << 16)
            path.write_bytes(block * (LARGE_BYTES // len(block)))
            key = f"in-parts/{number}"
            await stage.workload.put_file(key, path)


async def node_list(stage: Stage, work: Path) -> Path:
    """Take the list that the coordinator keeps beside its database, as an operator would."""
    until = time.monotonic() + NODES_S_MAX
    source, target = stage.folder / NODES, work / NODES
    while time.monotonic() < until:
        if source.is_file():
            raw = source.read_bytes()
            if len(msgspec.json.decode(raw)["nodes"]) >= stage.options.nodes:
                target.write_bytes(raw)
                return target
        await asyncio.sleep(0.5)
    raise AtollError(Kind.TIMEOUT, "take node list", f"{source} does not list all nodes")


async def recover(stage: Stage, phrase: str, nodes: Path, target: Path, truth: Truth) -> Path:
    """Run ``atoll recover`` into ``target``, check what came back; return the bucket's folder."""
    began = time.monotonic()
    words = ("recover", "--phrase-file", "-", "--nodes", str(nodes), "--to", str(target), "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "atoll",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate(phrase.encode())
    seconds = time.monotonic() - began
    folder = target / stage.workload.bucket
    expected, gone = truth.objects, truth.gone
    wrong = [key for key, digest in expected.items() if digest_of(folder / key) != digest]
    back = [key for key in gone if (folder / key).exists()]
    complaint = "" if process.returncode == 0 else f"; it said: {said.decode()[-SAID_SHOWN:]}"
    stage.check(
        not wrong,
        f"{len(expected) - len(wrong)} of {len(expected)} objects byte for byte the same after "
        f"{seconds:.0f} s ({target.name})"
        + (f"; wrong: {wrong[:3]}" if wrong else "")
        + complaint.rstrip(),
    )
    if gone:
        stage.check(
            not back, f"{len(back)} of {len(gone)} deleted objects came back ({target.name})"
        )
    stage.report.figures[f"seconds to recover ({target.name})"] = round(seconds, 1)
    return folder
