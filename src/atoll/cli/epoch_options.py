"""Options of ``atoll epoch recompute`` that say which chain is asked."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def chain_options(function: Function) -> Function:
    """Add ``--from-chain-only``, ``--chain`` and ``--contracts``."""
    options = (
        click.option(
            "--from-chain-only",
            "chain_only",
            is_flag=True,
            help="Believe nobody but the chain; documents may come from anybody.",
        ),
        click.option(
            "--chain",
            "url",
            metavar="URL",
            help="JSON-RPC server of the chain. Default: that of the cloud in --data.",
        ),
        click.option(
            "--contracts",
            metavar="FILE|0x…",
            help="Address book, or the distributor's address. Default: the book of the cloud.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
