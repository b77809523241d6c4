"""What a drill found: checks, figures and a timeline; as text, Markdown and JSON."""

import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import atoll


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that had to hold."""

    held: bool
    text: str


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, seconds after the drill began."""

    at_s: float
    text: str


@dataclass
class Report:
    """A drill from its beginning to its verdict."""

    name: str
    about: str
    """What was done, in a sentence."""
    began_ms: int
    seconds: float = 0.0
    cloud: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    timeline: list[Moment] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    """What this drill does not show."""

    @property
    def passed(self) -> bool:
        """Whether all checks held; a drill without checks shows nothing."""
        return bool(self.checks) and all(check.held for check in self.checks)

    def facts(self) -> dict[str, Any]:
        """Return the report for machines."""
        return {"drill": self.name, "passed": self.passed, **asdict(self)}

    def markdown(self) -> str:
        """Return the report as a page."""
        when = datetime.fromtimestamp(self.began_ms / 1000, UTC)
        verdict = "passed" if self.passed else "FAILED"
        lines = [
            f"# Drill `{self.name}`: {verdict}",
            "",
            self.about,
            "",
            f"{when:%Y-%m-%d %H:%M} UTC, {self.seconds:.0f} s, Atoll {atoll.__version__}, "
            f"{platform.system()} {platform.machine()}",
            "",
            "| | check |",
            "|---|---|",
            *(f"| {'✓' if c.held else '**✗**'} | {_cell(c.text)} |" for c in self.checks),
            "",
            "## Figures",
            "",
            "| | |",
            "|---|---|",
            *(f"| {_cell(k)} | {_cell(_shown(v))} |" for k, v in self.figures.items()),
            *(f"| cloud: {_cell(k)} | {_cell(_shown(v))} |" for k, v in self.cloud.items()),
            "",
            "## What happened",
            "",
            "| after | |",
            "|---|---|",
            *(f"| {m.at_s:.1f} s | {_cell(m.text)} |" for m in self.timeline),
        ]
        if self.limits:
            lines += ["", "## What this does not show", "", *(f"- {text}" for text in self.limits)]
        return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_shown(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value)
