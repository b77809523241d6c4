"""Pure decisions of a watcher: what to ask for, what to send, and when."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.fraud import (
    calls_of,
    chunk_level,
    leaf_words,
    path_words,
    unshown,
)
from atoll.watcher.model import NEVER, Case, Demand, Proposal, Snapshot, Verdict, Windows

PATIENCE_BPS: Final = 2_500
"""Share of the challenge window in which a document may turn up before its leaves are demanded."""
FIRST_LOOK_BPS: Final = 5_000
"""The same while it was not looked for to the end once."""
ANSWER_BPS: Final = 5_000
"""Share of the answer window after which a watcher shows what the proposer did not."""
LOSSES_MAX: Final = 256
"""Fees lost among the last ``LOSSES_ATTEMPTS`` proposals; then one chunk of each is demanded:
who hides documents and shows their leaves on the chain would live on watchers' fees."""
LOSSES_ATTEMPTS: Final = 100
Call = tuple[str, str, tuple[Any, ...]]
"""What to want once, by name; the function of the distributor; its arguments."""


def calls(
    case: Case,
    snapshot: Snapshot,
    windows: Windows,
    demands: Sequence[Demand],
    secret: bytes,
    demands_max: int,
) -> list[Call]:
    """Return what is to be sent now about an open proposal, most urgent first.

    ``demands`` are those of this attempt, whoever made them. What was sent before is named again:
    the outbox knows it by its key.
    """
    found: list[Call] = []
    now_s, attempt = snapshot.time_s, case.proposal.attempt
    if case.verdict is Verdict.WRONG and case.fault is not None:
        found += [(f"{attempt}/{name}", name, given) for name, given in calls_of(case.fault)]
    for demand in demands:
        if demand.open and now_s > demand.deadline_s:
            key = f"{attempt}/reject/{demand.chunk}"
            found.append((key, "reject_withheld", (demand.chunk,)))
        elif demand.open and case.tree is not None and _late(demand, windows, now_s):
            found.append((f"{attempt}/answer/{demand.chunk}", "answer", answer(case, demand.chunk)))
    if wants_leaves(case, snapshot, windows):
        asked = {demand.chunk for demand in demands}
        found += [
            (f"{attempt}/demand/{chunk}", "demand", (chunk,))
            for chunk in chosen_chunks(case.proposal, secret, demands_max)
            if chunk not in asked
        ]
    return found


def demands_allowed(lost: int, demands_max: int) -> int:
    """Return how many chunks may be demanded of one proposal, after so many lost fees."""
    return demands_max if lost < LOSSES_MAX else 1


def wants_leaves(case: Case, snapshot: Snapshot, windows: Windows) -> bool:
    """Say whether a proposal's leaves are to be demanded now."""
    proposal, now_s = case.proposal, snapshot.time_s
    if now_s >= proposal.ends_s:
        return False
    if case.verdict is Verdict.UNSHOWN:
        return True
    # Who began to watch late has not looked for the document yet.
    patience_bps = PATIENCE_BPS if case.looked > NEVER else FIRST_LOOK_BPS
    patience_s = windows.challenge_s * (10_000 - patience_bps) // 10_000
    return case.verdict is Verdict.UNKNOWN and now_s >= proposal.ends_s - patience_s


def chosen_chunks(proposal: Proposal, secret: bytes, demands_max: int) -> list[int]:
    """Return which chunks to demand: all, or as many as may be, as nobody can foretell.

    The same after a restart: what was asked for once is not asked for in other words.
    """
    chunks = unshown(proposal.count).chunks
    if chunks <= demands_max:
        return list(range(chunks))
    seed = secret + proposal.attempt.to_bytes(8, "big") + proposal.root
    found: dict[int, None] = {}
    draw = 0
    while len(found) < demands_max:
        word = keccak_256(seed + draw.to_bytes(8, "big"))
        found[int.from_bytes(word, "big") % chunks] = None
        draw += 1
    return list(found)


def answer(case: Case, chunk: int) -> tuple[Any, ...]:
    """Return the arguments of ``answer`` for a chunk of a known tree."""
    assert case.tree is not None
    opening = case.tree.open(chunk_level(case.proposal.count), chunk)
    return chunk, [leaf_words(leaf) for leaf in opening.leaves], path_words(opening.path)


def _late(demand: Demand, windows: Windows, now_s: int) -> bool:
    return now_s >= demand.deadline_s - windows.answer_s * (10_000 - ANSWER_BPS) // 10_000


def to_reclaim(demands: Iterable[Demand], own: bytes, snapshot: Snapshot) -> list[Call]:
    """Return the calls that bring fees back whose proposals fell for another fault."""
    return [
        (f"{demand.attempt}/reclaim/{demand.chunk}", "reclaim", (demand.attempt, demand.chunk))
        for demand in demands
        if demand.open
        and demand.demander == own
        and (demand.attempt < snapshot.attempts or snapshot.proposal is None)
    ]


def fees_of(wanted: Iterable[Call], windows: Windows) -> int:
    """Return what these calls cost in fees, micro."""
    return windows.fee_micro * sum(name == "demand" for _, name, _ in wanted)


def is_settled(case: Case) -> bool:
    """Say whether a proposal is judged as far as the chain can judge it."""
    return case.verdict in (Verdict.HONEST, Verdict.UNCHECKED, Verdict.SHOWN)
