"""Funds epochs in processes that are killed after a few writes: ``dying_funder.py FOLDER URL``.

Each child is forked from here, so that it costs no imports, steps settlement and funding, and kills
itself (SIGKILL) after the n-th write of the database or the n-th transaction handed to the chain.
"""

import asyncio
import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.fixtures.chain import LocalChain
from tests.fixtures.epochs import Life
from tests.fixtures.funding import FundingWorld
from tests.integration.chain.test_funding import CREDITED, PAYERS, credit_all, plain

from atoll.runtime.database import SqlDatabase

EPOCHS = 2
CHILDREN_MAX = 400
LIBRARIES = ("web3", "web3.providers.rpc", "eth_abi.abi", "coincurve", "rlp")
"""Imported when they are needed; here once for all children."""


class Server:
    """Where the chain is; somebody else runs it."""

    def __init__(self, url: str) -> None:
        self.url = url


def die_after(world: FundingWorld, count: int) -> None:
    """See that this process dies after so many writes."""
    database: Any = world.database
    write = database.write
    left = [count]

    async def dying(function: Any) -> Any:
        found = await write(function)
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    database.write = dying


async def child(folder: Path, url: str, count: int) -> None:
    database = SqlDatabase(f"sqlite:///{folder}/coordinator.db")
    server: Any = Server(url)
    found: LocalChain = server
    world = FundingWorld(database, found, folder)
    await world.resume()
    die_after(world, count)
    await credit_all(world)
    life = Life(3, 6, PAYERS)
    for _ in range(EPOCHS):
        inputs = plain(life.next())
        if inputs.epoch > world.totals.epoch:
            await world.epoch(inputs, life.tariff, CREDITED)
        await world.settle()
    await world.close()
    await database.close()


def main(folder: Path, url: str) -> int:
    for name in LIBRARIES:
        importlib.import_module(name)
    for number in range(CHILDREN_MAX):
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(child(folder, url, 2 + number * 7 % 23))
            except BaseException:  # noqa: BLE001  a child must not become its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                return 1
            (folder / "finished").write_text(f"{number} {EPOCHS}")
            return 0
    return 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
