"""Documents of epochs as settlement needs them: what was published, the tree over its leaves."""

from collections import OrderedDict
from functools import partial
from typing import Final

from atoll.coordinator.billing import store as billing
from atoll.coordinator.billing.model import BillingConfig, EpochRow
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Compute, Database
from atoll.economy.settlement.document import Index, LeafRow, read_index
from atoll.economy.settlement.source import DiskSource, Found, find_document, find_index
from atoll.economy.settlement.sumtree import Leaf, SumTree, build
from atoll.economy.settlement.wire import decode_rows

TREES_MAX: Final = 2
"""Trees kept in memory: 148 MB each for a million accounts."""
_LEAVES: Final = frozenset({"leaves"})


class Documents:
    """Reads what this coordinator published."""

    def __init__(self, database: Database, compute: Compute, config: BillingConfig) -> None:
        """Read nothing yet."""
        self._database = database
        self._compute = compute
        self._sources = [DiskSource("the folder of epochs", config.disk, compute)]
        self._trees: OrderedDict[bytes, SumTree] = OrderedDict()

    async def published(self, after: int, limit: int) -> list[EpochRow]:
        """Return epochs above ``after`` whose documents are there, oldest first."""
        return await self._database.read(partial(billing.published, after=after, limit=limit))

    async def index(self, epoch: int, content: bytes) -> Index:
        """Return a document's index. Raises ``NOT_FOUND`` where its files are not here."""
        return read_index(await find_index(self._sources, epoch, content), content)

    async def tree(self, epoch: int, content: bytes) -> SumTree:
        """Return the tree over an epoch's leaves. Raises ``NOT_FOUND``, ``CORRUPT``."""
        known = self._trees.get(content)
        if known is None:
            found = await find_document(self._sources, epoch, content, _LEAVES)
            known = await self._compute.run(_tree, found)
            self._trees[content] = known
            while len(self._trees) > TREES_MAX:
                self._trees.popitem(last=False)
        return known

    def forget(self) -> None:
        """Keep no tree in memory."""
        self._trees.clear()


def _tree(found: Found) -> SumTree:
    """Build the tree of a document's leaves; it must be that of the index. Blocks."""
    tree = build(
        Leaf(row.account, row.released_micro, row.held_micro)
        for body in found.chunks
        for row in decode_rows(body, LeafRow)
    )
    if tree.root != found.index.root:
        raise AtollError(Kind.CORRUPT, "read epoch", "its leaves make another root than it says")
    return tree
