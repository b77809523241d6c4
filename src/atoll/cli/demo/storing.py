"""Storing: a real directory and a large file, dead nodes, everything read back, repair."""

import hashlib
import os
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from atoll.cli.demo.story import NODES, Demo
from atoll.core.errors import AtollError, Kind
from atoll.runtime.control import send_order

BUCKET = "demo"
KILLED_PER_BLOW = 2
LARGE_BYTES = 256 << 20
LARGE_KEY = "large.bin"
PART_BYTES = 16 << 20
TREE_FILES_MAX = 300
TREE_BYTES_MAX = 48 << 20
THREADS = 6
REPAIR_TIMEOUT_S = 90.0
POLL_S = 0.5
BAR_CELLS = 24
REPAIR_TOLD_PIECES = 60
"""Progress is told each time so many more pieces are rebuilt."""
READ_BYTES = 1 << 20


class CountedFile:
    """A binary file that counts and hashes what is read, and calls out once at half way."""

    def __init__(self, path: Path, at_half: Any = None) -> None:
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._at_half = at_half
        self._lock = threading.Lock()

    def read(self, count: int = -1) -> bytes:
        """Read on; the callback runs when half of the file has been handed out."""
        with self._lock:
            block = self._file.read(count)
            due = self._at_half is not None and self._file.tell() >= self._size // 2
            callback, self._at_half = (self._at_half, None) if due else (None, self._at_half)
        if callback:
            callback()
        return block

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, as files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where we are, as files do."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def default_folder() -> Path:
    """A real directory that every machine with Python has: its standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def files_of(folder: Path) -> list[Path]:
    """Return the folder's regular files in order, up to the demo's limits."""
    found: list[Path] = []
    total = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or "__pycache__" in path.parts:
            continue
        total += path.stat().st_size
        if len(found) >= TREE_FILES_MAX or total > TREE_BYTES_MAX:
            break
        found.append(path)
    if not found:
        raise AtollError(
            Kind.NOT_FOUND,
            "demo",
            "the folder has no files",
            about=str(folder),
            hint="name another",
        )
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def upload_tree(demo: Demo, folder: Path) -> None:
    """Upload a real directory, a file each."""
    files = files_of(folder)
    client, began = demo.cloud.boto3_client(), time.monotonic()

    def put(path: Path) -> None:
        key = f"tree/{path.relative_to(folder).as_posix()}"
        demo.expected[key] = (_sha256(path), path.stat().st_size)
        with path.open("rb") as body:
            client.put_object(Bucket=BUCKET, Key=key, Body=body)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(put, files))
    total, seconds = sum(path.stat().st_size for path in files), time.monotonic() - began
    demo.figures["tree"] = {"files": len(files), "bytes": total, "seconds": round(seconds, 2)}
    demo.teller.note(
        f"{len(files)} files, {total / 1e6:.1f} MB from {folder} in {seconds:.1f} s",
        **demo.figures["tree"],
    )


def upload_large(demo: Demo, path: Path) -> None:
    """Upload the large file by multipart; two nodes die half way."""
    from boto3.s3.transfer import TransferConfig

    demo.expected[LARGE_KEY] = (_sha256(path), path.stat().st_size)
    body = CountedFile(path, at_half=lambda: demo.kill_nodes(KILLED_PER_BLOW))
    began = time.monotonic()
    demo.cloud.boto3_client().upload_fileobj(
        body,
        BUCKET,
        LARGE_KEY,
        Config=TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4
        ),
    )
    seconds = time.monotonic() - began
    demo.figures["upload_mb_per_s"] = round(LARGE_BYTES / seconds / 1e6, 1)
    demo.teller.note(
        f"{LARGE_BYTES >> 20} MiB by multipart in {seconds:.1f} s: "
        f"{demo.figures['upload_mb_per_s']:.0f} MB/s, two nodes lost on the way",
        mb_per_s=demo.figures["upload_mb_per_s"],
    )


def _read(client: Any, key: str, at_half: Any = None) -> tuple[str, int]:
    answer = client.get_object(Bucket=BUCKET, Key=key)
    size, got, total = answer["ContentLength"], 0, hashlib.sha256()
    while block := answer["Body"].read(READ_BYTES):
        total.update(block)
        got += len(block)
        if at_half is not None and got >= size // 2:
            at_half()
            at_half = None
    return total.hexdigest(), got


def download_large(demo: Demo) -> None:
    """Read the large file back; two more nodes die half way."""
    began = time.monotonic()
    got = _read(
        demo.cloud.boto3_client(), LARGE_KEY, at_half=lambda: demo.kill_nodes(KILLED_PER_BLOW)
    )
    rate = LARGE_BYTES / (time.monotonic() - began) / 1e6
    demo.figures["download_mb_per_s"] = round(rate, 1)
    demo.teller.note(f"read at {rate:.0f} MB/s, two more nodes lost on the way", mb_per_s=rate)
    demo.check(got == demo.expected[LARGE_KEY], f"{LARGE_KEY}: SHA-256 equal")


def read_everything(demo: Demo, when: str) -> None:
    """Read every object and compare its SHA-256 with what was uploaded."""
    client, began = demo.cloud.boto3_client(), time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        got = dict(
            zip(demo.expected, pool.map(lambda key: _read(client, key), demo.expected), strict=True)
        )
    wrong = [key for key, value in demo.expected.items() if got[key] != value]
    total, seconds = sum(size for _, size in got.values()), time.monotonic() - began
    demo.check(
        not wrong,
        f"{len(got) - len(wrong)} of {len(got)} objects equal by SHA-256 {when} "
        f"({total / 1e6:.0f} MB in {seconds:.1f} s)" + (f"; wrong: {wrong[:3]}" if wrong else ""),
    )


def compare_listing(demo: Demo) -> None:
    """Compare the bucket's listing with what was uploaded."""
    listed: dict[str, int] = {}
    for page in demo.cloud.boto3_client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        listed |= {row["Key"]: row["Size"] for row in page.get("Contents", [])}
    expected = {key: size for key, (_, size) in demo.expected.items()}
    demo.check(listed == expected, f"the listing shows the same {len(expected)} keys and sizes")


def _bar(done: int, total: int) -> str:
    filled = BAR_CELLS * done // max(1, total)
    return "█" * filled + "░" * (BAR_CELLS - filled)


def watch_repair(demo: Demo) -> None:
    """Wait until every segment is at full strength again, telling the progress."""
    began, said = time.monotonic(), -1
    while True:
        status = demo.status()
        dead = sum(node.state in ("dead", "lost") for node in status.nodes)
        repair = status.repair
        if dead >= len(demo.killed) and not repair.segments_degraded and repair.pieces_repaired:
            break
        if time.monotonic() - began > REPAIR_TIMEOUT_S:
            demo.check(False, f"repair did not finish in {REPAIR_TIMEOUT_S:.0f} s")
            return
        if not dead and said < 0:
            said = 0
            demo.teller.note("waiting until silence makes the nodes dead: 25 s after their end")
        if dead and repair.pieces_repaired - said >= REPAIR_TOLD_PIECES:
            said = repair.pieces_repaired
            demo.teller.note(
                f"{_bar(said, said + repair.pieces_missing)}  {dead} nodes dead, {said} pieces "
                f"rebuilt, {repair.pieces_missing} missing in {repair.segments_degraded} segments",
                pieces_missing=repair.pieces_missing,
                pieces_repaired=said,
            )
        time.sleep(POLL_S)
    demo.figures["repair"] = {
        "seconds": round(time.monotonic() - began, 1),
        "pieces": repair.pieces_repaired,
        "bytes_downloaded": repair.bytes_downloaded,
        "bytes_uploaded": repair.bytes_uploaded,
    }
    demo.check(
        True,
        f"every segment at full strength: {repair.pieces_repaired} pieces rebuilt, "
        f"{repair.bytes_downloaded / 1e6:.0f} MB read, "
        f"{repair.bytes_uploaded / 1e6:.0f} MB written",
    )


def restart_node(demo: Demo) -> None:
    """Start one dead node again and see it return."""
    name = demo.killed[0]
    send_order(demo.folder, "start", name)
    deadline = time.monotonic() + REPAIR_TIMEOUT_S / 2
    wanted = NODES - len(demo.killed) + 1
    while time.monotonic() < deadline:
        alive = sum(node.state == "alive" for node in demo.status().nodes)
        if alive >= wanted:
            demo.check(True, f"{name} is back with its pieces: {alive} of {NODES} nodes alive")
            return
        time.sleep(POLL_S)
    demo.check(False, f"{name} did not return")


def tell_figures(demo: Demo) -> None:
    """Print throughput, expansion and memory."""
    status = demo.status()
    expansion = status.stored_bytes / max(1, status.object_bytes)
    rss = {use.kind: use.rss_bytes for use in sorted(demo.cloud.uses(), key=lambda u: u.rss_bytes)}
    demo.figures["expansion"] = round(expansion, 3)
    demo.figures["rss_mib_max"] = {kind: round(size / (1 << 20)) for kind, size in rss.items()}
    demo.teller.note(
        f"{status.objects} objects, {status.object_bytes / 1e6:.0f} MB stored as "
        f"{status.stored_bytes / 1e6:.0f} MB of pieces: expansion {expansion:.2f}",
        expansion=expansion,
    )
    demo.teller.note(
        "largest process by kind: "
        + ", ".join(f"{kind} {mib} MiB" for kind, mib in demo.figures["rss_mib_max"].items()),
        rss_mib_max=demo.figures["rss_mib_max"],
    )
    demo.teller.note("all of it on one machine: no protection against the loss of this machine")


def make_large_file(folder: Path) -> Path:
    """Write a file of random bytes, so that nothing can be squeezed out of it."""
    path = folder / "demo-large.bin"
    with path.open("wb") as file:
        for _ in range(LARGE_BYTES >> 20):
            file.write(os.urandom(1 << 20))
    return path
