"""Runs coordinators, one after the other, that kill themselves after each new durable thing.

``dying_coordinator.py SEEN WORDS…``: ``SEEN`` is a file with the names of things after which one
died before; the words are those of ``atoll``. What is made durable goes through ``write`` of the
database; after each the tables of settlement and its intents are looked at from outside. Each life
is a process of its own, forked from one that has imported everything and does nothing else.
"""

import os
import re
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import web3  # noqa: F401 - takes a second, once for all lives

from atoll.cli import wire  # noqa: F401 - so do our own rooms
from atoll.cli.main import main
from atoll.coordinator.settlement import service
from atoll.economy.chain.model import IntentState
from atoll.runtime.database import SqlDatabase

service.START_PAUSE_S = 0.1
OURS = re.compile(r"epoch/[0-9]+/(propose|finalise|answer|claim)")


def facts_of(path: Path) -> set[str]:
    """What is durable now, each by a name."""
    found = set()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as raw:
        rows = raw.execute("SELECT epoch, state, attempt FROM settlement_epoch").fetchall()
        found |= {f"epoch {epoch} {state} {attempt}" for epoch, state, attempt in rows}
        for table in ("settlement_statement", "settlement_signature", "settlement_demand"):
            (count,) = raw.execute(f"SELECT count(*) FROM {table}").fetchone()
            found.add(f"{table} {count}")
        for epoch, count in raw.execute(
            "SELECT epoch, count(*) > 0 FROM settlement_claim GROUP BY epoch"
        ):
            found.add(f"claims of {epoch}: {count}")
        for key, state in raw.execute("SELECT intent_key, state FROM chain_intent"):
            # What an outbox stands between two states is tested with the outbox.
            ours = OURS.match(key)
            if ours and IntentState(state) in (IntentState.WANTED, IntentState.FINAL):
                found.add(f"{ours[0]} {IntentState(state).name}")
    return found


def arm(seen_file: Path, database: Path) -> None:
    seen = set(seen_file.read_text().splitlines()) if seen_file.exists() else set()
    write = SqlDatabase.write

    async def dying_write(self: SqlDatabase, function: Any) -> Any:
        result = await write(self, function)
        new = facts_of(database) - seen
        if new:
            with seen_file.open("a") as file:
                file.writelines(f"{one}\n" for one in sorted(new))
                file.flush()
                os.fsync(file.fileno())
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    SqlDatabase.write = dying_write  # type: ignore[method-assign]


def live(seen_file: Path, data: Path, words: list[str]) -> int:
    """One life; return the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        arm(seen_file, data / "metadata.db")
        sys.argv = ["atoll", *words]
        main()
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    seen_name, *given = sys.argv[1:]
    folder = Path(given[given.index("--data") + 1])
    while live(Path(seen_name), folder, given) == signal.SIGKILL:
        with Path(f"{seen_name}.deaths").open("a") as deaths:
            deaths.write(f"{time.time()}\n")
