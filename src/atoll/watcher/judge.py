"""Judges one proposal by what was published beside it, and by what was shown on the chain.

All that is judged carries a hash of the chain: a document by its content hash, the last final
leaves by their root, shown leaves by the proposed root. Whoever lies about them is as good as
silent, so an honest root is never called wrong.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Compute, Disk
from atoll.economy.settlement.document import Index, LeafRow, corrupt, read_index
from atoll.economy.settlement.fraud import (
    Fault,
    Unshown,
    all_shown,
    fault_of,
    unshown,
)
from atoll.economy.settlement.recompute import recompute
from atoll.economy.settlement.source import (
    Found,
    Source,
    find_chunk,
    find_document,
    find_index,
    whole,
)
from atoll.economy.settlement.sumtree import Leaf, SumTree, build
from atoll.economy.settlement.wire import decode_rows, encode_rows
from atoll.watcher.model import Case, Judged, Proposal, Proposed, Snapshot, Verdict

LEAVES: Final = "leaves"
"""Section of a document."""
LEAF_BYTES_MAX: Final = 64
"""A row has 22 bytes of account and two numbers of at most 19, with what tells its fields."""
CHUNKS_BYTES: Final = 1 << 10
"""What else may stand in chunks of leaves."""
COUNT_MAX: Final = 1 << 22
"""Larger trees are not built here (600 MB of memory): their leaves are demanded."""
FIGURES_BYTES_MAX: Final = 256 << 20
"""Longer documents are not computed again."""
LEAVES_FOLDER: Final = "leaves"
KEPT_TREES_MAX: Final = 16
"""Leaves of so many roots are kept, beside those of the last final one."""
DIFFERENCES_SHOWN: Final = 3
_AWAY: Final = frozenset({Kind.NOT_FOUND, Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OVERLOADED})
log = logging.getLogger(__name__)

History = Callable[[int], Awaitable[Sequence[Proposed]]]
"""Returns the proposals that the chain told of for an epoch."""


class Judge:
    """Finds documents and says what is wrong. Keeps leaves of roots on a disk of its own."""

    def __init__(
        self, sources: Sequence[Source], disk: Disk, compute: Compute, history: History
    ) -> None:
        """``history`` tells of what was proposed for an epoch."""
        self._sources = sources
        self._disk = disk
        self._compute = compute
        self._history = history
        self._last: SumTree | None = None
        """Of the last final root that was needed."""

    async def by_document(
        self, proposal: Proposal, snapshot: Snapshot, *, search: bool = True
    ) -> Judged:
        """Judge a proposal by the document that it names, if anybody has it.

        Without ``search`` the last final leaves are taken where they are kept here: so nothing is
        waited for, and what can be judged without them is judged.
        """
        if proposal.count > COUNT_MAX:
            return Judged(Verdict.UNKNOWN, f"it has more than {COUNT_MAX} leaves")
        try:
            leaves = await self._leaves(proposal.epoch, proposal.content, proposal.count)
        except AtollError as error:
            if error.kind in _AWAY or error.kind is Kind.NEWER_FORMAT:
                return Judged(Verdict.UNKNOWN, error.message)
            if error.kind is not Kind.CORRUPT:
                raise
            # The settled bytes are no document: they show no leaves to anybody.
            return Judged(Verdict.UNSHOWN, error.message, unshown(proposal.count))
        return await self._by_leaves(proposal, snapshot, leaves, search=search)

    async def _leaves(self, epoch: int, content: bytes, count: int) -> list[Leaf]:
        """Return the leaves of a document of so many. Raises ``NOT_FOUND`` and ``CORRUPT``.

        No more is fetched than that many leaves take, whatever the document says.
        """
        body = await find_index(self._sources, epoch, content)
        index = await self._compute.run(read_index, body, content)
        entries = [one for one in index.chunks if one.section == LEAVES]
        if index.leaf_count != count or sum(one.rows for one in entries) != count:
            raise corrupt("it has another number of leaves than the root")
        if sum(one.byte_count for one in entries) > count * LEAF_BYTES_MAX + CHUNKS_BYTES:
            raise corrupt("its leaves take more bytes than leaves have")
        bodies = [await find_chunk(self._sources, one) for one in entries]
        return await self._compute.run(_leaves_of, bodies, count)

    async def by_shown(self, case: Case, snapshot: Snapshot) -> Judged | None:
        """Judge a proposal by leaves that were shown on the chain; None until all were."""
        leaves = all_shown(case.proposal.count, case.shown)
        if leaves is None:
            return None
        judged = await self._by_leaves(case.proposal, snapshot, leaves, search=True)
        if judged.verdict is Verdict.HONEST:
            return Judged(Verdict.SHOWN, case.problem, None, judged.tree)
        return judged

    async def _by_leaves(
        self, proposal: Proposal, snapshot: Snapshot, leaves: Sequence[Leaf], *, search: bool
    ) -> Judged:
        last = await self._last_tree(snapshot, search=search)
        known = last is not None or not snapshot.last_epoch
        try:
            fault, tree = await self._compute.run(_judge, last, leaves, proposal)
        except AtollError as error:
            if error.kind not in (Kind.BAD_REQUEST, Kind.TOO_LARGE):
                raise
            return Judged(Verdict.UNSHOWN, error.message, unshown(proposal.count))
        if isinstance(fault, Unshown):
            return Judged(Verdict.UNSHOWN, "its document's leaves make another root", fault)
        if fault is not None:
            return Judged(Verdict.WRONG, type(fault).__name__.lower(), fault, tree)
        assert tree is not None
        await self._keep(proposal.root, leaves)
        if not known:
            missing = f"the leaves of epoch {snapshot.last_epoch} were not found"
            return Judged(Verdict.UNCHECKED, missing, None, tree)
        return Judged(Verdict.HONEST, "", None, tree)

    # --- the last final leaves -------------------------------------------------------------------

    async def _last_tree(self, snapshot: Snapshot, *, search: bool) -> SumTree | None:
        """Return the tree of the last final root; None before the first and if nobody has it."""
        if not snapshot.last_epoch:
            return None
        root = snapshot.last_root
        if self._last is None or self._last.root != root:
            self._last = await self._kept(root)
        if self._last is None and search:
            self._last = await self._find_tree(snapshot.last_epoch, root)
        return self._last

    async def _find_tree(self, epoch: int, root: bytes) -> SumTree | None:
        for told in await self._history(epoch):
            if told.root != root:
                continue
            try:
                leaves = await self._leaves(epoch, told.content, told.count)
                tree = await self._compute.run(build, leaves)
            except AtollError as error:
                log.warning("the leaves of epoch %d are not known: %s", epoch, error.message)
                continue
            if tree.root == root:
                await self._keep(root, leaves)
                return tree
        return None

    async def _kept(self, root: bytes) -> SumTree | None:
        name = _file_of(root)
        if not await self._compute.run(self._disk.exists, name):
            return None
        try:
            body = await self._compute.run(self._disk.read, name)
            tree = await self._compute.run(_tree_of_rows, body)
        except AtollError:
            return None
        return tree if tree.root == root else None

    async def _keep(self, root: bytes, leaves: Sequence[Leaf]) -> None:
        name = _file_of(root)
        if not await self._compute.run(self._disk.exists, name):
            rows = [LeafRow(one.account, one.released_micro, one.held_micro) for one in leaves]
            await self._compute.run(self._disk.replace, name, encode_rows(rows))

    async def forget_but(self, roots: frozenset[bytes]) -> None:
        """Remove leaves of other roots once there are too many."""
        names = await self._compute.run(self._disk.names, LEAVES_FOLDER)
        if len(names) <= KEPT_TREES_MAX:
            return
        kept = {one.hex() for one in roots}
        for name in names:
            if name not in kept:
                await self._compute.run(self._disk.remove, f"{LEAVES_FOLDER}/{name}")

    # --- figures -------------------------------------------------------------------------------

    async def figures(self, proposal: Proposal) -> str:
        """Compute a document again from its lines; return what differs, in words.

        No chain can judge that: it is for people, and for verifiers who signed it.
        """
        try:
            body = await find_index(self._sources, proposal.epoch, proposal.content)
            size = sum(one.byte_count for one in read_index(body).chunks)
            if size > FIGURES_BYTES_MAX:
                log.warning("epoch %d is too long to be computed again here", proposal.epoch)
                return ""
            found = await find_document(self._sources, proposal.epoch, proposal.content)
            before: Found | None = None
            if found.index.epoch > 1:
                before = await self._before(found.index)
            differences = await self._compute.run(_differences, found, before)
        except AtollError as error:
            return "" if error.kind in _AWAY else error.message
        shown = "; ".join(differences[:DIFFERENCES_SHOWN])
        more = len(differences) - DIFFERENCES_SHOWN
        return f"{shown}; and {more} more" if more > 0 else shown

    async def _before(self, index: Index) -> Found | None:
        try:
            return await find_document(self._sources, index.epoch - 1, index.previous)
        except AtollError as error:
            if error.kind not in _AWAY:
                raise
            return None


def _file_of(root: bytes) -> str:
    return f"{LEAVES_FOLDER}/{root.hex()}"


def _leaves_of(bodies: Sequence[bytes], count: int) -> list[Leaf]:
    """Read the leaves of a document. Raises ``CORRUPT``."""
    rows: list[LeafRow] = []
    for body in bodies:
        rows += decode_rows(body, LeafRow)
    if len(rows) != count:
        raise corrupt("it has another number of leaves than it says")
    return [Leaf(row.account, row.released_micro, row.held_micro) for row in rows]


def _tree_of_rows(body: bytes) -> SumTree:
    rows = decode_rows(body, LeafRow)
    return build(
        (Leaf(row.account, row.released_micro, row.held_micro) for row in rows), ordered=False
    )


def _judge(
    last: SumTree | None, leaves: Sequence[Leaf], proposal: Proposal
) -> tuple[Fault | None, SumTree | None]:
    """Return the fault of a proposal, and its tree where these leaves make it."""
    if len(leaves) != proposal.count:
        return unshown(proposal.count), None
    tree = build(leaves, ordered=False)
    sums = (proposal.released_micro, proposal.held_micro)
    fault = fault_of(last, tree, leaves, proposal.root, sums)
    return fault, tree if tree.root == proposal.root else None


def _differences(found: Found, before: Found | None) -> list[str]:
    previous = None if before is None else whole(before)
    return [str(one) for one in recompute(whole(found), previous)]
