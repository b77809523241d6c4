"""Carries payouts, and kills itself after the next new thing that it made durable.

``dying_desk.py SEEN DATABASE URL``: ``SEEN`` is a file with the names of things after which it died
before. Ends by itself, with status 0, once everything is set aside or given back.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import text
from tests.fixtures.bank import OPERATOR
from tests.integration.payouts.world import settlement_over
from tests.unit.coordinator.billing.test_billing import COORDINATOR
from tests.unit.coordinator.market.providers import Providers
from tests.unit.coordinator.metadata.world import StillClock
from tests.unit.coordinator.payouts.world import SEAL

from atoll.coordinator.payouts.desk import PayoutDesk
from atoll.coordinator.payouts.till import Till
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase
from atoll.runtime.rng import SystemRng


async def facts_of(database: SqlDatabase) -> set[str]:
    """Return what is durable now of payouts, each by a name."""

    def read(connection: Any) -> set[str]:
        rows = connection.execute(text("SELECT payout, state FROM payout")).fetchall()
        intents = connection.execute(
            text("SELECT intent_key, state FROM chain_intent WHERE intent_key LIKE 'payout/%'")
        ).fetchall()
        return {f"{bytes(payout).hex()} {state}" for payout, state in rows} | {
            f"{key} {state}" for key, state in intents
        }

    return await database.read(read)


async def main(seen_file: Path, seen: set[str], database_file: str, url: str) -> None:
    database = SqlDatabase(f"sqlite:///{database_file}")
    write = SqlDatabase.write

    async def dying_write(self: SqlDatabase, function: Any) -> Any:
        result = await write(self, function)
        new = await facts_of(self) - seen
        if new:
            with seen_file.open("a") as file:
                file.writelines(f"{one}\n" for one in sorted(new))
                file.flush()
                os.fsync(file.fileno())
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    SqlDatabase.write = dying_write  # type: ignore[method-assign]
    settlement = settlement_over(database, url)
    registry = Providers(database, StillClock()).registry
    desk = PayoutDesk(
        SystemClock(),
        SystemRng(),
        database,
        COORDINATOR,
        registry,
        SEAL,
        Till(settlement),
        lambda: OPERATOR,
    )
    while True:
        await desk.carry()
        await settlement.link.step()
        facts = await facts_of(database)
        if not any(one.endswith((" signed", " failed")) for one in facts):
            return


if __name__ == "__main__":
    place = Path(sys.argv[1])
    before = set(place.read_text().splitlines()) if place.exists() else set()
    asyncio.run(main(place, before, sys.argv[2], sys.argv[3]))
