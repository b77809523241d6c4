"""Draws the history of the benchmarks as one SVG: MB per CPU-second and operations per second."""

import json
from html import escape
from pathlib import Path
from typing import Any

WIDTH, ROW, LEFT, BAR = 980, 26, 330, 380
RUNS_MAX = 6
"""Newest runs drawn, oldest first, so that a bar's end shows the way the figure went."""


def draw(history: Path, target: Path) -> None:
    """Read the history's lines and write the picture."""
    runs = [json.loads(line) for line in history.read_text().splitlines() if line.strip()]
    rows: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for run in runs[-RUNS_MAX:]:
        for figure in run["figures"]:
            key = tuple(figure[part] for part in ("method", "size", "scheme", "database"))
            rows.setdefault(key, []).append(figure)  # type: ignore[arg-type]
    ordered = sorted(rows.items(), key=lambda item: (item[0][0] != "PUT", item[0][2], item[0][3]))
    height = 90 + ROW * len(ordered)
    largest = max((f["mb_per_cpu_s"] for figures in rows.values() for f in figures), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="Benchmark figures by case">',
        "<style>text{fill:#1b2b33}.m{fill:#5b7380}.b{fill:#2f7f8c}.f{stroke:#c2571a;stroke-width:2}"
        ".h{fill:#9cc4cb}.bg{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e6eef0}"
        ".m{fill:#9db3bb}.bg{fill:#0e1a1f}.h{fill:#24505a}}</style>",
        '<rect class="bg" width="100%" height="100%"/>',
        '<text x="20" y="28" font-size="17" font-weight="600">MB per CPU-second of all processes'
        "</text>",
        f'<text class="m" x="20" y="50">newest run {escape(runs[-1]["commit"])}, '
        f"{escape(runs[-1]['time'])}; pale bars: earlier runs; orange mark: the floor summed from "
        "kernels</text>",
    ]
    for number, (key, figures) in enumerate(ordered):
        y, newest = 70 + ROW * number, figures[-1]
        method, size, scheme, database = key
        parts.append(
            f'<text x="20" y="{y + 16}">{method} {escape(size)} at {scheme}, {database}</text>'
        )
        for age, figure in enumerate(figures):
            length = max(1.0, figure["mb_per_cpu_s"] / largest * BAR)
            last = age == len(figures) - 1
            thin = 3 if not last else 14
            parts.append(
                f'<rect class="{"b" if last else "h"}" x="{LEFT}" y="{y + (4 if last else 0)}" '
                f'width="{length:.1f}" height="{thin}" rx="2"/>'
            )
        mark = min(newest["floor_mb_per_cpu_s"] / largest * BAR, BAR + 20)
        parts.append(
            f'<line class="f" x1="{LEFT + mark:.1f}" x2="{LEFT + mark:.1f}" y1="{y + 2}" '
            f'y2="{y + 20}"/>'
            f'<text class="m" x="{LEFT + BAR + 30}" y="{y + 16}">{newest["mb_per_cpu_s"]:.0f} '
            f"({newest['of_floor']:.2f} of floor), {newest['operations_per_s']:.0f} op/s</text>"
        )
    parts.append("</svg>")
    target.write_text("\n".join(parts) + "\n")
