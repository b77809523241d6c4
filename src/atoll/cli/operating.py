"""How an operator's commands ask his coordinator: signed with its own key, from its folder."""

import asyncio
from pathlib import Path
from typing import TypeVar

from atoll.cli.places import cloud_folder
from atoll.core.messages import Message

Answer = TypeVar("Answer", bound=Message)


def ask_own(data: Path | None, request: Message, answer: type[Answer], operation: str) -> Answer:
    """Ask the coordinator that runs in a folder. Raises its error, or ``UNREACHABLE``."""
    return asyncio.run(_ask(cloud_folder(data), request, answer, operation))


async def _ask(folder: Path, request: Message, answer: type[Answer], operation: str) -> Answer:
    from atoll.cli.node.coordinator import coordinator_of
    from atoll.client.remote import RemoteControl
    from atoll.runtime.clock import SystemClock
    from atoll.runtime.transport import HttpPieceTransport

    address, identity = coordinator_of(folder, operation)
    transport = HttpPieceTransport()
    try:
        control = RemoteControl(transport, [address], identity, SystemClock())
        return await control.ask(request, answer)
    finally:
        await transport.close()
