"""The machine that we run on: pressure stall information, and what disks say about themselves.

Sources: /proc/pressure (Linux PSI, Documentation/accounting/psi.rst) and the same files of our own
cgroup v2; SMART through ``smartctl`` where it is installed and may be run.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from atoll.core.ports import HostPressure

PRESSURE = Path("/proc/pressure")
CGROUPS = Path("/sys/fs/cgroup")
SMART_TIMEOUT_S = 10.0
SMART_OUTPUT_BYTES_MAX = 1 << 20
PENDING_SECTORS_MAX = 0
"""Sectors that a disk cannot read and has not given up: already one is the usual herald."""
REALLOCATED_SECTORS_MAX = 100
"""Sectors replaced; disks with more fail many times as often within months."""
_ATTRIBUTES = {5: REALLOCATED_SECTORS_MAX, 197: PENDING_SECTORS_MAX, 198: PENDING_SECTORS_MAX}
_RESOURCES = ("cpu", "io", "memory")


class SystemHost:
    """Answers ``core.ports.Host``."""

    def __init__(self, folder: Path, pressure: Path = PRESSURE, cgroups: Path = CGROUPS) -> None:
        """``folder`` lies on the disk in question."""
        self._folder = folder
        self._pressure = pressure
        self._cgroup = _own_cgroup(cgroups)

    def pressure(self) -> HostPressure:
        """Return the higher of the machine's figures and our cgroup's, where there are any.

        In a container the machine's may be hidden, or speak of other tenants only through ours.
        """
        figures = []
        for name in _RESOURCES:
            found = [_some(self._pressure / name)]
            if self._cgroup is not None:
                found.append(_some(self._cgroup / f"{name}.pressure"))
            told = [figure for figure in found if figure is not None]
            figures.append(max(told) if told else None)
        known = any(figure is not None for figure in figures)
        cpu, io, memory = (figure or 0.0 for figure in figures)
        return HostPressure(cpu, io, memory, known)

    def disk_warning(self) -> str:
        """Ask ``smartctl`` about the disk under the folder; empty where it cannot say."""
        tool = shutil.which("smartctl")
        device = _device_of(self._folder)
        if tool is None or device is None:
            return ""
        try:
            answer = subprocess.run(  # noqa: S603 - a found tool and a device of our own
                [tool, "--json", "--health", "--attributes", device],
                capture_output=True,
                timeout=SMART_TIMEOUT_S,
                check=False,
            )
            return warning_of(answer.stdout[:SMART_OUTPUT_BYTES_MAX])
        except (OSError, subprocess.SubprocessError):
            return ""


def warning_of(output: bytes) -> str:
    """Return what an answer of ``smartctl --json`` warns of; empty for nothing, or nonsense."""
    try:
        facts = json.loads(output)
        if facts.get("smart_status", {}).get("passed") is False:
            return "the disk says that it is failing (SMART)"
        nvme = facts.get("nvme_smart_health_information_log", {})
        if int(nvme.get("critical_warning", 0)):
            return "the disk has a critical warning (NVMe SMART)"
        for entry in facts.get("ata_smart_attributes", {}).get("table", []):
            most = _ATTRIBUTES.get(entry.get("id"))
            value = int(entry.get("raw", {}).get("value", 0))
            if most is not None and value > most:
                return f"SMART attribute {entry['id']} ({entry.get('name', '')}) is {value}"
    except (ValueError, TypeError, AttributeError):
        return ""
    return ""


def _some(path: Path) -> float | None:
    """Return ``some avg10`` of a PSI file; None where there is none."""
    try:
        for line in path.read_text().splitlines():
            words = line.split()
            if words and words[0] == "some":
                fields = dict(word.split("=", 1) for word in words[1:])
                return float(fields["avg10"])
    except (OSError, ValueError, KeyError):
        return None
    return None


def _own_cgroup(root: Path) -> Path | None:
    """Return the folder of our own cgroup v2; None where there is none."""
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            hierarchy, _, path = line.split(":", 2)
            folder = root / path.lstrip("/")
            if hierarchy == "0" and (folder / "cgroup.controllers").exists():
                return folder
    except (OSError, ValueError):
        return None
    return None


def _device_of(folder: Path) -> str | None:
    """Return the block device under a folder, the whole disk rather than its partition."""
    try:
        number = os.stat(folder).st_dev
        link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve(strict=True)
    except OSError:
        return None
    if (link / "partition").exists():
        link = link.parent
    device = Path("/dev") / link.name
    return str(device) if device.exists() else None
