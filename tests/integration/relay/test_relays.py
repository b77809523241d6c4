"""Nodes behind a NAT, with real processes and network namespaces."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WORLD = Path(__file__).parent / "world.py"


def has_namespaces() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    tried = subprocess.run(["unshare", "-rn", "unshare", "-n", "true"], capture_output=True)
    return tried.returncode == 0


@pytest.mark.xdist_group("heavy")
@pytest.mark.skipif(not has_namespaces(), reason="no network namespaces for this user")
def test_nodes_that_cannot_be_called_serve_through_relays(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(WORLD), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    logs = "".join(
        f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
        for path in sorted(tmp_path.glob("*.log"))
    )
    assert done.returncode == 0, done.stderr + logs
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["behind"]) == 2
    assert found["read"] == found["read again"] == 8
    assert found["carried"] > 0
