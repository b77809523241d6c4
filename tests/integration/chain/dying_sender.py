"""Steps an outbox and kills itself at a given moment: ``dying_sender.py FOLDER URL STAGE``."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from atoll.economy.chain import outbox as outbox_room
from atoll.economy.chain.model import EMBEDDED, EMBEDDED_CHAIN_ID
from atoll.economy.chain.outbox import Outbox
from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(module: Any, name: str) -> None:
    original = getattr(module, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        original(*arguments, **options)
        die()

    setattr(module, name, wrapped)


async def main(folder: str, url: str, stage: str) -> None:
    database = SqlDatabase(f"sqlite:///{folder}/money.db")
    chain: Any = await RpcChain.open(url, ThreadCompute(1))
    send_raw = chain.send_raw

    async def dying_send(raw: bytes) -> bytes:
        if stage == "stored":
            die()
        found = await send_raw(raw)
        if stage == "sent":
            die()
        return bytes(found)

    chain.send_raw = dying_send
    if stage == "signed":
        die_after(Signer, "sign")
    if stage == "noted":
        die_after(outbox_room.store, "note_sent")
    signer = Signer.derived(b"o" * 32, "operator")
    profile = replace(EMBEDDED, resend_ms=0)
    outbox = Outbox(SystemClock(), database, EMBEDDED_CHAIN_ID, [signer], profile)
    await outbox.step(chain)


asyncio.run(main(*sys.argv[1:]))
