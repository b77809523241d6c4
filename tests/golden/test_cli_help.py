"""The command line's help is what users and scripts rely on: changing it is a decision.

``ATOLL_WRITE_GOLDEN=1`` writes the files anew.
"""

import os
from pathlib import Path

import click
import pytest

from atoll.cli.main import _COMMANDS, root

FOLDER = Path(__file__).parent / "cli"


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    context = click.Context(root)
    for name in root.list_commands(context):
        found.append((name,))
        command = root.get_command(context, name)
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.list_commands(context)]
    return found


@pytest.mark.parametrize("words", every_command(), ids=lambda w: "-".join(w) or "atoll")
def test_help_is_as_agreed(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in [name for name in os.environ if name.startswith("ATOLL_") and "GOLDEN" not in name]:
        monkeypatch.delenv(name)
    from click.testing import CliRunner

    answer = CliRunner().invoke(root, [*words, "--help"], prog_name="atoll")
    assert answer.exit_code == 0, answer.output
    path = FOLDER / f"{'-'.join(words) or 'atoll'}.txt"
    if os.environ.get("ATOLL_WRITE_GOLDEN"):
        path.write_text(answer.output)
    assert answer.output == path.read_text()


def test_the_list_of_commands_says_what_each_command_says() -> None:
    context = click.Context(root)
    for name, (_, text) in _COMMANDS.items():
        command = root.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(200), name
        assert text.endswith(".")


def test_no_golden_file_is_left_over() -> None:
    wanted = {f"{'-'.join(words) or 'atoll'}.txt" for words in every_command()}
    assert {path.name for path in FOLDER.glob("*.txt")} == wanted
