"""``python -m bench.manifests``: what it costs when writes wait for their manifests (``sync``).

One local cloud of 12 nodes, two buckets, one in each mode; PUTs of 4 KiB in turns, so that both
meet the same machine. Prints one JSON line: requests per second, CPU of all processes, latencies.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from atoll.cli.local_cloud import LocalCloud
from bench.__main__ import run_load
from bench.load import Plan

MODES = ("group", "sync")
OBJECT_BYTES = 4 << 10
TURNS = 3
CONNECTIONS = (1, 16, 64)
SETTLE_S = 3.0


def _cpu_s(cloud: LocalCloud) -> float:
    return sum(use.cpu_s for use in cloud.uses())


def _set_mode(cloud: LocalCloud, bucket: str, mode: str) -> None:
    command = ["bucket", "mode", f"s3://{bucket}", mode, "--data", str(cloud.facts["data"])]
    subprocess.run([sys.executable, "-m", "atoll", *command], check=True, capture_output=True)


def _measure(
    cloud: LocalCloud, bucket: str, connections: int, count: int, turn: int
) -> dict[str, float]:
    place = urlsplit(cloud.endpoint)
    plan = Plan(
        host=str(place.hostname),
        port=int(place.port or 0),
        access_key=cloud.access_key,
        secret=cloud.secret,
        region=cloud.region,
        bucket=bucket,
        prefix=f"{connections}/{turn}/",
        method="PUT",
        object_bytes=OBJECT_BYTES,
        count=count,
        connections=connections,
    )
    before = _cpu_s(cloud)
    outcome = run_load(plan)
    assert not outcome["failed"], outcome["first_error"]
    # The manifests of mode ``group`` belong to what its writes cost.
    time.sleep(1.0)
    return {
        "per_s": outcome["ok"] / outcome["seconds"],
        "cpu_ms": 1000 * (_cpu_s(cloud) - before) / outcome["ok"],
        "p50_ms": outcome["latency_ms_p50"],
        "p99_ms": outcome["latency_ms_p99"],
    }


def run(count: int) -> dict[str, Any]:
    """Measure both modes in turns; return medians and the ratio of ``sync`` to ``group``."""
    result: dict[str, Any] = {"machine": platform.node() and platform.machine(), "sizes": "4 KiB"}
    with LocalCloud("--ephemeral", "--nodes", "12", "--port", "0") as cloud:
        s3 = cloud.boto3_client()
        for mode in MODES:
            s3.create_bucket(Bucket=f"m-{mode}")
            _set_mode(cloud, f"m-{mode}", mode)
        time.sleep(SETTLE_S)
        for connections in CONNECTIONS:
            number = max(50, count if connections > 1 else count // 5)
            taken: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
            for turn in range(TURNS):
                for mode in MODES if turn % 2 == 0 else reversed(MODES):
                    taken[mode].append(_measure(cloud, f"m-{mode}", connections, number, turn))
            figures = {
                mode: {
                    name: round(statistics.median(one[name] for one in runs), 2) for name in runs[0]
                }
                for mode, runs in taken.items()
            }
            share = figures["sync"]["per_s"] / figures["group"]["per_s"]
            result[f"connections {connections}"] = figures | {"sync/group": round(share, 2)}
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="requests of each measurement")
    print(json.dumps(run(parser.parse_args().count)))


if __name__ == "__main__":
    main()
