"""How a provider's commands reach his node: found by its folder, asked with its own key."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from atoll.cli.options import data_option
from atoll.cli.places import NODE_SEED, RunningNode, cloud_folder, read_node
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message, encode
from atoll.core.messages.terms import TermsShown
from atoll.runtime.folder import default_folder, read_secret

if TYPE_CHECKING:
    from atoll.core.ports import Address

TIMEOUT_S = 15.0
Function = TypeVar("Function", bound=Callable[..., Any])

_data = data_option("The node's folder, or a local cloud's with --node. Default: XDG data folders.")
_number = click.option(
    "--node", "number", type=click.IntRange(1, 250), help="Which node of a local cloud, by number."
)


def node_options(command: Function) -> Function:
    """Add the options that say which node is meant."""
    return _data(_number(command))


def node_folder(data: Path | None, number: int | None) -> Path:
    """Return the folder of the node that the options mean. Raises ``CONFIG``."""
    if number is not None:
        path = cloud_folder(data) / "nodes" / str(number)
    else:
        path = (data or default_folder("node")).expanduser().absolute()
    if (path / "secrets" / NODE_SEED).exists():
        return path
    hint = "name its folder with --data, or a local cloud's with --data and --node 1"
    if (path / "nodes").is_dir():
        hint = "this is a local cloud's folder: say which node with --node 1"
    raise AtollError(Kind.CONFIG, "find node", f"there is no node in {path}", hint=hint)


class NodeDoor:
    """Asks one running node, one question a call."""

    def __init__(self, folder: Path) -> None:
        """Find the node that runs in a folder. Raises ``UNREACHABLE`` where none does."""
        from atoll.core.identity import Identity

        self._identity: Identity = Identity(read_secret(folder, NODE_SEED))
        running = read_node(folder)
        if running is None:
            raise AtollError(
                Kind.UNREACHABLE,
                "find node",
                f"no node runs in {folder}",
                hint=f"start it with `atoll node run --data {folder}`",
            )
        self._address = _address_of(running)

    def show(self) -> TermsShown:
        """Return the node's terms and how it stands by them."""
        from atoll.core.messages.terms import TERMS_PATH

        return self._ask("GET", TERMS_PATH, b"")

    def change(self, path: str, request: Message) -> TermsShown:
        """Send a change; return the terms after it."""
        return self._ask("POST", path, encode(request))

    def _ask(self, method: str, path: str, body: bytes) -> TermsShown:
        return asyncio.run(self._call(method, path, body))

    async def _call(self, method: str, path: str, body: bytes) -> TermsShown:
        from atoll.core.identity import RequestProof, prove_request
        from atoll.core.piece_http import accepted
        from atoll.runtime.clock import SystemClock
        from atoll.runtime.transport import HttpPieceTransport

        proof = prove_request(self._identity, method, path, body, SystemClock().now_ms())
        headers = {RequestProof.HEADER: proof.to_header()}
        transport = HttpPieceTransport()
        try:
            reply = await transport.call(self._address, method, path, headers, body, TIMEOUT_S)
        finally:
            await transport.close()
        answer = accepted(reply.status, reply.body, self._address)
        return msgspec.msgpack.decode(answer, type=TermsShown)


def _address_of(running: RunningNode) -> "Address":
    from atoll.core.ports import Address

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(running.host, running.host)  # noqa: S104
    return Address(host, running.port, bytes.fromhex(running.fingerprint))
