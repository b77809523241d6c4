"""SQL of intents and their attempts. Functions run in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import ChainBlock, ChainReceipt
from atoll.economy.chain.model import Attempt, Intent, IntentState, IntentStatus
from atoll.economy.chain.signer import Signed
from atoll.economy.sql import Statement

WEI_BYTES: Final = 32
NO_BLOCK: Final = -1
PROBLEM_CHARACTERS_MAX: Final = 300
_INTENT: Final = (
    "serial, intent_key, sender, destination, data, value_wei, gas, state, nonce,"
    " transaction_hash, block_number, block_hash, succeeded, gas_used, contract, problem,"
    " missing_block, created_ms"
)
_ATTEMPT: Final = "transaction_hash, serial, nonce, raw, fee_wei_max, tip_wei, signed_ms, sent_ms"

_MAKE_LINK = Statement(
    "INSERT INTO chain_link"
    " (chain_id, next_serial, next_event, head_number, head_time_s, seen_ms)"
    " VALUES (:chain, 1, 1, -1, 0, 0) ON CONFLICT DO NOTHING"
)
_LOCK_LINK = Statement("SELECT next_serial FROM chain_link WHERE chain_id = :chain FOR UPDATE")
_ADVANCE = Statement("UPDATE chain_link SET next_serial = :next WHERE chain_id = :chain")
_LINK = Statement(
    "SELECT head_number, head_time_s, seen_ms FROM chain_link WHERE chain_id = :chain"
)
_SEEN = Statement(
    "UPDATE chain_link SET head_number = :number, head_time_s = :time_s, seen_ms = :now_ms"
    " WHERE chain_id = :chain"
)
_PUT = Statement(
    "INSERT INTO chain_intent (chain_id, {columns})"
    " VALUES (:chain, :serial, :key, :sender, :destination, :data, :value, :gas, :state, :nonce,"
    " :nothing, -1, :nothing, 0, 0, :nothing, '', -1, :now_ms)",
    _INTENT,
)
_BY_KEY = Statement(
    "SELECT {columns} FROM chain_intent WHERE chain_id = :chain AND intent_key = :key", _INTENT
)
_BY_SERIAL = Statement(
    "SELECT {columns} FROM chain_intent WHERE chain_id = :chain AND serial = :serial", _INTENT
)
_IN_STATE = Statement(
    "SELECT {columns} FROM chain_intent WHERE chain_id = :chain AND state = :state"
    " ORDER BY serial LIMIT :limit",
    _INTENT,
)
_COUNTS = Statement(
    "SELECT state, count(*) FROM chain_intent WHERE chain_id = :chain GROUP BY state"
)
_PROBLEMS = Statement(
    "SELECT intent_key, problem FROM chain_intent WHERE chain_id = :chain AND state < 3"
    " AND problem <> '' ORDER BY serial LIMIT :limit"
)
_ENDED_BADLY = Statement(
    "SELECT intent_key FROM chain_intent WHERE chain_id = :chain AND state IN (4, 5)"
    " ORDER BY serial DESC LIMIT :limit"
)
_SENDERS = Statement("SELECT DISTINCT sender FROM chain_intent WHERE chain_id = :chain")
_LAST_NONCE = Statement(
    "SELECT max(nonce) FROM chain_intent WHERE chain_id = :chain AND sender = :sender"
)
_NONCES = Statement(
    "SELECT nonce FROM chain_intent WHERE chain_id = :chain AND sender = :sender"
    " AND nonce >= :first AND state IN (1, 2, 3, 4)"
)
_REVIVE = Statement(
    "UPDATE chain_intent SET state = 1, nonce = :nonce, problem = '', missing_block = -1"
    " WHERE chain_id = :chain AND serial = :serial AND state = 5"
)
# What stood in a block that the chain no longer has: its nonce is free again.
_REOPEN = Statement(
    "UPDATE chain_intent SET state = 1, block_number = -1, block_hash = :nothing, succeeded = 0,"
    " gas_used = 0, missing_block = -1 WHERE chain_id = :chain AND sender = :sender"
    " AND nonce >= :first AND state IN (2, 3, 4)"
)
_RESEND = Statement(
    "UPDATE chain_attempt SET sent_ms = 0 WHERE chain_id = :chain AND serial IN"
    " (SELECT serial FROM chain_intent WHERE chain_id = :chain AND sender = :sender"
    " AND nonce >= :first AND state = 1)"
)
_SIGN = Statement(
    "UPDATE chain_intent SET state = 1, nonce = :nonce, gas = :gas, problem = '',"
    " missing_block = -1 WHERE chain_id = :chain AND serial = :serial AND state = 0"
)
_UNSIGN = Statement(
    "UPDATE chain_intent SET state = 0, nonce = -1, missing_block = -1, transaction_hash = :nothing"
    " WHERE chain_id = :chain AND serial = :serial AND state = 1"
)
_MISSING = Statement(
    "UPDATE chain_intent SET missing_block = :number WHERE chain_id = :chain AND serial = :serial"
)
_STATE = Statement(
    "UPDATE chain_intent SET state = :state, problem = :problem"
    " WHERE chain_id = :chain AND serial = :serial"
)
_PROBLEM = Statement(
    "UPDATE chain_intent SET problem = :problem WHERE chain_id = :chain AND serial = :serial"
)
_MINE = Statement(
    "UPDATE chain_intent SET state = :state, transaction_hash = :hash, block_number = :number,"
    " block_hash = :block_hash, succeeded = :succeeded, gas_used = :gas_used,"
    " contract = :contract, missing_block = -1, problem = :problem"
    " WHERE chain_id = :chain AND serial = :serial AND state IN (1, 2)"
)
_UNMINE = Statement(
    "UPDATE chain_intent SET state = 1, block_number = -1, block_hash = :nothing, succeeded = 0,"
    " gas_used = 0 WHERE chain_id = :chain AND serial = :serial AND state = 2"
)
_PUT_ATTEMPT = Statement(
    "INSERT INTO chain_attempt (chain_id, {columns}) VALUES (:chain, :hash, :serial, :nonce, :raw,"
    " :fee, :tip, :now_ms, 0) ON CONFLICT DO NOTHING",
    _ATTEMPT,
)
_ATTEMPTS = Statement(
    "SELECT {columns} FROM chain_attempt WHERE chain_id = :chain AND serial = :serial"
    " AND nonce = :nonce ORDER BY fee_wei_max DESC, transaction_hash",
    _ATTEMPT,
)
_SENT = Statement(
    "UPDATE chain_attempt SET sent_ms = :now_ms"
    " WHERE chain_id = :chain AND transaction_hash = :hash"
)


def make_link(connection: Connection, chain: int) -> None:
    """Make the chain's row where it is absent."""
    _MAKE_LINK.run(connection, chain=chain)


def next_serial(connection: Connection, chain: int) -> int:
    """Take the next serial number; others wait until this transaction ends."""
    make_link(connection, chain)
    serial = int(_LOCK_LINK.scalar(connection, chain=chain))
    _ADVANCE.run(connection, chain=chain, next=serial + 1)
    return serial


def lock_link(connection: Connection, chain: int) -> None:
    """Make others who sign for this chain wait until this transaction ends."""
    _LOCK_LINK.scalar(connection, chain=chain)


def see_head(connection: Connection, chain: int, head: ChainBlock, now_ms: int) -> None:
    """Keep how long the chain was when it was last seen."""
    make_link(connection, chain)
    _SEEN.run(connection, chain=chain, number=head.number, time_s=head.time_s, now_ms=now_ms)


def link(connection: Connection, chain: int) -> tuple[int, int, int]:
    """Return the last seen block's number and time, and when it was seen (ms); -1, 0, 0 before."""
    row = _LINK.first(connection, chain=chain)
    return (int(row[0]), int(row[1]), int(row[2])) if row else (NO_BLOCK, 0, 0)


def _status(row: Any) -> IntentStatus:
    intent = Intent(
        key=row[1],
        sender=bytes(row[2]),
        to=bytes(row[3]),
        data=bytes(row[4]),
        value_wei=int.from_bytes(bytes(row[5]), "big"),
        gas=int(row[6]),
    )
    return IntentStatus(
        serial=int(row[0]),
        intent=intent,
        state=IntentState(row[7]),
        nonce=int(row[8]),
        transaction=bytes(row[9]),
        block_number=int(row[10]),
        block_hash=bytes(row[11]),
        succeeded=bool(row[12]),
        gas_used=int(row[13]),
        contract=bytes(row[14]),
        problem=row[15],
        missing_block=int(row[16]),
        created_ms=int(row[17]),
    )


def put_intent(connection: Connection, chain: int, intent: Intent, now_ms: int) -> int:
    """Keep an intent; return its serial, that of the first where the key is known.

    Raises ``CONFLICT`` where the key is known for something else.
    """
    known = intent_by_key(connection, chain, intent.key)
    if known is not None:
        # A gas limit may have been filled in since.
        if replace(known.intent, gas=intent.gas) != intent:
            raise AtollError(
                Kind.CONFLICT,
                "keep intent",
                "this key was used for something else",
                about=intent.key,
            )
        return known.serial
    serial = next_serial(connection, chain)
    _put(connection, chain, serial, intent, IntentState.WANTED, -1, now_ms)
    return serial


def put_filler(connection: Connection, chain: int, intent: Intent, nonce: int, now_ms: int) -> int:
    """Keep an intent for a nonce that is missing, as signed; return its serial."""
    known = intent_by_key(connection, chain, intent.key)
    if known is not None:
        _REVIVE.run(connection, chain=chain, serial=known.serial, nonce=nonce)
        return known.serial
    serial = next_serial(connection, chain)
    _put(connection, chain, serial, intent, IntentState.SIGNED, nonce, now_ms)
    return serial


def _put(
    connection: Connection,
    chain: int,
    serial: int,
    intent: Intent,
    state: IntentState,
    nonce: int,
    now_ms: int,
) -> None:
    _PUT.run(
        connection,
        chain=chain,
        serial=serial,
        key=intent.key,
        sender=intent.sender,
        destination=intent.to,
        data=intent.data,
        value=intent.value_wei.to_bytes(WEI_BYTES, "big"),
        gas=intent.gas,
        state=int(state),
        nonce=nonce,
        nothing=b"",
        now_ms=now_ms,
    )


def intent_by_key(connection: Connection, chain: int, key: str) -> IntentStatus | None:
    """Return how an intent stands; None for an unknown key."""
    row = _BY_KEY.first(connection, chain=chain, key=key)
    return _status(row) if row else None


def intent_by_serial(connection: Connection, chain: int, serial: int) -> IntentStatus | None:
    """Return how an intent stands; None for an unknown serial."""
    row = _BY_SERIAL.first(connection, chain=chain, serial=serial)
    return _status(row) if row else None


def intents_in(
    connection: Connection, chain: int, state: IntentState, limit: int
) -> list[IntentStatus]:
    """Return the first intents in a state, in order."""
    rows = _IN_STATE.all(connection, chain=chain, state=int(state), limit=limit)
    return [_status(row) for row in rows]


def counts(connection: Connection, chain: int) -> dict[IntentState, int]:
    """Return how many intents are in each state."""
    return {IntentState(row[0]): int(row[1]) for row in _COUNTS.all(connection, chain=chain)}


def problems(connection: Connection, chain: int, limit: int) -> list[tuple[str, str]]:
    """Return key and problem of the first intents that do not go on."""
    return [(row[0], row[1]) for row in _PROBLEMS.all(connection, chain=chain, limit=limit)]


def ended_badly(connection: Connection, chain: int, limit: int) -> list[str]:
    """Return keys of intents that were undone or given up, newest first."""
    return [str(row[0]) for row in _ENDED_BADLY.all(connection, chain=chain, limit=limit)]


def senders(connection: Connection, chain: int) -> list[bytes]:
    """Return all accounts that ever wanted anything."""
    return sorted(bytes(row[0]) for row in _SENDERS.all(connection, chain=chain))


def nonce_after(connection: Connection, chain: int, sender: bytes) -> int:
    """Return the nonce after the last one signed for; 0 before the first."""
    last = _LAST_NONCE.scalar(connection, chain=chain, sender=sender)
    return 0 if last is None else int(last) + 1


def nonces_from(connection: Connection, chain: int, sender: bytes, first: int) -> frozenset[int]:
    """Return the nonces signed for, from ``first`` on."""
    rows = _NONCES.all(connection, chain=chain, sender=sender, first=first)
    return frozenset(int(row[0]) for row in rows)


def reopen(connection: Connection, chain: int, sender: bytes, first: int) -> int:
    """Take back that nonces from ``first`` on are in blocks; return how many were."""
    count = _REOPEN.run(connection, chain=chain, sender=sender, first=first, nothing=b"")
    if count:
        _RESEND.run(connection, chain=chain, sender=sender, first=first)
    return count


def keep_signed(
    connection: Connection,
    chain: int,
    serial: int,
    nonce: int,
    gas: int,
    signed: Signed,
    fees: tuple[int, int],
    now_ms: int,
) -> None:
    """Keep a signed attempt, and that its intent is signed."""
    _SIGN.run(connection, chain=chain, serial=serial, nonce=nonce, gas=gas)
    _PUT_ATTEMPT.run(
        connection,
        chain=chain,
        hash=signed.hash,
        serial=serial,
        nonce=nonce,
        raw=signed.raw,
        fee=fees[0],
        tip=fees[1],
        now_ms=now_ms,
    )


def want_again(connection: Connection, chain: int, serial: int) -> None:
    """Take back a signature whose nonce something else used up."""
    _UNSIGN.run(connection, chain=chain, serial=serial, nothing=b"")


def note_missing(connection: Connection, chain: int, serial: int, number: int) -> None:
    """Keep at which length of the chain an intent's nonce was seen used by something else."""
    _MISSING.run(connection, chain=chain, serial=serial, number=number)


def note_problem(connection: Connection, chain: int, serial: int, problem: str) -> None:
    """Keep what keeps an intent from going on."""
    _PROBLEM.run(connection, chain=chain, serial=serial, problem=problem[:PROBLEM_CHARACTERS_MAX])


def refuse(connection: Connection, chain: int, serial: int, problem: str) -> None:
    """End an intent that cannot be."""
    _STATE.run(
        connection,
        chain=chain,
        serial=serial,
        state=int(IntentState.REFUSED),
        problem=problem[:PROBLEM_CHARACTERS_MAX],
    )


def keep_receipt(
    connection: Connection, chain: int, serial: int, found: ChainReceipt, *, final: bool
) -> None:
    """Keep in which block an intent stands."""
    state = IntentState.MINED
    if final:
        state = IntentState.FINAL if found.succeeded else IntentState.FAILED
    _MINE.run(
        connection,
        chain=chain,
        serial=serial,
        state=int(state),
        hash=found.transaction,
        number=found.block_number,
        block_hash=found.block_hash,
        succeeded=int(found.succeeded),
        gas_used=found.gas_used,
        contract=found.contract,
        problem="" if found.succeeded else "the contract undid it",
    )


def lose_receipt(connection: Connection, chain: int, serial: int) -> None:
    """Take back that an intent stands in a block."""
    _UNMINE.run(connection, chain=chain, serial=serial, nothing=b"")


def attempts_of(connection: Connection, chain: int, serial: int, nonce: int) -> Sequence[Attempt]:
    """Return what was signed for an intent with a nonce, dearest first."""
    rows = _ATTEMPTS.all(connection, chain=chain, serial=serial, nonce=nonce)
    return [
        Attempt(
            hash=bytes(row[0]),
            serial=int(row[1]),
            nonce=int(row[2]),
            raw=bytes(row[3]),
            fee_wei_max=int(row[4]),
            tip_wei=int(row[5]),
            signed_ms=int(row[6]),
            sent_ms=int(row[7]),
        )
        for row in rows
    ]


def note_sent(connection: Connection, chain: int, hash_: bytes, now_ms: int) -> None:
    """Keep when an attempt was last sent."""
    _SENT.run(connection, chain=chain, hash=hash_, now_ms=now_ms)
