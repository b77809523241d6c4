"""Pure decisions of settlement: what an event makes of an epoch, which one is next, who claims."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from atoll.coordinator.settlement.model import (
    CLAIM_LEAVES_MAX,
    EPOCHS_AT_ONCE_MAX,
    OPEN,
    REJECTIONS_MAX,
    SETTLED,
    SettlementRow,
    State,
    WantedStatement,
)
from atoll.economy.settlement.fraud import leaf_words, path_words
from atoll.economy.settlement.statement import Court, RootStated, root_statement
from atoll.economy.settlement.sumtree import HASH_BYTES, SumTree
from atoll.economy.settlement.wire import encode_rows

FAULT_WITHHELD: Final = 4
"""The contract's number for leaves that nobody showed in time; all others are wrong figures."""
CLAIM_LEVEL: Final = (CLAIM_LEAVES_MAX - 1).bit_length()
GAP_BIT: Final = 1


# --- what the chain said --------------------------------------------------------------------------


def proposed(row: SettlementRow, values: Mapping[str, Any], transaction: bytes) -> SettlementRow:
    """Return an epoch after its distributor took a proposal for it, whoever made it."""
    if row.state not in OPEN and row.state is not State.REJECTED:
        return row
    if (values["root"], values["content"]) != (row.root, row.content):
        return replace(row, problem="another root than that of its document was proposed")
    return replace(
        row,
        state=State.PROPOSED,
        attempt=int(values["attempt"]),
        ends_s=int(values["ends_s"]),
        proposed_transaction=transaction,
        problem="",
    )


def rejected(row: SettlementRow, values: Mapping[str, Any]) -> SettlementRow:
    """Return an epoch after its proposal was struck down.

    What was withheld may be right, and is signed and proposed again; what is wrong stays wrong.
    """
    if row.state is not State.PROPOSED or row.attempt != int(values["attempt"]):
        return row
    rejections = row.rejections + 1
    fault = int(values["fault"])
    if fault == FAULT_WITHHELD and rejections < REJECTIONS_MAX:
        return replace(row, state=State.PUBLISHED, attempt=0, ends_s=0, rejections=rejections)
    why = "leaves were not shown in time" if fault == FAULT_WITHHELD else f"fault {fault} was shown"
    return replace(
        row,
        state=State.REJECTED,
        ends_s=0,
        rejections=rejections,
        problem=f"struck down {rejections} times, last since {why}",
    )


def finalised(row: SettlementRow, values: Mapping[str, Any], transaction: bytes) -> SettlementRow:
    """Return an epoch after a root became final for it."""
    if row.state in SETTLED:
        return row
    if values["root"] != row.root:
        return replace(
            row, state=State.REJECTED, problem="another root than that of its document is final"
        )
    return replace(row, state=State.FINAL, final_transaction=transaction, problem="")


# --- signatures -----------------------------------------------------------------------------------


def to_sign(rows: Sequence[SettlementRow]) -> list[SettlementRow]:
    """Return the epochs that signatures are wanted of, newest first.

    Figures are cumulative: the newest settles all before it, and only it is needed. Older ones
    are signed too since the newest may have to wait for its funds.
    """
    newest = sorted((row for row in rows if row.state in OPEN), key=lambda row: -row.epoch)
    return newest[:EPOCHS_AT_ONCE_MAX]


def statement_of(row: SettlementRow, court: Court, attempt: int) -> WantedStatement:
    """Return the statement over an epoch's root, for one attempt."""
    stated = RootStated(row.epoch, attempt, row.root, row.content)
    made = root_statement(court, stated)
    return WantedStatement(made.kind, made.subject, made.epoch, made.stated, encode_rows([stated]))


def top_of(tree: SumTree) -> bytes:
    """Return the hash of a tree's topmost node."""
    return tree.node(tree.depth, 0)[:HASH_BYTES]


# --- claims ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimGroup:
    """Neighbouring leaves that are claimed by one transaction."""

    level: int
    position: int
    unpaid: int
    """Accounts among them that released more than they were sent."""
    skip: int
    """Bit i: leaf i has nothing to get."""

    @property
    def name(self) -> str:
        """Names the group within its epoch."""
        return f"{self.level}/{self.position}"


def claim_groups(tree: SumTree, claimed: Mapping[bytes, int]) -> Iterator[ClaimGroup]:
    """Yield the groups of an epoch's leaves in which anybody has something to get.

    ``claimed``: what each account was sent so far.
    """
    level = min(CLAIM_LEVEL, tree.depth)
    for position in range(((tree.count - 1) >> level) + 1):
        skip = unpaid = 0
        first = position << level
        for place in range(min(1 << level, tree.count - first)):
            leaf = tree.leaf(first + place)
            if leaf.released_micro > claimed.get(leaf.account, 0):
                unpaid += 1
            else:
                skip |= GAP_BIT << place
        if unpaid:
            yield ClaimGroup(level, position, unpaid, skip)


def claim_call(tree: SumTree, epoch: int, group: ClaimGroup) -> tuple[str, tuple[Any, ...]]:
    """Return the call of the distributor that claims for a group: name and arguments."""
    first = group.position << group.level
    if group.unpaid == 1:
        width = min(1 << group.level, tree.count - first)
        place = next(i for i in range(width) if not group.skip >> i & GAP_BIT)
        proof = tree.prove(first + place)
        words = leaf_words(proof.leaf)
        return "claim", (epoch, tree.count, proof.index, words, path_words(proof.path))
    opening = tree.open(group.level, group.position)
    return "claim_many", (
        epoch,
        tree.count,
        group.level,
        group.position,
        [leaf_words(leaf) for leaf in opening.leaves],
        group.skip,
        path_words(opening.path),
    )
