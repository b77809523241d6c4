"""Gets what is wanted onto the chain, once, whatever dies on the way.

An intent is durable before it is signed, and signed transactions are durable before they are sent.
They are sent again until enough blocks stand on them, and beyond: a chain that forgot them (an
embedded one that was killed, a reorganisation) is given the same bytes again, in the same order, so
that every hash and every contract's address comes back the same.

All state is in the database; any number of processes may run steps over the same one.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainBlock, ChainCall, ChainFees, ChainReceipt, Clock, Database
from atoll.economy.chain import rules, store
from atoll.economy.chain.model import (
    DATA_BYTES_MAX,
    ENDED,
    GAS_MAX,
    KEY_CHARACTERS_MAX,
    Attempt,
    ChainProfile,
    Intent,
    IntentState,
    IntentStatus,
)
from atoll.economy.chain.signer import Signed, Signer, Unsigned

STEP_INTENTS_MAX: Final = 500
"""Intents of each state that one step looks at."""
IN_FLIGHT_MAX: Final = 64
"""Signed and in no block, of all senders together."""
WAITING_MAX: Final = 16
"""Intents that cannot go yet, after which one step looks at no more."""
GAPS_MAX: Final = 256
"""Missing nonces that one step fills."""
PROBLEMS_MAX: Final = 5
FILLER_GAS: Final = 21_000
"""What a transfer of nothing needs (Yellow Paper, G_transaction)."""
_REFUSALS: Final = frozenset({Kind.PRECONDITION_FAILED, Kind.INTERNAL, Kind.BAD_REQUEST})
"""What is wrong with one transaction, not with the way to the chain."""
Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How the outbox stands, as of the last step."""

    wanted: int
    in_flight: int
    """Signed, or in a block that may still be replaced."""
    final: int
    failed: int
    refused: int
    problems: tuple[tuple[str, str], ...]
    """Key and problem of the first intents that do not go on."""

    @property
    def pending(self) -> int:
        """What is not done yet."""
        return self.wanted + self.in_flight


@dataclass(slots=True)
class _Round:
    """What one step knows of the chain."""

    head: ChainBlock
    nonces: dict[bytes, int] = field(default_factory=dict)
    """Of each sender: transactions in blocks."""
    fees: ChainFees | None = None


class Outbox:
    """The outbox of one chain. ``step`` is to be called again and again."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        chain_id: int,
        signers: Sequence[Signer],
        profile: ChainProfile,
    ) -> None:
        self._clock = clock
        self._database = database
        self._chain_id = chain_id
        self._signers: Mapping[bytes, Signer] = {signer.address: signer for signer in signers}
        self._profile = profile

    # --- what others ask -------------------------------------------------------------------------

    async def submit(self, intent: Intent) -> int:
        """Want something on the chain; return its serial. Needs no chain.

        Durable on return. The same key again does nothing. Raises ``CONFLICT`` where the key was
        used for something else, ``BAD_REQUEST`` for a sender without a key here.
        """
        if intent.sender not in self._signers:
            raise _bad("no key of this sender is here", intent)
        if not 0 < len(intent.key) <= KEY_CHARACTERS_MAX or len(intent.data) > DATA_BYTES_MAX:
            raise _bad("its key or its data is too long", intent)
        if not 0 <= intent.value_wei < 1 << 256 or not 0 <= intent.gas <= GAS_MAX:
            raise _bad("its value or its gas is out of range", intent)
        now_ms = self._clock.now_ms()
        return await self._write(lambda c: store.put_intent(c, self._chain_id, intent, now_ms))

    async def status(self, key: str) -> IntentStatus | None:
        """Return how an intent stands; None for an unknown key."""
        return await self._database.read(lambda c: store.intent_by_key(c, self._chain_id, key))

    async def statuses(self, keys: Sequence[str]) -> list[IntentStatus | None]:
        """Return how intents stand, at one moment; None for an unknown key."""
        return await self._database.read(
            lambda c: [store.intent_by_key(c, self._chain_id, key) for key in keys]
        )

    async def ended_badly(self, limit: int) -> list[str]:
        """Return keys of intents that the contract undid or would undo, newest first.

        What was ``FINAL`` gets here where the chain forgot it and does not take it any more.
        """
        return await self._database.read(lambda c: store.ended_badly(c, self._chain_id, limit))

    async def state(self) -> OutboxState:
        """Return how the whole outbox stands."""

        def read(connection: Connection) -> OutboxState:
            found = store.counts(connection, self._chain_id)
            return OutboxState(
                wanted=found.get(IntentState.WANTED, 0),
                in_flight=found.get(IntentState.SIGNED, 0) + found.get(IntentState.MINED, 0),
                final=found.get(IntentState.FINAL, 0),
                failed=found.get(IntentState.FAILED, 0),
                refused=found.get(IntentState.REFUSED, 0),
                problems=tuple(store.problems(connection, self._chain_id, PROBLEMS_MAX)),
            )

        return await self._database.read(read)

    async def last_seen(self) -> tuple[int, int, int]:
        """Return the newest block seen, its time (s) and when it was seen (ms); -1, 0, 0 before."""
        return await self._database.read(lambda c: store.link(c, self._chain_id))

    # --- the step --------------------------------------------------------------------------------

    async def step(self, chain: Chain) -> int:
        """Bring everything forward as far as it goes now; return how many intents moved.

        Raises what the chain raises; nothing is lost by it. Raises ``CONFIG`` for another chain.
        """
        await check_chain(chain, self._chain_id)
        head = await chain.block()
        if head is None:
            raise AtollError(Kind.CORRUPT, "step outbox", "the chain has no newest block")
        now_ms = self._clock.now_ms()
        await self._write(lambda c: store.see_head(c, self._chain_id, head, now_ms))
        round_ = _Round(head)
        moved = 0
        for sender in await self._senders():
            nonce = round_.nonces[sender] = await chain.nonce(sender)
            moved += await self._reopen(sender, nonce)
            moved += await self._fill_gaps(chain, round_, sender, nonce)
        moved += await self._send(chain, round_)
        moved += await self._follow(chain, round_)
        moved += await self._sign_wanted(chain, round_)
        return moved

    async def _senders(self) -> list[bytes]:
        known = await self._database.read(lambda c: store.senders(c, self._chain_id))
        return [sender for sender in known if sender in self._signers]

    async def _reopen(self, sender: bytes, nonce: int) -> int:
        """Take back what stood in blocks that the chain does not have any more."""
        count = await self._database.read(
            lambda c: len(store.nonces_from(c, self._chain_id, sender, nonce))
        )
        if not count:
            return 0
        reopened = await self._write(lambda c: store.reopen(c, self._chain_id, sender, nonce))
        if reopened:
            log.warning("the chain lost %d transactions; they are sent again", reopened)
        return reopened

    async def _fill_gaps(self, chain: Chain, round_: _Round, sender: bytes, nonce: int) -> int:
        """Sign a transfer of nothing for each nonce that keeps later ones waiting.

        Nonces go missing where a database older than its last transactions was restored.
        """
        ours = await self._database.read(
            lambda c: store.nonces_from(c, self._chain_id, sender, nonce)
        )
        missing = rules.missing_nonces(nonce, ours)[:GAPS_MAX]
        if not missing:
            return 0
        fees = await self._fees(chain, round_)
        if fees is None:
            return 0
        now_ms = self._clock.now_ms()
        for number in missing:
            intent = Intent(f"gap/{sender.hex()}/{number}", sender, sender, b"", gas=FILLER_GAS)
            signed = self._signed(intent, number, FILLER_GAS, fees)

            def keep(
                connection: Connection,
                intent: Intent = intent,
                number: int = number,
                signed: Signed = signed,
            ) -> None:
                serial = store.put_filler(connection, self._chain_id, intent, number, now_ms)
                store.keep_signed(
                    connection, self._chain_id, serial, number, FILLER_GAS, signed, fees, now_ms
                )

            await self._write(keep)
        log.warning("%d nonces were missing; transfers of nothing fill them", len(missing))
        return len(missing)

    # --- sending ---------------------------------------------------------------------------------

    async def _send(self, chain: Chain, round_: _Round) -> int:
        """Send what is signed and in no block: the first time, again, or with a raised fee."""
        waiting = await self._database.read(
            lambda c: store.intents_in(c, self._chain_id, IntentState.SIGNED, STEP_INTENTS_MAX)
        )
        moved = 0
        for place in rules.sending_order([(s.intent.sender, s.nonce, s.serial) for s in waiting]):
            status = waiting[place]
            nonce = round_.nonces.get(status.intent.sender)
            if nonce is None or status.nonce < nonce:
                continue
            attempts = await self._attempts(status)
            if status.nonce == nonce and self._is_stuck(attempts):
                attempts = await self._raise_fee(chain, round_, status, attempts)
            moved += await self._send_one(chain, status, attempts)
        return moved

    async def _send_one(
        self, chain: Chain, status: IntentStatus, attempts: Sequence[Attempt]
    ) -> bool:
        chosen = next((a for a in attempts if a.hash == status.transaction), None) or attempts[0]
        now_ms = self._clock.now_ms()
        if chosen.sent_ms and now_ms - chosen.sent_ms < self._profile.resend_ms:
            return False
        problem = ""
        try:
            await chain.send_raw(chosen.raw)
        except AtollError as error:
            if error.kind is not Kind.CONFLICT:
                raise
            problem = error.message

        def keep(connection: Connection) -> None:
            store.note_sent(connection, self._chain_id, chosen.hash, now_ms)
            if problem != status.problem:
                store.note_problem(connection, self._chain_id, status.serial, problem)

        await self._write(keep)
        return not problem and not chosen.sent_ms

    def _is_stuck(self, attempts: Sequence[Attempt]) -> bool:
        newest = max((attempt.signed_ms for attempt in attempts), default=0)
        sent = any(attempt.sent_ms for attempt in attempts)
        waited_ms = self._clock.now_ms() - newest
        return sent and waited_ms >= self._profile.bump_ms and len(attempts) <= rules.BUMPS_MAX

    async def _raise_fee(
        self, chain: Chain, round_: _Round, status: IntentStatus, attempts: Sequence[Attempt]
    ) -> Sequence[Attempt]:
        """Sign the same again for more; every attempt is kept, any of them may win."""
        if round_.fees is None:
            round_.fees = await chain.fees()
        dearest = attempts[0]
        fees = rules.raised_fees(dearest.fee_wei_max, dearest.tip_wei, round_.fees, self._profile)
        if fees is None:
            await self._note(status, "the chain is dearer than the highest fee allowed")
            return attempts
        raised = fees
        signed = self._signed(status.intent, status.nonce, status.intent.gas, raised)
        now_ms = self._clock.now_ms()
        await self._write(
            lambda c: store.keep_signed(
                c,
                self._chain_id,
                status.serial,
                status.nonce,
                status.intent.gas,
                signed,
                raised,
                now_ms,
            )
        )
        log.info("raised the fee of %s to %d wei per gas", status.intent.key, raised[0])
        return await self._attempts(status)

    # --- following -------------------------------------------------------------------------------

    async def _follow(self, chain: Chain, round_: _Round) -> int:
        """See which transactions stand in blocks, and which under enough of them."""
        moved = 0
        for state in (IntentState.SIGNED, IntentState.MINED):

            def read(connection: Connection, state: IntentState = state) -> list[IntentStatus]:
                return store.intents_in(connection, self._chain_id, state, STEP_INTENTS_MAX)

            for status in await self._database.read(read):
                if status.intent.sender in self._signers:
                    moved += await self._follow_one(chain, round_, status)
        return moved

    async def _follow_one(self, chain: Chain, round_: _Round, status: IntentStatus) -> bool:
        found: ChainReceipt | None = None
        for attempt in await self._attempts(status):
            found = await chain.receipt(attempt.hash)
            if found is not None:
                break
        if found is None:
            return await self._follow_missing(round_, status)
        if found.block_number > round_.head.number:
            round_.head = await chain.block() or round_.head
        return await self._follow_receipt(chain, round_.head.number, status, found)

    async def _follow_receipt(
        self, chain: Chain, head: int, status: IntentStatus, found: ChainReceipt
    ) -> bool:
        final = head - found.block_number + 1 >= self._profile.confirmations
        if final:
            # The receipt's block must be the one at its height now, not one that lost.
            block = await chain.block(found.block_number)
            final = block is not None and block.hash == found.block_hash
        same = status.state is IntentState.MINED and status.block_hash == found.block_hash
        if same and not final:
            return False
        receipt = found
        await self._write(
            lambda c: store.keep_receipt(c, self._chain_id, status.serial, receipt, final=final)
        )
        if not found.succeeded and final:
            log.error("the contract undid %s", status.intent.key)
        return True

    async def _follow_missing(self, round_: _Round, status: IntentStatus) -> bool:
        """Judge an intent that is in no block, though its nonce may be used up."""
        if status.state is IntentState.MINED:
            await self._write(lambda c: store.lose_receipt(c, self._chain_id, status.serial))
            return True
        nonce = round_.nonces.get(status.intent.sender)
        if nonce is None or status.nonce >= nonce:
            return False
        # Somebody else used this key. Nothing of ours with this nonce can ever stand, once the
        # other transaction is settled: only then is it safe to sign the same intent anew.
        number = round_.head.number
        if status.missing_block < 0 or status.missing_block > number:
            await self._write(
                lambda c: store.note_missing(c, self._chain_id, status.serial, number)
            )
            return False
        if number - status.missing_block + 1 < self._profile.confirmations:
            return False
        filler = status.intent.key.startswith("gap/")
        await self._write(
            lambda c: (
                store.refuse(c, self._chain_id, status.serial, "the nonce was used after all")
                if filler
                else store.want_again(c, self._chain_id, status.serial)
            )
        )
        log.warning("another transaction used the nonce of %s", status.intent.key)
        return True

    # --- signing ---------------------------------------------------------------------------------

    async def _sign_wanted(self, chain: Chain, round_: _Round) -> int:
        """Sign what is wanted, in order, and send it; durable in between."""
        wanted = await self._database.read(
            lambda c: store.intents_in(c, self._chain_id, IntentState.WANTED, STEP_INTENTS_MAX)
        )
        moved = waiting = 0
        for status in wanted:
            if status.intent.sender not in self._signers:
                continue
            in_flight = await self._in_flight()
            if in_flight >= IN_FLIGHT_MAX:
                break
            fees = await self._fees(chain, round_)
            if fees is None:
                await self._note(status, "the chain is dearer than the highest fee allowed")
                break
            gas = await self._gas(chain, status, in_flight)
            if gas is None:
                waiting += 1
                if waiting >= WAITING_MAX:
                    break
                continue
            signed = await self._sign(chain, status, gas, fees)
            if signed is not None:
                await self._send_one(chain, signed, await self._attempts(signed))
                await self._follow_one(chain, round_, signed)
                moved += 1
        return moved

    async def _in_flight(self) -> int:
        found = await self._database.read(lambda c: store.counts(c, self._chain_id))
        return found.get(IntentState.SIGNED, 0)

    async def _gas(self, chain: Chain, status: IntentStatus, in_flight: int) -> int | None:
        """Return the gas limit; None where the intent has to wait, or was given up."""
        intent = status.intent
        if intent.gas:
            return intent.gas
        try:
            estimate = await chain.estimate_gas(
                ChainCall(intent.to, intent.data, intent.sender, intent.value_wei)
            )
        except AtollError as error:
            if error.kind not in _REFUSALS:
                raise
            problem = error.message
            # What it builds on may not be in a block yet, its time may be about to come, the
            # account may have no funds yet.
            waited_ms = self._clock.now_ms() - status.created_ms
            early = in_flight or waited_ms < self._profile.refuse_ms
            if early or error.kind is not Kind.PRECONDITION_FAILED:
                await self._note(status, problem)
                return None
        else:
            gas = rules.gas_limit(estimate)
            if gas is not None:
                return gas
            problem = f"it would take {estimate} gas, no block holds that"
        await self._write(lambda c: store.refuse(c, self._chain_id, status.serial, problem))
        log.error("%s is given up: %s", intent.key, problem)
        return None

    async def _sign(
        self, chain: Chain, status: IntentStatus, gas: int, fees: tuple[int, int]
    ) -> IntentStatus | None:
        """Give an intent its nonce and sign it, in one transaction of the database."""
        sender, serial = status.intent.sender, status.serial
        on_chain = await chain.nonce(sender)
        now_ms = self._clock.now_ms()

        def sign(connection: Connection) -> IntentStatus | None:
            store.lock_link(connection, self._chain_id)
            now = store.intent_by_serial(connection, self._chain_id, serial)
            if now is None or now.state is not IntentState.WANTED:
                return None  # another process was faster
            nonce = max(on_chain, store.nonce_after(connection, self._chain_id, sender))
            signed = self._signed(status.intent, nonce, gas, fees)
            store.keep_signed(connection, self._chain_id, serial, nonce, gas, signed, fees, now_ms)
            return store.intent_by_serial(connection, self._chain_id, serial)

        return await self._write(sign)

    def _signed(self, intent: Intent, nonce: int, gas: int, fees: tuple[int, int]) -> Signed:
        return self._signers[intent.sender].sign(
            Unsigned(
                chain_id=self._chain_id,
                nonce=nonce,
                to=intent.to,
                data=intent.data,
                value_wei=intent.value_wei,
                gas=gas,
                fee_wei_max=fees[0],
                tip_wei=fees[1],
            )
        )

    # --- small things ----------------------------------------------------------------------------

    async def _fees(self, chain: Chain, round_: _Round) -> tuple[int, int] | None:
        if round_.fees is None:
            round_.fees = await chain.fees()
        return rules.first_fees(round_.fees, self._profile)

    async def _attempts(self, status: IntentStatus) -> Sequence[Attempt]:
        return await self._database.read(
            lambda c: store.attempts_of(c, self._chain_id, status.serial, status.nonce)
        )

    async def _note(self, status: IntentStatus, problem: str) -> None:
        if problem != status.problem:
            await self._write(
                lambda c: store.note_problem(c, self._chain_id, status.serial, problem)
            )

    async def _write(self, function: Callable[[Connection], Result]) -> Result:
        return await self._database.write(function)


async def check_chain(chain: Chain, chain_id: int) -> None:
    """Raise ``CONFIG`` unless a server speaks for the chain that is meant."""
    found = await chain.chain_id()
    if found != chain_id:
        raise AtollError(
            Kind.CONFIG,
            "open chain",
            f"the server speaks for chain {found}, not {chain_id}",
            hint="set chain.url and chain.id so that they belong together",
        )


def has_ended(status: IntentStatus | None) -> bool:
    """Say whether nothing more will happen to an intent (short of a chain that forgets)."""
    return status is not None and status.state in ENDED


def _bad(message: str, intent: Intent) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "keep intent", message, about=intent.key[:80])
