"""Gas as a golden file: what each operation costs, exactly; written by ``ATOLL_WRITE_GOLDEN=1``."""

import json
import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def check_gas(contract: str, measured: dict[str, int], limits: dict[str, int]) -> None:
    """Compare measured gas with the golden file ``golden/gas_CONTRACT.json``.

    ``limits`` names operations that must stay below a figure whatever the golden file says.
    """
    for operation, limit in limits.items():
        assert measured[operation] <= limit, f"{operation}: {measured[operation]} gas > {limit}"
    path = FOLDER / f"gas_{contract.lower()}.json"
    if os.environ.get("ATOLL_WRITE_GOLDEN"):
        path.write_text(json.dumps(measured, indent=2, sort_keys=True) + "\n")
    expected = json.loads(path.read_text())
    assert measured == expected, "gas changed; if that is meant: ATOLL_WRITE_GOLDEN=1"
