"""Quantities as people write them. What is shown can be read back to the same value."""

import re

from atoll.core.errors import AtollError, Kind

_UNITS: dict[str, int] = {
    "b": 1,
    "": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "pb": 10**15,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
    "pib": 1 << 50,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
    "t": 1 << 40,
}
_NUMBER = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*$")
_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("kB", "MB", "GB", "TB", "PB")


def parse_bytes(text: str) -> int:
    """Read a size: ``1500``, ``64MiB``, ``1.5 GB``. Raises ``CONFIG`` for anything else."""
    found = _NUMBER.match(text)
    factor = _UNITS.get(found.group(2).lower()) if found else None
    if found is None or factor is None:
        raise AtollError(
            Kind.CONFIG,
            "read size",
            f"{text!r} is not a size",
            hint="write a number and a unit, as in 500 GB, 64 MiB or 1048576",
        )
    whole, _, fraction = found.group(1).partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * factor // scale


def exact_bytes(count: int) -> str:
    """Write a size so that ``parse_bytes`` reads the same back: ``64 MiB``, ``2 TB``, ``15 B``."""
    fitting = [name for name in (*_BINARY, *_DECIMAL) if count % _UNITS[name.lower()] == 0]
    if not count or not fitting:
        return f"{count} B"
    best = max(fitting, key=lambda name: _UNITS[name.lower()])
    return f"{count // _UNITS[best.lower()]} {best}"


def show_bytes(count: float) -> str:
    """Write a size for reading, three figures or so: ``1.46 GiB``, ``812 B``."""
    if count < 1024:
        return f"{int(count)} B"
    power, value = 0, count / 1024
    while value >= 999.5 and power < len(_BINARY) - 1:
        power, value = power + 1, value / 1024
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {_BINARY[power]}"


def show_seconds(seconds: float) -> str:
    """Write a span of time: ``0.8 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
