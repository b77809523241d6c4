"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from typing_extensions import override

from atoll.core.errors import AtollError
from atoll.core.units import parse_bytes

Function = TypeVar("Function", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON lines.")
config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (TOML). Default: atoll.toml of the data folder.",
)


def data_option(doc: str) -> Callable[[Function], Function]:
    """Return the ``--data`` option with its help."""
    return click.option(
        "--data", type=click.Path(path_type=Path), envvar="ATOLL_DATA", metavar="DIR", help=doc
    )


class Size(click.ParamType[int]):
    """A size with a unit: ``500GB``, ``64MiB``."""

    name = "size"

    @override
    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_bytes(value)
        except AtollError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)
