"""Groups of commands whose modules are imported when a command is called for, not to list it."""

import importlib
from collections.abc import Mapping
from typing import Any

import click
from typing_extensions import override

Entry = tuple[str, str]
"""``module:name`` of a command, and what it does in a sentence."""


class LazyGroup(click.Group):
    """A group over a table of entries, in sections; listing them imports nothing."""

    def __init__(
        self,
        *arguments: Any,
        sections: Mapping[str, Mapping[str, Entry]],
        hidden_entries: Mapping[str, Entry] | None = None,
        **options: Any,
    ) -> None:
        """``sections`` maps a title to the commands below it; hidden ones are not listed."""
        super().__init__(*arguments, **options)
        self._sections = sections
        self._hidden = dict(hidden_entries or {})
        self.entries = {
            name: entry for section in sections.values() for name, entry in section.items()
        }

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name) or self._hidden.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry[0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])
