"""Questions of a provider to its coordinator, asked with the node's own key, from its folder."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from atoll.cli.places import NODE_SEED, read_running
from atoll.core.messages.base import Message
from atoll.runtime.config import load_here
from atoll.runtime.folder import SECRETS, default_folder

if TYPE_CHECKING:
    from atoll.core.ports import Address

ASK_PATH = "/v1/node/ask"
TIMEOUT_S = 15.0
Answer = TypeVar("Answer", bound=Message)


def node_folder(data: Path | None) -> Path | None:
    """Return the node's folder that is meant, if one is."""
    folder = (data or default_folder("node")).expanduser().absolute()
    return folder if (folder / SECRETS / NODE_SEED).exists() else None


def coordinator_of_node(folder: Path) -> "Address":
    """Return the coordinator of a node: of the local cloud that it belongs to, or its settings'."""
    from atoll.cli import wire

    running = read_running(folder.parent.parent)
    if running is not None:
        return wire.address_of(running.coordinator, "")
    settings = load_here(folder).config.node
    return wire.address_of(settings.coordinator.split()[0], settings.fingerprint)


async def ask_as_node(folder: Path, question: Message, answer: type[Answer]) -> Answer:
    """Ask the coordinator, signed by the node. Raises the coordinator's error, or the network's."""
    from atoll.cli import wire
    from atoll.core.identity import RequestProof, prove_request
    from atoll.core.messages import Failure, decode, encode
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.transport import HttpPieceTransport

    identity = wire.identity_of(folder, NODE_SEED)
    transport = HttpPieceTransport()
    try:
        body = encode(question)
        proof = prove_request(identity, "POST", ASK_PATH, body, SystemClock().now_ms())
        headers = {RequestProof.HEADER: proof.to_header(), "content-type": "application/msgpack"}
        reply = await transport.call(
            coordinator_of_node(folder), "POST", ASK_PATH, headers, body, TIMEOUT_S
        )
    finally:
        await transport.close()
    if reply.status >= 300:
        failure: Failure = decode(reply.body, Failure)
        raise failure.to_error()
    found: Answer = decode(reply.body, answer)
    return found
