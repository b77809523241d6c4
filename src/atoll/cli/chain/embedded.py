"""Which program can be this machine's chain."""

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path

from atoll.economy.chain.anvil import PROGRAM, find_anvil

ANSWER_S = 10.0
LIBRARIES = ("web3", "coincurve", "eth_abi", "rlp")
PYTHON_LIBRARIES = ("eth_tester", "eth")


@dataclass(frozen=True, slots=True)
class Engine:
    """What would run as the embedded chain."""

    name: str
    """``anvil``, ``py-evm``, or empty for nothing."""
    program: Path | None
    problem: str
    """Why there is none, with the next step; or what is lesser about it; empty for nothing."""


def find_engine() -> Engine:
    """Return what can run as a chain here. Blocks for a moment."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        return Engine("", None, f"{missing[0]} is not installed. Next: pip install 'atoll[chain]'")
    anvil = find_anvil()
    fault = "is not installed" if anvil is None else _fault(anvil)
    if not fault:
        return Engine("anvil", anvil, "")
    next_step = "Next: atoll chain install (it needs npm)"
    if all(importlib.util.find_spec(name) is not None for name in PYTHON_LIBRARIES):
        problem = f"{PROGRAM} {fault}: a slower chain in Python, that keeps nothing, stands in"
        return Engine("py-evm", None, f"{problem}. {next_step}")
    return Engine("", None, f"{PROGRAM} {fault}. {next_step}")


def _fault(program: Path) -> str:
    """Return why a program does not run here; empty where it does."""
    try:
        ran = subprocess.run(
            [program, "--version"], capture_output=True, timeout=ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        return f"at {program} does not run here ({cause})"
    if ran.returncode:
        words = ran.stderr.decode(errors="replace").strip().splitlines()
        return f"at {program} does not run here ({(words or ['it said nothing'])[-1][:120]})"
    return ""
