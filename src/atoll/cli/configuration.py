"""``atoll config show``: every setting, its value and where it came from."""

from pathlib import Path

import click

from atoll.cli.options import config_option, data_option, json_option
from atoll.cli.output import emit, paint, table
from atoll.runtime.config import load_here
from atoll.runtime.folder import default_folder


@click.group()
def config() -> None:
    """Show settings: defaults < settings file < environment < flags."""


@config.command()
@click.argument("section", required=False)
@data_option("Data folder whose atoll.toml is read. Default: that of `atoll up`.")
@config_option
@json_option
def show(section: str | None, data: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Show every setting (or those of one SECTION), its value and its origin.

    Each may be written in atoll.toml as [section] name = value, or set in the environment as
    ATOLL_SECTION_NAME.
    """
    loaded = load_here(data or default_folder("cloud"), config_file)
    shown = [s for s in loaded.shown() if section in (None, s.name.partition(".")[0])]
    if not shown:
        raise click.BadParameter(f"there is no section {section!r}")
    if as_json:
        for s in shown:
            emit({"name": s.name, "value": s.value, "origin": s.origin, "doc": s.doc})
        return
    rows = [
        (s.name, s.text or paint("(empty)", dim=True), _origin(s.origin), paint(s.doc, dim=True))
        for s in shown
    ]
    click.echo("\n".join(table(rows)))


def _origin(origin: str) -> str:
    return paint(origin, dim=True) if origin == "default" else paint(origin, fg="cyan")
