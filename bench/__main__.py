"""``make bench``: throughput, CPU per byte and memory of the whole product.

For each database and scheme a real cloud is started; a load generator in a process of its own puts
and gets objects of each size; the CPU time of every process of the cloud is read before and after.
Kernels are timed in the same run and summed into a floor: what the unavoidable work alone costs.
One JSON line is appended to ``bench/history.jsonl`` and ``bench/history.svg`` is drawn again.
"""

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from atoll.cli.local_cloud import LocalCloud
from bench import floor, picture
from bench.kernels import measure
from bench.load import Plan

HERE = Path(__file__).parent
HISTORY = HERE / "history.jsonl"
BUCKET = "bench"
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement: a size, how many of it, over how many connections."""

    name: str
    object_bytes: int
    count: int
    connections: int


CASES = (
    Case("4 KiB", 4 << 10, 4000, 16),
    Case("64 KiB", 64 << 10, 1500, 16),
    Case("1 MiB", 1 << 20, 256, 8),
    Case("64 MiB", 64 << 20, 16, 4),
    Case("6 MiB × 100 clients", 6 << 20, 200, 100),
)
NODES = {"4/8": 12, "10/20": 24}


@dataclass(frozen=True, slots=True)
class Figure:
    """What one case of one method gave."""

    database: str
    scheme: str
    size: str
    method: str
    ok: int
    failed: int
    operations_per_s: float
    mb_per_s: float
    mb_per_cpu_s: float
    cpu_ms_per_gb: dict[str, float]
    cpu_us_per_operation: float
    load_cpu_s: float
    latency_ms_p50: float
    latency_ms_p99: float
    floor_mb_per_cpu_s: float
    of_floor: float
    rss_mib_max: dict[str, int]
    first_error: str


def run_load(plan: Plan) -> dict[str, Any]:
    """Run the load generator as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(plan)).encode(),
        capture_output=True,
        check=True,
        cwd=HERE.parent,
    )
    return dict(json.loads(done.stdout))


def cpu_by_kind(cloud: LocalCloud) -> dict[str, float]:
    """Return CPU seconds used so far, summed by kind of process; PostgreSQL's own included."""
    total: dict[str, float] = defaultdict(float)
    for use in cloud.uses():
        total[use.kind] += use.cpu_s
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "postgres":
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total["database"] += times.user + times.system
    return total


def rss_by_kind(cloud: LocalCloud) -> dict[str, int]:
    """Return the largest resident size by kind of process, MiB."""
    largest: dict[str, int] = defaultdict(int)
    for use in cloud.uses():
        largest[use.kind] = max(largest[use.kind], use.rss_bytes >> 20)
    return dict(largest)


def measure_case(
    cloud: LocalCloud,
    kernels: Any,
    database: str,
    scheme: str,
    case: Case,
    method: str,
    scale: float,
) -> Figure:
    """Run one case and return its figure."""
    url = urlsplit(cloud.endpoint)
    plan = Plan(
        host=url.hostname or "127.0.0.1",
        port=url.port or 80,
        access_key=cloud.access_key,
        secret=cloud.secret,
        region=cloud.region,
        bucket=BUCKET,
        prefix=f"{case.object_bytes}/",
        method=method,
        object_bytes=case.object_bytes,
        count=max(case.connections, int(case.count * scale)),
        connections=case.connections,
    )
    time.sleep(SETTLE_S)
    before = cpu_by_kind(cloud)
    outcome = run_load(plan)
    after = cpu_by_kind(cloud)
    used = {kind: after[kind] - before.get(kind, 0.0) for kind in after}
    cpu_s, gigabytes = sum(used.values()), outcome["bytes"] / 1e9
    k, n = (1, 4) if case.object_bytes <= 8192 else map(int, scheme.split("/"))
    least = floor.mb_per_cpu_s(kernels, method, case.object_bytes, k, n)
    rate = outcome["bytes"] / 1e6 / max(cpu_s, 1e-9)
    return Figure(
        database=database,
        scheme=scheme,
        size=case.name,
        method=method,
        ok=outcome["ok"],
        failed=outcome["failed"],
        operations_per_s=round(outcome["ok"] / outcome["seconds"], 1),
        mb_per_s=round(outcome["bytes"] / outcome["seconds"] / 1e6, 1),
        mb_per_cpu_s=round(rate, 1),
        cpu_ms_per_gb={k: round(v * 1000 / max(gigabytes, 1e-9)) for k, v in used.items()},
        cpu_us_per_operation=round(cpu_s * 1e6 / max(1, outcome["ok"])),
        load_cpu_s=round(outcome["load_cpu_s"], 2),
        latency_ms_p50=round(outcome["latency_ms_p50"], 2),
        latency_ms_p99=round(outcome["latency_ms_p99"], 2),
        floor_mb_per_cpu_s=round(least, 1),
        of_floor=round(rate / least, 2),
        rss_mib_max=rss_by_kind(cloud),
        first_error=outcome["first_error"],
    )


@contextlib.contextmanager
def database_flags(database: str) -> Iterator[list[str]]:
    """Yield the flags that choose a database, starting PostgreSQL where asked."""
    if database == "sqlite":
        yield []
        return
    from tests.fixtures.postgres import running_postgres

    with running_postgres() as url:
        yield ["--database", url]


def show(figure: Figure) -> None:
    """Print one figure."""
    print(
        f"{figure.database:10} {figure.scheme:5} {figure.size:>19} {figure.method}  "
        f"{figure.operations_per_s:8.1f}/s {figure.mb_per_s:7.1f} MB/s  "
        f"{figure.mb_per_cpu_s:7.1f} MB/CPU-s ({figure.of_floor:.2f} of the floor)  "
        f"{figure.cpu_us_per_operation:7d} µs/op  p50 {figure.latency_ms_p50:.1f} "
        f"p99 {figure.latency_ms_p99:.1f} ms"
        + f"  RSS MiB {figure.rss_mib_max}"
        + (f"  FAILED {figure.failed}: {figure.first_error}" if figure.failed else ""),
        flush=True,
    )


def commit() -> str:
    """Return the short hash of the commit that is measured."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Run what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--schemes", default="4/8,10/20")
    parser.add_argument("--sizes", default=",".join(case.name for case in CASES))
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the usual counts")
    parser.add_argument("--no-history", action="store_true")
    options = parser.parse_args()
    kernels = measure()
    print(json.dumps({name: round(value) for name, value in asdict(kernels).items()}))
    figures = []
    for database in options.databases.split(","):
        for scheme in options.schemes.split(","):
            with (
                database_flags(database) as flags,
                LocalCloud(
                    "--ephemeral", "--port", "0", "--nodes", str(NODES[scheme]), *flags
                ) as cloud,
            ):
                cloud.boto3_client().create_bucket(Bucket=BUCKET)
                for case in CASES:
                    if case.name not in options.sizes.split(","):
                        continue
                    for method in ("PUT", "GET"):
                        figure = measure_case(
                            cloud, kernels, database, scheme, case, method, options.scale
                        )
                        show(figure)
                        figures.append(asdict(figure))
    if not options.no_history:
        line = {
            "commit": commit(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": f"{platform.machine()} {platform.python_version()}",
            "kernels": asdict(kernels),
            "figures": figures,
        }
        with HISTORY.open("a") as history:
            history.write(json.dumps(line) + "\n")
        picture.draw(HISTORY, HERE / "history.svg")


if __name__ == "__main__":
    main()
