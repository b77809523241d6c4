"""Brings what contracts said from the chain into SQL, and takes it back where the chain does.

The chain is read up to its newest block, in ranges. Each range ends with a block whose hash is
kept; as long as the chain still has it, all that was read below stands. Where it does not, the
watcher goes back to the newest block that both know. Events are told once their block is under
enough others, each once for good, however often its transaction changes blocks.
"""

import logging
from collections.abc import Sequence
from typing import Final

from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainBlock, ChainLog, Clock, Database
from atoll.economy.chain import event_store as store
from atoll.economy.chain.model import ChainEvent, ChainProfile
from atoll.economy.chain.outbox import check_chain

RANGE_BLOCKS: Final = 2_000
"""Blocks of one question, at first; halved where a server refuses."""
STEP_RANGES_MAX: Final = 50
"""Questions of one step."""
BLOCKS_KEPT_MAX: Final = 1_000
"""Ends of ranges that are remembered; a branch older than all of them means reading anew."""
EVENTS_MAX: Final = 10_000
"""Events of one answer."""
log = logging.getLogger(__name__)


class Watcher:
    """Watches some contracts of one chain. ``step`` is to be called again and again."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        chain_id: int,
        profile: ChainProfile,
        *,
        first_block: int = 0,
    ) -> None:
        """``first_block``: nothing of interest is below it, as the contracts were made then."""
        self._clock = clock
        self._database = database
        self._chain_id = chain_id
        self._profile = profile
        self._first_block = first_block
        self._range_blocks = RANGE_BLOCKS

    async def step(self, chain: Chain, addresses: Sequence[bytes]) -> int:
        """Read what is new; return how many events were found or taken back.

        Every address must be named from the first step on that concerns it: what was read once is
        not read again for an address that is added later (see ``read_again``).
        """
        if not addresses:
            return 0
        await check_chain(chain, self._chain_id)
        moved = await self._go_back(chain)
        for _ in range(STEP_RANGES_MAX):
            head = await chain.block()
            read_to = await self._read_to()
            if head is None or head.number <= read_to:
                break
            moved += await self._read_range(chain, read_to + 1, head, addresses)
        await self._settle(chain)
        return moved

    async def events(self, after: int = 0, limit: int = EVENTS_MAX) -> list[ChainEvent]:
        """Return settled events after a serial, in order."""
        count = min(limit, EVENTS_MAX)
        return await self._database.read(
            lambda c: store.settled_after(c, self._chain_id, after, count)
        )

    async def retracted(self) -> list[ChainEvent]:
        """Return events that were told and whose transaction the chain has lost since.

        Empty but for a reorganisation deeper than the confirmations, or an embedded chain that
        forgot what others than this outbox sent.
        """
        return await self._database.read(lambda c: store.retracted(c, self._chain_id, EVENTS_MAX))

    async def named(self, names: Sequence[tuple[bytes, bytes, int]]) -> list[ChainEvent]:
        """Return events by transaction, contract's address and ordinal, as far as they are known.

        In the order of ``names``; those that the chain has now and those that it lost.
        """
        return await self._database.read(lambda c: store.named(c, self._chain_id, names))

    async def read_to(self) -> int:
        """Return up to which block the chain was read; one below the first before that."""
        return await self._read_to()

    async def read_again(self) -> None:
        """Forget how far the chain was read; what was told stays told."""
        await self._database.write(lambda c: store.forget_blocks(c, self._chain_id, 0))

    async def _read_to(self) -> int:
        newest = await self._database.read(lambda c: store.newest_block(c, self._chain_id))
        return self._first_block - 1 if newest is None else newest[0]

    async def _go_back(self, chain: Chain) -> int:
        """Return to the newest block that the chain still has; say how many events that cost."""
        kept = await self._database.read(
            lambda c: store.kept_blocks(c, self._chain_id, BLOCKS_KEPT_MAX)
        )
        branch = self._first_block - 1
        lost = False
        for number, hash_ in kept:
            block = await chain.block(number)
            if block is not None and block.hash == hash_:
                branch = number
                break
            lost = True
        if not lost:
            return 0
        gone = await self._database.write(lambda c: store.roll_back(c, self._chain_id, branch))
        log.warning("the chain branched after block %d: %d events taken back", branch, gone)
        return gone

    async def _read_range(
        self, chain: Chain, first: int, head: ChainBlock, addresses: Sequence[bytes]
    ) -> int:
        last = min(head.number, first + self._range_blocks - 1)
        before = await chain.block(last)
        try:
            found = await chain.logs(first, last, addresses)
        except AtollError as error:
            if error.kind is not Kind.TOO_LARGE or self._range_blocks == 1:
                raise
            self._range_blocks = max(1, self._range_blocks // 2)
            return 0
        after = await chain.block(last)
        if before is None or after is None or before.hash != after.hash:
            return 0  # it branched while we read; the next step sees
        _check_hashes(found, after)
        self._range_blocks = min(RANGE_BLOCKS, self._range_blocks * 2)

        def keep(connection: Connection) -> int:
            newest = store.newest_block(connection, self._chain_id)
            if newest is not None and newest[0] >= first:
                return 0  # another process was faster
            count = store.keep_events(connection, self._chain_id, found)
            store.keep_block(connection, self._chain_id, last, after.hash, BLOCKS_KEPT_MAX)
            return count

        return await self._database.write(keep)

    async def _settle(self, chain: Chain) -> None:
        """Let events be told whose blocks are under enough others."""
        head = await chain.block()
        if head is None:
            return
        last = min(head.number - self._profile.confirmations + 1, await self._read_to())
        await self._database.write(lambda c: store.settle(c, self._chain_id, last))


def _check_hashes(found: Sequence[ChainLog], last: ChainBlock) -> None:
    """Raise ``CORRUPT`` where logs contradict each other or the block they end with."""
    hashes: dict[int, bytes] = {last.number: last.hash}
    for entry in found:
        if hashes.setdefault(entry.block_number, entry.block_hash) != entry.block_hash:
            raise AtollError(
                Kind.CORRUPT,
                "watch chain",
                "the chain's server tells logs of blocks that exclude each other",
                hint="name another server in chain.url",
            )
