"""The SQL of a watcher."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from atoll.economy.sql import Statement
from atoll.watcher.model import Kept, Proposed, Strike, Verdict

WORD_BYTES = 32
FAULT_WITHHELD = 4
"""Of the distributor: what was withheld may have been right."""
KEPT_MAX = 100
_READ_TO = Statement("SELECT read_to FROM watcher_scan WHERE distributor = :distributor")
_DISTRIBUTORS = Statement("SELECT distributor FROM watcher_scan ORDER BY read_to DESC")
_SET_READ_TO = Statement("""
    INSERT INTO watcher_scan (distributor, read_to) VALUES (:distributor, :read_to)
    ON CONFLICT (distributor) DO UPDATE SET read_to = excluded.read_to""")
_COLUMNS = "attempt, epoch, root, content, leaf_count, transaction_hash, block_number"
_PUT_PROPOSAL = Statement(
    """INSERT INTO watcher_proposal (distributor, {columns}) VALUES (:distributor, :attempt,
    :epoch, :root, :content, :leaf_count, :transaction_hash, :block_number)
    ON CONFLICT (distributor, attempt) DO UPDATE SET epoch = excluded.epoch,
    root = excluded.root, content = excluded.content, leaf_count = excluded.leaf_count,
    transaction_hash = excluded.transaction_hash, block_number = excluded.block_number""",
    columns=_COLUMNS,
)
_ONE = Statement(
    "SELECT transaction_hash FROM watcher_proposal"
    " WHERE distributor = :distributor AND attempt = :attempt"
)
_OF_EPOCH = Statement(
    """SELECT {columns} FROM watcher_proposal WHERE distributor = :distributor AND epoch = :epoch
    ORDER BY attempt DESC""",
    columns=_COLUMNS,
)
_FORGET = tuple(
    Statement(f"DELETE FROM {table} WHERE distributor = :distributor AND attempt = :attempt")  # noqa: S608 - names of our own
    for table in ("watcher_demand", "watcher_strike", "watcher_case")
)
_PUT_DEMAND = Statement("""
    INSERT INTO watcher_demand (distributor, attempt, chunk, demander, answered_by, settled)
    VALUES (:distributor, :attempt, :chunk, :demander, :nobody, 0)
    ON CONFLICT (distributor, attempt, chunk) DO UPDATE SET demander = excluded.demander""")
_ANSWERED = Statement("""
    UPDATE watcher_demand SET answered_by = :answered_by
    WHERE distributor = :distributor AND attempt = :attempt AND chunk = :chunk""")
_SETTLED = Statement("""
    UPDATE watcher_demand SET settled = 1
    WHERE distributor = :distributor AND attempt = :attempt AND chunk = :chunk""")
_DEMANDS = Statement("""
    SELECT chunk, answered_by FROM watcher_demand
    WHERE distributor = :distributor AND attempt = :attempt ORDER BY chunk LIMIT :limit""")
_UNSETTLED = Statement("""
    SELECT attempt, chunk FROM watcher_demand WHERE distributor = :distributor
    AND demander = :demander AND settled = 0 ORDER BY attempt, chunk LIMIT :limit""")
_LOST = Statement("""
    SELECT COUNT(*) FROM watcher_demand WHERE distributor = :distributor
    AND demander = :demander AND attempt > :after AND LENGTH(answered_by) > 0""")
_PUT_STRIKE = Statement("""
    INSERT INTO watcher_strike (distributor, attempt, epoch, fault, challenger, reward_micro)
    VALUES (:distributor, :attempt, :epoch, :fault, :challenger, :reward_micro)
    ON CONFLICT (distributor, attempt) DO NOTHING""")
_STRUCK_BY = Statement("""
    SELECT p.attempt, p.epoch, p.root, p.content, p.leaf_count, p.transaction_hash, p.block_number
    FROM watcher_strike s JOIN watcher_proposal p
    ON p.distributor = s.distributor AND p.attempt = s.attempt
    WHERE s.distributor = :distributor AND s.challenger = :challenger
    AND s.fault <> :withheld AND s.attempt > :after ORDER BY p.attempt""")
_REWARDS = Statement("""
    SELECT reward_micro FROM watcher_strike
    WHERE distributor = :distributor AND challenger = :challenger""")
_PUT_CASE = Statement("""
    INSERT INTO watcher_case (distributor, attempt, verdict, problem)
    VALUES (:distributor, :attempt, :verdict, :problem)
    ON CONFLICT (distributor, attempt) DO UPDATE SET verdict = excluded.verdict,
    problem = excluded.problem""")
_CASES = Statement("""
    SELECT p.attempt, p.epoch, p.root, p.content, c.verdict, c.problem, s.challenger,
    s.reward_micro FROM watcher_proposal p
    LEFT JOIN watcher_case c ON c.distributor = p.distributor AND c.attempt = p.attempt
    LEFT JOIN watcher_strike s ON s.distributor = p.distributor AND s.attempt = p.attempt
    WHERE p.distributor = :distributor ORDER BY p.attempt DESC LIMIT :limit""")


def read_to(connection: Connection, distributor: bytes) -> int | None:
    """Return up to which block logs were read; None before the first."""
    found = _READ_TO.scalar(connection, distributor=distributor)
    return None if found is None else int(found)


def distributors(connection: Connection) -> list[bytes]:
    """Return the contracts that were watched, the one read furthest first."""
    return [bytes(row[0]) for row in _DISTRIBUTORS.all(connection)]


def set_read_to(connection: Connection, distributor: bytes, block: int) -> None:
    """Note up to which block logs were read."""
    _SET_READ_TO.run(connection, distributor=distributor, read_to=block)


def put_proposal(connection: Connection, distributor: bytes, one: Proposed) -> None:
    """Keep a proposal; what was known of another one of this number is forgotten."""
    known = _ONE.scalar(connection, distributor=distributor, attempt=one.attempt)
    if known is not None and bytes(known) != one.transaction:
        for statement in _FORGET:
            statement.run(connection, distributor=distributor, attempt=one.attempt)
    _PUT_PROPOSAL.run(
        connection,
        distributor=distributor,
        attempt=one.attempt,
        epoch=one.epoch,
        root=one.root,
        content=one.content,
        leaf_count=one.count,
        transaction_hash=one.transaction,
        block_number=one.block,
    )


def proposals_of(connection: Connection, distributor: bytes, epoch: int) -> list[Proposed]:
    """Return the proposals of an epoch, newest first."""
    rows = _OF_EPOCH.all(connection, distributor=distributor, epoch=epoch)
    return [_proposed(row) for row in rows]


def _proposed(row: Any) -> Proposed:
    attempt, epoch, root, content, count, transaction, block = row
    return Proposed(
        int(attempt),
        int(epoch),
        bytes(root),
        bytes(content),
        int(count),
        bytes(transaction),
        int(block),
    )


def fraudulent(
    connection: Connection, distributor: bytes, challenger: bytes, after: int
) -> list[Proposed]:
    """Return proposals after an attempt that an account showed to be wrong, oldest first."""
    rows = _STRUCK_BY.all(
        connection,
        distributor=distributor,
        challenger=challenger,
        withheld=FAULT_WITHHELD,
        after=after,
    )
    return [_proposed(row) for row in rows]


def put_demand(
    connection: Connection, distributor: bytes, attempt: int, chunk: int, demander: bytes
) -> None:
    """Keep that somebody asked for a chunk."""
    _PUT_DEMAND.run(
        connection,
        distributor=distributor,
        attempt=attempt,
        chunk=chunk,
        demander=demander,
        nobody=b"",
    )


def put_answer(
    connection: Connection, distributor: bytes, attempt: int, chunk: int, transaction: bytes
) -> None:
    """Keep which transaction showed a chunk."""
    _ANSWERED.run(
        connection, distributor=distributor, attempt=attempt, chunk=chunk, answered_by=transaction
    )


def settle_demand(connection: Connection, distributor: bytes, attempt: int, chunk: int) -> None:
    """Keep that nothing is to be had from a demand any more."""
    _SETTLED.run(connection, distributor=distributor, attempt=attempt, chunk=chunk)


def demands_of(
    connection: Connection, distributor: bytes, attempt: int, limit: int
) -> list[tuple[int, bytes]]:
    """Return chunks that were asked for, with the transactions that showed them."""
    rows = _DEMANDS.all(connection, distributor=distributor, attempt=attempt, limit=limit)
    return [(int(chunk), bytes(transaction)) for chunk, transaction in rows]


def unsettled(
    connection: Connection, distributor: bytes, demander: bytes, limit: int
) -> list[tuple[int, int]]:
    """Return attempt and chunk of an account's demands that may still be worth something."""
    rows = _UNSETTLED.all(connection, distributor=distributor, demander=demander, limit=limit)
    return [(int(attempt), int(chunk)) for attempt, chunk in rows]


def lost(connection: Connection, distributor: bytes, demander: bytes, after: int) -> int:
    """Return how many of an account's demands after an attempt were answered: their fees are gone.

    An answer of its own is counted, too; that does not happen to what it asked for.
    """
    found = _LOST.scalar(connection, distributor=distributor, demander=demander, after=after)
    return int(found)


def put_strike(connection: Connection, distributor: bytes, one: Strike) -> bool:
    """Keep who struck down what; return whether it was news."""
    return bool(
        _PUT_STRIKE.run(
            connection,
            distributor=distributor,
            attempt=one.attempt,
            epoch=one.epoch,
            fault=one.fault,
            challenger=one.challenger,
            reward_micro=one.reward_micro.to_bytes(WORD_BYTES, "big"),
        )
    )


def earned_micro(connection: Connection, distributor: bytes, challenger: bytes) -> int:
    """Return what an account got of struck bonds."""
    rows = _REWARDS.all(connection, distributor=distributor, challenger=challenger)
    return sum(int.from_bytes(bytes(row[0]), "big") for row in rows)


def put_case(
    connection: Connection, distributor: bytes, attempt: int, verdict: Verdict, problem: str
) -> None:
    """Keep what was found, for people."""
    _PUT_CASE.run(
        connection,
        distributor=distributor,
        attempt=attempt,
        verdict=verdict.value,
        problem=problem,
    )


def cases(connection: Connection, distributor: bytes) -> Sequence[Kept]:
    """Return the newest proposals with what was found, newest first."""
    rows = _CASES.all(connection, distributor=distributor, limit=KEPT_MAX)
    return [
        Kept(
            attempt=int(attempt),
            epoch=int(epoch),
            root=bytes(root),
            content=bytes(content),
            verdict=Verdict(verdict or Verdict.UNKNOWN.value),
            problem=problem or "",
            outcome="struck" if challenger else "",
            challenger=bytes(challenger or b""),
            reward_micro=int.from_bytes(bytes(reward or b""), "big"),
        )
        for attempt, epoch, root, content, verdict, problem, challenger, reward in rows
    ]
