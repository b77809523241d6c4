"""Serves the chain in Python over HTTP, as anvil serves itself."""

import asyncio
import os
import signal
import time
from typing import Any

from atoll.economy.chain.pychain import REQUEST_BYTES_MAX, PythonChain
from atoll.runtime.config import ChainSettings, Config
from atoll.runtime.process import end_with_parent
from atoll.runtime.server import HttpServer, open_socket
from atoll.runtime.supervisor import PARENT_VARIABLE

THREADS = 1
"""The chain answers one question after the other."""


def run_python_chain(config: Config) -> None:
    """Serve until asked to stop."""
    if PARENT_VARIABLE in os.environ:
        end_with_parent(int(os.environ[PARENT_VARIABLE]))
    asyncio.run(_serve(config.chain))


async def _serve(settings: ChainSettings) -> None:
    from atoll.runtime.compute import ThreadCompute

    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    compute = ThreadCompute(THREADS)
    chain = await compute.run(PythonChain, lambda: int(time.time()))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, status = b"", 200
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > REQUEST_BYTES_MAX or message["type"] != "http.request":
                body, status = b"", 413
                break
            if not message.get("more_body"):
                break
        answer = await compute.run(chain.answer, body) if status == 200 else b"{}"
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    server = HttpServer(app, open_socket(settings.host, settings.port))
    await server.start()
    try:
        await asked.wait()
    finally:
        await server.stop()
        compute.close()
