"""The SQL of settlement. Functions run in the caller's transaction."""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy.engine import Connection

from atoll.coordinator.settlement.model import (
    Claim,
    Cursor,
    SettlementRow,
    State,
    WantedStatement,
)
from atoll.coordinator.sql import Statement

PROBLEM_CHARACTERS_MAX: Final = 300
_ROW: Final = (
    "epoch, state, content, root, leaf_count, released_micro, held_micro, attempt, rejections,"
    " ends_s, proposed_transaction, final_transaction, claimed_micro, problem"
)
_STATEMENT: Final = "kind, subject, epoch, stated, body"
_CLAIM: Final = "account, epoch, amount_micro, held_micro, transaction_hash, block_number"

_NEWEST = Statement("SELECT {columns} FROM settlement_epoch ORDER BY epoch DESC LIMIT 1", _ROW)
_ONE = Statement("SELECT {columns} FROM settlement_epoch WHERE epoch = :epoch", _ROW)
_PAGE = Statement(
    "SELECT {columns} FROM settlement_epoch WHERE epoch < :before ORDER BY epoch DESC LIMIT :limit",
    _ROW,
)
_IN_STATE = Statement(
    "SELECT {columns} FROM settlement_epoch WHERE state = :state ORDER BY epoch DESC LIMIT :limit",
    _ROW,
)
_LAST_SETTLED = Statement(
    "SELECT {columns} FROM settlement_epoch WHERE state IN ('final', 'claimed')"
    " ORDER BY epoch DESC LIMIT 1",
    _ROW,
)
_PUT = Statement(
    "INSERT INTO settlement_epoch ({columns}) VALUES (:epoch, :state, :content, :root, :leaf_count,"
    " :released_micro, :held_micro, :attempt, :rejections, :ends_s, :proposed, :final, :claimed,"
    " :problem) ON CONFLICT (epoch) DO NOTHING",
    _ROW,
)
_MOVE = Statement("""
    UPDATE settlement_epoch SET state = :state, attempt = :attempt, rejections = :rejections,
    ends_s = :ends_s, proposed_transaction = :proposed, final_transaction = :final,
    problem = :problem WHERE epoch = :epoch AND state = :state_before
    AND attempt = :attempt_before""")
_CARRY = Statement(
    "UPDATE settlement_epoch SET state = 'carried', problem = '' WHERE epoch < :epoch"
    " AND state IN ('published', 'signed', 'rejected')"
)
_ASK = Statement(
    "INSERT INTO settlement_statement ({columns}, is_open, made_ms)"
    " VALUES (:kind, :subject, :epoch, :stated, :body, 1, :now_ms)"
    " ON CONFLICT (kind, subject, epoch, stated) DO UPDATE SET is_open = 1",
    _STATEMENT,
)
_CLOSE = Statement(
    "UPDATE settlement_statement SET is_open = 0 WHERE kind = :kind AND subject = :subject"
    " AND epoch = :epoch AND stated = :stated"
)
_CLOSE_KIND = Statement(
    "UPDATE settlement_statement SET is_open = 0 WHERE kind = :kind AND is_open = 1"
)
_ASKED = Statement(
    "SELECT {columns} FROM settlement_statement WHERE is_open = 1"
    " ORDER BY made_ms DESC, epoch DESC, subject, stated LIMIT :limit",
    _STATEMENT,
)
_ASKED_ONE = Statement(
    "SELECT {columns} FROM settlement_statement WHERE kind = :kind AND subject = :subject"
    " AND epoch = :epoch AND stated = :stated AND is_open = 1",
    _STATEMENT,
)
_SIGN = Statement("""
    INSERT INTO settlement_signature
    (kind, subject, epoch, stated, account, signature, received_ms)
    VALUES (:kind, :subject, :epoch, :stated, :account, :signature, :now_ms)
    ON CONFLICT (kind, subject, epoch, stated, account) DO NOTHING""")
_SIGNATURES = Statement("""
    SELECT account, signature FROM settlement_signature WHERE kind = :kind AND subject = :subject
    AND epoch = :epoch AND stated = :stated ORDER BY account""")
_SIGNED_BY = Statement("""
    SELECT kind, subject, epoch, stated FROM settlement_signature WHERE account = :account
    AND received_ms >= :since_ms""")
_OLDEST_ASKED = Statement("SELECT min(made_ms) FROM settlement_statement WHERE is_open = 1")
_PRUNE_STATEMENTS = Statement(
    "DELETE FROM settlement_statement WHERE kind = :kind AND epoch < :epoch"
)
_PRUNE_SIGNATURES = Statement(
    "DELETE FROM settlement_signature WHERE kind = :kind AND epoch < :epoch"
)
_MEET = Statement("""
    INSERT INTO settlement_verifier (verifier_key, account, seen_ms)
    VALUES (:key, :account, :now_ms)
    ON CONFLICT (verifier_key) DO UPDATE SET account = excluded.account,
    seen_ms = excluded.seen_ms""")
_VERIFIERS = Statement(
    "SELECT verifier_key, account FROM settlement_verifier ORDER BY verifier_key"
)
_CURSOR = Statement(
    "SELECT serial, attempts, proposed_epoch, lost FROM settlement_cursor WHERE chain_id = :chain"
)
_LOCK = Statement("SELECT serial FROM settlement_cursor WHERE chain_id = :chain FOR UPDATE")
_ADVANCE = Statement("""
    INSERT INTO settlement_cursor (chain_id, serial, attempts, proposed_epoch, lost)
    VALUES (:chain, :serial, :attempts, :proposed, :lost)
    ON CONFLICT (chain_id) DO UPDATE SET serial = excluded.serial, attempts = excluded.attempts,
    proposed_epoch = excluded.proposed_epoch, lost = excluded.lost""")
_PUT_CLAIM = Statement(
    "INSERT INTO settlement_claim (serial, {columns}) VALUES (:serial, :account,"
    " :epoch, :amount, :held, :hash, :number) ON CONFLICT (serial) DO NOTHING",
    _CLAIM,
)
_DROP_CLAIMS = Statement("DELETE FROM settlement_claim")
_DROP_DEMANDS = Statement("DELETE FROM settlement_demand")
_RESET = Statement("""
    UPDATE settlement_epoch SET state = 'published', attempt = 0, rejections = 0, ends_s = 0,
    proposed_transaction = :nothing, final_transaction = :nothing, claimed_micro = 0, problem = ''
    WHERE state <> 'empty'""")
_ADD_TO_ACCOUNT = Statement("""
    INSERT INTO settlement_account (account, claimed_micro) VALUES (:account, :amount)
    ON CONFLICT (account) DO UPDATE SET
    claimed_micro = settlement_account.claimed_micro + excluded.claimed_micro""")
_ADD_TO_EPOCH = Statement(
    "UPDATE settlement_epoch SET claimed_micro = claimed_micro + :amount WHERE epoch = :epoch"
)
_DROP_ACCOUNTS = Statement("DELETE FROM settlement_account")
_CLAIMED = Statement("SELECT claimed_micro FROM settlement_account WHERE account = :account")
_CLAIMED_ALL = Statement("SELECT coalesce(sum(claimed_micro), 0) FROM settlement_account")
_CLAIMED_BY = Statement("SELECT account, claimed_micro FROM settlement_account")
_CLAIMS = Statement("DELETE FROM settlement_claim")
_DROP_DEMANDS = Statement("DELETE FROM settlement_demand")
_RESET = Statement("""
    UPDATE settlement_epoch SET state = 'published', attempt = 0, rejections = 0, ends_s = 0,
    proposed_transaction = :nothing, final_transaction = :nothing, claimed_micro = 0, problem = ''
    WHERE state <> 'empty'""")
_CLAIMED = Statement(
    "SELECT coalesce(sum(amount_micro), 0) FROM settlement_claim WHERE account = :account"
)
_CLAIMED_ALL = Statement("SELECT coalesce(sum(amount_micro), 0) FROM settlement_claim")
_CLAIMED_IN = Statement(
    "SELECT coalesce(sum(amount_micro), 0) FROM settlement_claim WHERE epoch = :epoch"
)
_CLAIMED_BY = Statement("SELECT account, sum(amount_micro) FROM settlement_claim GROUP BY account")
_CLAIMS = Statement(
    "SELECT {columns} FROM settlement_claim WHERE account = :account"
    " AND serial < :before ORDER BY serial DESC LIMIT :limit",
    _CLAIM,
)
_DEMAND = Statement(
    "INSERT INTO settlement_demand (attempt, chunk, answered) VALUES (:attempt, :chunk, 0)"
    " ON CONFLICT (attempt, chunk) DO NOTHING"
)
_ANSWERED = Statement(
    "UPDATE settlement_demand SET answered = 1 WHERE attempt = :attempt AND chunk = :chunk"
)
_DEMANDS = Statement(
    "SELECT chunk FROM settlement_demand WHERE attempt = :attempt AND answered = 0"
    " ORDER BY chunk LIMIT :limit"
)


# --- epochs ---------------------------------------------------------------------------------------


def _row(row: Any) -> SettlementRow:
    return SettlementRow(
        epoch=int(row[0]),
        state=State(row[1]),
        content=bytes(row[2]),
        root=bytes(row[3]),
        count=int(row[4]),
        released_micro=int(row[5]),
        held_micro=int(row[6]),
        attempt=int(row[7]),
        rejections=int(row[8]),
        ends_s=int(row[9]),
        proposed_transaction=bytes(row[10]),
        final_transaction=bytes(row[11]),
        claimed_micro=int(row[12]),
        problem=row[13],
    )


def newest(connection: Connection) -> SettlementRow | None:
    """Return the epoch that was taken over last."""
    row = _NEWEST.first(connection)
    return None if row is None else _row(row)


def one(connection: Connection, epoch: int) -> SettlementRow | None:
    """Return one epoch."""
    row = _ONE.first(connection, epoch=epoch)
    return None if row is None else _row(row)


def page(connection: Connection, before: int, limit: int) -> list[SettlementRow]:
    """Return epochs below ``before``, newest first."""
    return [_row(row) for row in _PAGE.all(connection, before=before, limit=limit)]


def in_state(connection: Connection, state: State, limit: int) -> list[SettlementRow]:
    """Return epochs in a state, newest first."""
    return [_row(row) for row in _IN_STATE.all(connection, state=state.value, limit=limit)]


def last_settled(connection: Connection) -> SettlementRow | None:
    """Return the newest epoch whose root is final."""
    row = _LAST_SETTLED.first(connection)
    return None if row is None else _row(row)


def put(connection: Connection, row: SettlementRow) -> bool:
    """Write a new epoch; False where it is there already."""
    return bool(
        _PUT.run(
            connection,
            epoch=row.epoch,
            state=row.state.value,
            content=row.content,
            root=row.root,
            leaf_count=row.count,
            released_micro=row.released_micro,
            held_micro=row.held_micro,
            attempt=row.attempt,
            rejections=row.rejections,
            ends_s=row.ends_s,
            proposed=row.proposed_transaction,
            final=row.final_transaction,
            claimed=row.claimed_micro,
            problem=row.problem,
        )
    )


def move(connection: Connection, before: SettlementRow, after: SettlementRow) -> bool:
    """Bring an epoch on; False where it is not (any more) as ``before`` says."""
    return bool(
        _MOVE.run(
            connection,
            epoch=before.epoch,
            state=after.state.value,
            attempt=after.attempt,
            rejections=after.rejections,
            ends_s=after.ends_s,
            proposed=after.proposed_transaction,
            final=after.final_transaction,
            problem=after.problem[:PROBLEM_CHARACTERS_MAX],
            state_before=before.state.value,
            attempt_before=before.attempt,
        )
    )


def carry(connection: Connection, epoch: int) -> int:
    """Note that epochs below a final one are settled with it; return how many."""
    return _CARRY.run(connection, epoch=epoch)


# --- statements and signatures --------------------------------------------------------------------


def ask(connection: Connection, wanted: WantedStatement, now_ms: int) -> None:
    """Want signatures of a statement."""
    _ASK.run(
        connection,
        kind=wanted.kind,
        subject=wanted.subject,
        epoch=wanted.epoch,
        stated=wanted.stated,
        body=wanted.body,
        now_ms=now_ms,
    )


def close(connection: Connection, wanted: WantedStatement) -> bool:
    """Want no more signatures of a statement; those that are there stay."""
    return bool(
        _CLOSE.run(
            connection,
            kind=wanted.kind,
            subject=wanted.subject,
            epoch=wanted.epoch,
            stated=wanted.stated,
        )
    )


def close_kind(connection: Connection, kind: int) -> int:
    """Want no more signatures of any statement of a kind."""
    return _CLOSE_KIND.run(connection, kind=kind)


def prune(connection: Connection, kind: int, epoch: int) -> int:
    """Forget statements of a kind on epochs below one, and their signatures; return how many."""
    _PRUNE_SIGNATURES.run(connection, kind=kind, epoch=epoch)
    return _PRUNE_STATEMENTS.run(connection, kind=kind, epoch=epoch)


def _statement(row: Any) -> WantedStatement:
    return WantedStatement(int(row[0]), bytes(row[1]), int(row[2]), bytes(row[3]), bytes(row[4]))


def asked(connection: Connection, limit: int) -> list[WantedStatement]:
    """Return the statements that signatures are wanted of, newest first."""
    return [_statement(row) for row in _ASKED.all(connection, limit=limit)]


def asked_one(
    connection: Connection, kind: int, subject: bytes, epoch: int, stated: bytes
) -> WantedStatement | None:
    """Return a statement if signatures of it are wanted."""
    row = _ASKED_ONE.first(connection, kind=kind, subject=subject, epoch=epoch, stated=stated)
    return None if row is None else _statement(row)


def sign(
    connection: Connection, wanted: WantedStatement, account: bytes, signature: bytes, now_ms: int
) -> bool:
    """Keep a signature; False where this account's is there already."""
    return bool(
        _SIGN.run(
            connection,
            kind=wanted.kind,
            subject=wanted.subject,
            epoch=wanted.epoch,
            stated=wanted.stated,
            account=account,
            signature=signature,
            now_ms=now_ms,
        )
    )


def signatures(
    connection: Connection, kind: int, subject: bytes, epoch: int, stated: bytes
) -> list[tuple[bytes, bytes]]:
    """Return accounts and their signatures, accounts ascending."""
    rows = _SIGNATURES.all(connection, kind=kind, subject=subject, epoch=epoch, stated=stated)
    return [(bytes(account), bytes(signature)) for account, signature in rows]


def signed_by(connection: Connection, account: bytes) -> set[tuple[int, bytes, int, bytes]]:
    """Return which of the statements that are asked for now an account has signed."""
    since_ms = _OLDEST_ASKED.scalar(connection)
    if since_ms is None:
        return set()
    rows = _SIGNED_BY.all(connection, account=account, since_ms=int(since_ms))
    return {(int(row[0]), bytes(row[1]), int(row[2]), bytes(row[3])) for row in rows}


def meet(connection: Connection, key: bytes, account: bytes, now_ms: int) -> None:
    """Keep with which account a verifier says that it signs."""
    _MEET.run(connection, key=key, account=account, now_ms=now_ms)


def verifiers(connection: Connection) -> dict[bytes, bytes]:
    """Return the accounts that verifiers said they sign with, by their Ed25519 keys."""
    return {bytes(key): bytes(account) for key, account in _VERIFIERS.all(connection)}


# --- taken over from the chain --------------------------------------------------------------------


def cursor(connection: Connection, chain: int) -> Cursor:
    """Return how far the chain was taken over."""
    row = _CURSOR.first(connection, chain=chain)
    if row is None:
        return Cursor()
    return Cursor(int(row[0]), int(row[1]), int(row[2]), bytes(row[3]))


def lock_cursor(connection: Connection, chain: int) -> Cursor:
    """As ``cursor``; others who ask for the lock wait until this transaction ends."""
    _LOCK.first(connection, chain=chain)
    return cursor(connection, chain)


def advance(connection: Connection, chain: int, cursor: Cursor) -> None:
    """Keep how far the chain was taken over."""
    _ADVANCE.run(
        connection,
        chain=chain,
        serial=cursor.serial,
        attempts=cursor.attempts,
        proposed=cursor.proposed_epoch,
        lost=cursor.lost,
    )


def put_claims(connection: Connection, claims: Iterable[tuple[int, Claim]]) -> int:
    """Keep payments by the serials of their events, and add them up; return how many are new."""
    count = 0
    for serial, claim in claims:
        new = _PUT_CLAIM.run(
            connection,
            serial=serial,
            account=claim.account,
            epoch=claim.epoch,
            amount=claim.amount_micro,
            held=claim.held_micro,
            hash=claim.transaction,
            number=claim.block_number,
        )
        if new:
            _ADD_TO_ACCOUNT.run(connection, account=claim.account, amount=claim.amount_micro)
            _ADD_TO_EPOCH.run(connection, epoch=claim.epoch, amount=claim.amount_micro)
        count += new
    return count


def take_back(connection: Connection) -> None:
    """Forget all that was taken over from the chain; signatures and documents stay."""
    _DROP_CLAIMS.run(connection)
    _DROP_ACCOUNTS.run(connection)
    _DROP_DEMANDS.run(connection)
    _RESET.run(connection, nothing=b"")


def claimed_micro(connection: Connection, account: bytes) -> int:
    """Return what an account was sent."""
    return int(_CLAIMED.scalar(connection, account=account) or 0)


def claimed_all_micro(connection: Connection) -> int:
    """Return what all accounts were sent."""
    return int(_CLAIMED_ALL.scalar(connection))


def claimed_by_account(connection: Connection) -> dict[bytes, int]:
    """Return what each account was sent."""
    return {bytes(account): int(amount) for account, amount in _CLAIMED_BY.all(connection)}


def claims_of(
    connection: Connection, account: bytes, limit: int, before: int = 1 << 62
) -> list[Claim]:
    """Return the newest payments to an account."""
    rows = _CLAIMS.all(connection, account=account, before=before, limit=limit)
    return [
        Claim(bytes(row[0]), int(row[1]), int(row[2]), int(row[3]), bytes(row[4]), int(row[5]))
        for row in rows
    ]


def put_demand(connection: Connection, attempt: int, chunk: int) -> None:
    """Keep that a chunk of a proposal was asked for."""
    _DEMAND.run(connection, attempt=attempt, chunk=chunk)


def note_answered(connection: Connection, attempt: int, chunk: int) -> None:
    """Keep that somebody showed a chunk."""
    _ANSWERED.run(connection, attempt=attempt, chunk=chunk)


def demands(connection: Connection, attempt: int, limit: int) -> list[int]:
    """Return chunks of a proposal that nobody has shown yet."""
    return [int(row[0]) for row in _DEMANDS.all(connection, attempt=attempt, limit=limit)]
