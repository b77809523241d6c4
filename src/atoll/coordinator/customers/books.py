"""Takes published epochs over into customers' months: by bucket, to the pico what was charged.

An epoch's document is read back as any stranger reads it; account and bucket behind a line are
found by its evidence in the meters. One epoch is one transaction: a coordinator that dies midway
has taken nothing over, and of several one does.
"""

from dataclasses import replace
from functools import partial

from sqlalchemy.engine import Connection

from atoll.coordinator.billing.service import chunk_name, index_name
from atoll.coordinator.customers import rules, store
from atoll.coordinator.customers.model import UsageLine
from atoll.core.ports import Compute, Database, Disk
from atoll.economy.settlement.document import Document, read, read_index

ACCOUNTS_AT_ONCE = 10_000


class Books:
    """Customers' months, brought up to date with the epochs."""

    def __init__(self, database: Database, compute: Compute, disk: Disk, secret: bytes) -> None:
        """``secret``: the one that pseudonyms of epochs are made with."""
        self._database = database
        self._compute = compute
        self._disk = disk
        self._secret = secret

    async def take(self) -> bool:
        """Take the next epoch over; False where none waits. Raises ``CORRUPT``."""
        clock = await self._database.read(store.clock)
        epoch = clock.epoch + 1
        found = await self._database.read(partial(store.published, epoch=epoch))
        if found is None:
            return False
        until_ms, content = found
        document = await self._compute.run(self._read, epoch, content)
        whose = await self._database.read(partial(store.whose_lines, epoch=epoch))
        accounts = {account for account, _ in whose.values()}
        inputs = document.content.inputs
        if inputs.egress or inputs.credits or inputs.slashes:
            # Whoever only reads, or lost only what he had before, has no line of storage.
            accounts |= await self._accounts()
        names = await self._compute.run(rules.names_of, epoch, sorted(accounts), self._secret)
        usage = await self._compute.run(rules.usage_of, document.content, whose, names)
        month = rules.month_of(until_ms)

        def write(connection: Connection) -> bool:
            now = store.hold_clock(connection)
            if now.epoch + 1 != epoch:
                return False
            for account, lines in usage.items():
                _add(connection, account, month, epoch, lines)
            store.set_clock(connection, replace(now, epoch=epoch, until_ms=until_ms))
            return True

        return await self._database.write(write)

    def _read(self, epoch: int, content: bytes) -> Document:
        """Read an epoch's document and check it against its content hash. Blocks."""
        index = self._disk.read(index_name(epoch))
        chunks = [
            self._disk.read(chunk_name(entry.sha256)) for entry in read_index(index, content).chunks
        ]
        return read(index, chunks, content)

    async def _accounts(self) -> set[bytes]:
        found: set[bytes] = set()
        after = b""
        while True:
            page = await self._database.read(
                partial(store.accounts, after=after, limit=ACCOUNTS_AT_ONCE)
            )
            found |= {account for account, _ in page}
            if len(page) < ACCOUNTS_AT_ONCE:
                return found
            after = page[-1][0]


def _add(
    connection: Connection, account: bytes, month: str, epoch: int, lines: tuple[UsageLine, ...]
) -> None:
    before = store.month(connection, account, month)
    store.put_month(connection, account, month, epoch, rules.merged(before, lines))
