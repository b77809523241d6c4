"""The house style, as far as a machine can check it and the linters do not."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "atoll"
FILE_LINES_MAX = 750
FUNCTION_LINES_MAX = 90
SOURCES = sorted(path for path in SOURCE.rglob("*.py") if "migrations/versions" not in str(path))


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_source_file_keeps_the_style(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens by saying what it holds"
    assert len(text.splitlines()) <= FILE_LINES_MAX, "too long to read in one look"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), "unfinished work belongs in docs/status.md"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


def test_no_floats_near_money() -> None:
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "_micro" in line and re.search(r"\bfloat\b", line):
                pytest.fail(f"{path}:{number}: money is whole micro-units")


def test_documents_link_to_files_that_exist() -> None:
    checked = 0
    for path in tracked_files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text()):
            checked += 1
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
    assert checked, "the documents link to each other"


def test_every_tracked_file_is_small_enough_to_be_source() -> None:
    for path in tracked_files():
        assert path.stat().st_size < 1 << 20, f"{path} is no source file"
