"""``python -m bench.packing``: what small objects cost on nodes' disks, before and after packing.

A real cloud stores small objects; packing is then let loose on them. The bytes are those that the
nodes count as used: heads, trailers and manifests included; ``packs_alone`` leaves those out.
"""

import argparse
import json
import os
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atoll.cli.local_cloud import LocalCloud
from atoll.cli.places import DATABASE
from atoll.cli.status import fetch_status
from atoll.coordinator.metadata.model import unpack_pieces
from atoll.core.pieces import HEADER_FIXED_BYTES, trailer_bytes
from atoll.core.scheme import Layout

BUCKET = "bench"
THREADS = 8
PATIENCE_S = 300.0
RATIO_MAX = 2.1
LABEL_BYTES = 400
"""More than bucket tag, owner key hash and a pack's capsule take together."""


def used_bytes(folder: Path) -> int:
    """Bytes of live pieces on all nodes, as the nodes count them."""
    return sum(node.used_bytes for node in fetch_status(folder).nodes)


def settled(folder: Path, want_packed: int) -> bool:
    """Wait until so many objects are packed and their old pieces are in the trash."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        status = fetch_status(folder)
        if status.packed_objects >= want_packed and not status.garbage_pieces:
            return True
        time.sleep(1)
    return False


def pack_bytes(folder: Path) -> int:
    """Bytes of all packs' pieces as stored: data, and what a record has around them."""
    total = 0
    with sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True) as database:
        rows = database.execute(
            "SELECT s.plain_bytes, s.k, s.n, s.unit_bytes, s.pieces FROM pack p"
            " JOIN segment s ON s.segment = p.segment"
        ).fetchall()
    for plain_bytes, k, n, unit_bytes, pieces in rows:
        piece_bytes = Layout(plain_bytes, k, n, unit_bytes).piece_bytes
        around = HEADER_FIXED_BYTES + LABEL_BYTES + trailer_bytes(n)
        total += len(unpack_pieces(pieces)) * (piece_bytes + around)
    return total


def measure(object_bytes: int, count: int) -> dict[str, object]:
    """Store, pack, compare."""
    environment = {"ATOLL_COORDINATOR_PACKING_AGE_S": "1"}
    with LocalCloud("--ephemeral", "--port", "0", environment=environment) as cloud:
        folder, client = Path(str(cloud.facts["data"])), cloud.boto3_client()
        client.create_bucket(Bucket=BUCKET)
        body = os.urandom(object_bytes)
        with ThreadPoolExecutor(THREADS) as pool:
            list(
                pool.map(
                    lambda n: client.put_object(Bucket=BUCKET, Key=f"k/{n:06}", Body=body),
                    range(count),
                )
            )
        time.sleep(2)
        before = used_bytes(folder)
        began = time.monotonic()
        done = settled(folder, count)
        seconds = time.monotonic() - began
        time.sleep(2)
        status, after, packs = fetch_status(folder), used_bytes(folder), pack_bytes(folder)
        equal = all(
            client.get_object(Bucket=BUCKET, Key=f"k/{n:06}")["Body"].read() == body
            for n in range(0, count, max(1, count // 100))
        )
    data = object_bytes * count
    return {
        "object_bytes": object_bytes,
        "objects": count,
        "before": round(before / data, 3),
        "after": round(after / data, 3),
        "packs_alone": round(packs / data, 3),
        "packed": status.packed_objects,
        "packs": status.packs,
        "seconds": round(seconds, 1),
        "all_packed": done,
        "equal": equal,
    }


def main() -> None:
    """Measure two sizes; exit 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    good = True
    for object_bytes, count in ((4096, 4000), (65_536, 400)):
        figures = measure(object_bytes, int(count * options.scale))
        print(json.dumps(figures), flush=True)
        good &= bool(figures["all_packed"]) and bool(figures["equal"])
        good &= float(str(figures["packs_alone"])) <= RATIO_MAX
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
