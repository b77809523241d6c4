"""A watcher as it runs: reads what is proposed, judges it, and sends what strikes it down.

What is sent goes through an outbox: it is durable before it is signed, and signed before it is
sent, under a key that names the attempt. Everything else is found out again after a restart, so a
watcher may be killed between any two steps.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from sqlalchemy.engine import Connection

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainCall, ChainLog, Clock, Compute, Database, Disk
from atoll.economy.chain.anvil import fund
from atoll.economy.chain.model import Intent, IntentState
from atoll.economy.chain.outbox import Outbox, check_chain, has_ended
from atoll.economy.chain.signer import Signer
from atoll.economy.settlement.fraud import shown_chunk
from atoll.economy.settlement.source import Source
from atoll.watcher import rules, store
from atoll.watcher.config import WatcherConfig
from atoll.watcher.contract import Distributor
from atoll.watcher.judge import Judge
from atoll.watcher.model import (
    NEVER,
    Case,
    Demand,
    Judged,
    Proposed,
    Snapshot,
    Strike,
    Verdict,
    Windows,
)

EMBEDDED_PAUSE_S: Final = 0.5
PUBLIC_PAUSE_S: Final = 4.0
"""Between steps: chains make a block every few seconds."""
IDLE_PAUSE_S: Final = 1.0
"""Between steps on an embedded chain while nothing is to be found out."""
FUND_PAUSE_S: Final = 60.0
"""Until it is looked again whether an account of an embedded chain can pay fees."""
LOOK_PAUSE_S: Final = 2.0
"""Until a document that was nowhere is looked for again."""
RANGE_BLOCKS: Final = 2_000
RANGES_MAX: Final = 200
"""Ranges of blocks that one step reads."""
OVERLAP_BLOCKS: Final = 64
"""Read again each time: a chain may have branched."""
DEMANDS_READ_MAX: Final = 4_096
"""Demands of one proposal that are followed."""
ACCUSED_ATTEMPTS: Final = 32
"""Older proposals are not looked at after a start."""
TRIES_MAX: Final = 8
"""Of one call that was refused or undone while it is still wanted."""
EMBEDDED_FLOAT_MICRO: Final = 1_000_000_000
"""What a watcher draws from the tap of an embedded chain when it lacks fees."""
_AWAY: Final = frozenset({Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OVERLOADED, Kind.NOT_FOUND})
log = logging.getLogger(__name__)

Open = Callable[[], Awaitable[Chain]]
Result = TypeVar("Result")


class WatcherService:
    """Watches one distributor. ``start`` begins, ``stop`` ends; ``step`` is one round."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        disk: Disk,
        compute: Compute,
        open_chain: Open,
        distributor: bytes,
        sources: Sequence[Source],
        signer: Signer,
        secret: bytes,
        config: WatcherConfig,
    ) -> None:
        """``secret``: 32 bytes that nobody foretells which chunks are asked for by."""
        self._clock = clock
        self._database = database
        self._open = open_chain
        self._chain: Chain | None = None
        self._signer = signer
        self._secret = secret
        self._config = config
        self._address = distributor
        self._contract: Distributor | None = None
        self._outbox = Outbox(clock, database, config.chain_id, [signer], config.profile)
        self._judge = Judge(sources, disk, compute, self._history)
        self._case: Case | None = None
        self._scanned = -1
        self._last_root = b""
        self._funded = NEVER
        self._accused = 0
        """Signers of struck proposals up to this attempt were taken to the court."""
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        """Why it does not watch now, in words; empty while it does."""

    async def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """End; what is wanted stays in the outbox."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop_case()
        chain, self._chain = self._chain, None
        close = getattr(chain, "close", None)
        if close is not None:
            await close()

    async def _run(self) -> None:
        while True:
            try:
                await self.step()
                self._note("")
            except AtollError as error:
                self._note(str(error))
            except Exception:
                # One round's bug must not end the watch.
                log.exception("a round failed")
            await self._clock.sleep(self._pause_s())

    def _pause_s(self) -> float:
        if not self._config.embedded:
            return PUBLIC_PAUSE_S
        busy = self._case is not None and not rules.is_settled(self._case)
        return EMBEDDED_PAUSE_S if busy else IDLE_PAUSE_S

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("watching waits: %s", problem) if problem else log.info("watching")

    # --- one round -----------------------------------------------------------------------------

    async def step(self) -> None:
        """Read, judge, send. Raises what the chain raises, and ``CONFIG``; nothing is lost."""
        chain = await self._ready()
        await self._outbox.step(chain)
        contract = self._contract
        assert contract is not None
        await self._scan(chain, contract)
        snapshot = await contract.snapshot(chain)
        case = self._case_of(snapshot)
        wanted = await self._due(chain, contract, snapshot)
        if case is not None:
            windows = await contract.windows(chain)
            demands = await self._demands(chain, contract, case)
            await self._look(chain, case, snapshot, demands)
            most = await self._demands_max(snapshot)
            wanted += rules.calls(case, snapshot, windows, demands, self._secret, most)
            wanted = await self._affordable(chain, contract, windows, case, wanted)
        for key, name, given in wanted:
            await self._want(key, contract.call(name, given))
        if self._config.accuse:
            await self._accuse(chain, contract, snapshot)
        if wanted:
            await self._outbox.step(chain)
        if case is not None and rules.is_settled(case):
            await self._check_figures(case)
        await self._forget(snapshot)

    async def _ready(self) -> Chain:
        if self._chain is None:
            self._chain = await self._open()
        chain, config = self._chain, self._config
        await check_chain(chain, config.chain_id)
        now = self._clock.monotonic()
        if config.embedded and now - self._funded >= FUND_PAUSE_S:
            await fund(chain, self._signer.address)
            self._funded = now
        if self._contract is None:
            contract = Distributor(self._address, self._clock, embedded=config.embedded)
            await contract.open(chain)
            self._contract = contract
        return chain

    def _case_of(self, snapshot: Snapshot) -> Case | None:
        """Return the case of what stands open; a new one where it is new."""
        proposal, case = snapshot.proposal, self._case
        if proposal is None:
            self._drop_case()
        elif case is None or (case.proposal.attempt, case.proposal.root, case.proposal.content) != (
            proposal.attempt,
            proposal.root,
            proposal.content,
        ):
            log.info("epoch %d was proposed, attempt %d", proposal.epoch, proposal.attempt)
            self._drop_case()
            self._case = Case(proposal)
        else:
            case.proposal = proposal
        return self._case

    def _drop_case(self) -> None:
        if self._case is not None:
            self._case.let_go()
        self._case = None

    # --- judging -------------------------------------------------------------------------------

    async def _look(
        self, chain: Chain, case: Case, snapshot: Snapshot, demands: Sequence[Demand]
    ) -> None:
        """Bring what is known of a proposal up to date.

        Whatever a document does to who reads it, its leaves are demanded in time.
        """
        try:
            judged = self._by_document(case, snapshot)
            if judged is None and case.verdict in (Verdict.UNKNOWN, Verdict.UNSHOWN):
                await self._read_shown(chain, case, demands)
                judged = await self._judge.by_shown(case, snapshot)
        except AtollError as error:
            if error.kind in _AWAY:
                raise
            log.warning("attempt %d is not judged: %s", case.proposal.attempt, error)
            return
        except Exception:
            log.exception("attempt %d is not judged", case.proposal.attempt)
            return
        if judged is None or judged.verdict is case.verdict:
            return
        case.verdict, case.problem = judged.verdict, judged.problem
        case.fault, case.tree = judged.fault, judged.tree
        if judged.verdict is Verdict.UNCHECKED:
            case.looked = NEVER  # the last final leaves are looked for at once
        self._tell(case)
        await self._keep(case)

    def _by_document(self, case: Case, snapshot: Snapshot) -> Judged | None:
        """Look for the document, again and again, and return what it came to."""
        if case.verdict not in (Verdict.UNKNOWN, Verdict.UNCHECKED):
            return None
        now = self._clock.monotonic()
        task = case.judging
        if task is None:
            if now - case.looked >= LOOK_PAUSE_S:
                known = case.verdict is Verdict.UNCHECKED
                looking = self._judge.by_document(case.proposal, snapshot, search=known)
                case.judging = asyncio.create_task(looking, name="judge")
            return None
        if not task.done():
            return None
        case.judging, case.looked = None, now
        return task.result()

    def _tell(self, case: Case) -> None:
        proposal = case.proposal
        words = f"epoch {proposal.epoch}, attempt {proposal.attempt}: {case.verdict.value}"
        if case.verdict is Verdict.HONEST:
            log.info("%s", words)
        else:
            log.warning("%s: %s", words, case.problem)

    async def _keep(self, case: Case) -> None:
        await self._database.write(
            partial(
                store.put_case,
                distributor=self._address,
                attempt=case.proposal.attempt,
                verdict=case.verdict,
                problem=case.problem,
            )
        )

    async def _read_shown(self, chain: Chain, case: Case, demands: Sequence[Demand]) -> None:
        """Read the leaves of answers from the transactions that brought them."""
        contract = self._contract
        assert contract is not None
        proposal = case.proposal
        for demand in demands:
            if not demand.answered_by or demand.chunk in case.shown:
                continue
            call = await chain.sent(demand.answered_by)
            found = None if call is None else contract.read_answer(call)
            if found is None or found[0] != demand.chunk:
                continue
            try:
                case.shown[demand.chunk] = shown_chunk(proposal.root, proposal.count, *found)
            except AtollError as error:
                log.warning("the answer for chunk %d is none: %s", demand.chunk, error.message)

    async def _check_figures(self, case: Case) -> None:
        """Say once whether a document's figures follow from its lines."""
        if case.figures is None:
            figuring = self._judge.figures(case.proposal)
            case.figures = asyncio.create_task(figuring, name="compute again")
            return
        if case.figures_told or not case.figures.done():
            return
        case.figures_told = True
        wrong = case.figures.result()
        if wrong:
            log.error("epoch %d does not come out: %s", case.proposal.epoch, wrong)
            case.problem = f"its figures do not follow from its lines: {wrong}"
            await self._keep(case)

    async def _forget(self, snapshot: Snapshot) -> None:
        """Keep no more leaves than can be of use."""
        if snapshot.last_root == self._last_root:
            return
        self._last_root = snapshot.last_root
        standing = snapshot.proposal
        needed = {snapshot.last_root, standing.root if standing is not None else b""}
        await self._judge.forget_but(frozenset(needed))

    # --- money and calls -----------------------------------------------------------------------

    async def _affordable(
        self,
        chain: Chain,
        contract: Distributor,
        windows: Windows,
        case: Case,
        wanted: Sequence[rules.Call],
    ) -> list[rules.Call]:
        """Return what can be paid for now; see that the rest can be soon."""
        fees = rules.fees_of(wanted, windows)
        if not fees:
            return list(wanted)
        own = self._signer.address
        balance = await contract.balance_micro(chain, own)
        attempt = case.proposal.attempt
        if balance < fees and self._config.embedded:
            tap = contract.tap(own, max(fees, EMBEDDED_FLOAT_MICRO))
            await self._want(f"{attempt}/faucet", tap, contract.stable)
        elif balance < fees:
            log.warning("0x%s has %d of %d micro that demands cost", own.hex(), balance, fees)
        allowed = await contract.allowance_micro(chain, own)
        if allowed < fees:
            await self._want(f"{attempt}/approve", contract.approval(fees), contract.stable)
        room = min(balance, allowed) // max(1, windows.fee_micro)
        kept: list[rules.Call] = []
        for call in wanted:
            if call[1] == "demand":
                if room <= 0:
                    continue
                room -= 1
            kept.append(call)
        await self._outbox.step(chain)
        return kept

    async def _demands_max(self, snapshot: Snapshot) -> int:
        """Return how many chunks may be demanded of one proposal now."""
        lost = await self._read(
            partial(
                store.lost,
                distributor=self._address,
                demander=self._signer.address,
                after=snapshot.attempts - 1 - rules.LOSSES_ATTEMPTS,
            )
        )
        return rules.demands_allowed(lost, self._config.demands_max)

    async def _want(self, key: str, data: bytes, to: bytes = b"") -> None:
        """Want a call once; again where it was refused or undone and is wanted still."""
        contract = self._contract
        assert contract is not None
        base = f"{self._address.hex()[:16]}/{key}"
        for number in range(1, TRIES_MAX + 1):
            name = base if number == 1 else f"{base}/{number}"
            status = await self._outbox.status(name)
            if status is None:
                log.info("sends %s", key)
                await self._outbox.submit(
                    Intent(name, self._signer.address, to or self._address, data)
                )
                return
            if not has_ended(status) or status.state is IntentState.FINAL:
                return

    async def _accuse(self, chain: Chain, contract: Distributor, snapshot: Snapshot) -> None:
        """Take to the court who signed what we showed to be wrong; once each."""
        rows = await self._read(
            partial(
                store.fraudulent,
                distributor=self._address,
                challenger=self._signer.address,
                after=max(self._accused, snapshot.attempts - ACCUSED_ATTEMPTS),
            )
        )
        for one in rows:
            calls = await contract.accusations(chain, one)
            for number, data in enumerate(calls):
                try:
                    await chain.call(ChainCall(contract.court, data, self._signer.address))
                except AtollError as error:
                    if error.kind is not Kind.PRECONDITION_FAILED:
                        raise
                    continue  # it was punished before
                await self._want(f"{one.attempt}/accuse/{number}", data, contract.court)
            self._accused = one.attempt

    async def _due(
        self, chain: Chain, contract: Distributor, snapshot: Snapshot
    ) -> list[rules.Call]:
        """Return the calls that bring back fees of demands whose proposal is gone."""
        own = self._signer.address
        found: list[Demand] = []
        rows = await self._read(
            partial(
                store.unsettled,
                distributor=self._address,
                demander=own,
                limit=self._config.demands_max,
            )
        )
        for attempt, chunk in rows:
            if snapshot.proposal is not None and attempt == snapshot.attempts:
                continue
            demand = await contract.demand(chain, attempt, chunk)
            if demand.open and demand.deadline_s:
                found.append(demand)
            else:
                await self._database.write(
                    partial(
                        store.settle_demand,
                        distributor=self._address,
                        attempt=attempt,
                        chunk=chunk,
                    )
                )
        return rules.to_reclaim(found, own, snapshot)

    # --- what the chain told -------------------------------------------------------------------

    async def _demands(self, chain: Chain, contract: Distributor, case: Case) -> list[Demand]:
        """Return the demands of an open proposal, as they stand now."""
        attempt = case.proposal.attempt
        rows = await self._read(
            partial(
                store.demands_of,
                distributor=self._address,
                attempt=attempt,
                limit=DEMANDS_READ_MAX,
            )
        )
        found = [
            await contract.demand(chain, attempt, chunk, answered_by) for chunk, answered_by in rows
        ]
        return [demand for demand in found if demand.deadline_s]

    async def _history(self, epoch: int) -> Sequence[Proposed]:
        return await self._read(partial(store.proposals_of, distributor=self._address, epoch=epoch))

    async def _scan(self, chain: Chain, contract: Distributor) -> None:
        """Read what the distributor said since the last round."""
        head = await chain.block()
        if head is None or head.number == self._scanned:
            return
        read_to = await self._read(partial(store.read_to, distributor=self._address))
        first = self._config.first_block
        if read_to is not None:
            first = max(first, min(read_to, head.number) + 1 - OVERLAP_BLOCKS)
        width = RANGE_BLOCKS
        for _ in range(RANGES_MAX):
            if first > head.number:
                break
            last = min(head.number, first + width - 1)
            try:
                logs = await chain.logs(first, last, [self._address])
            except AtollError as error:
                if error.kind is not Kind.TOO_LARGE or width == 1:
                    raise
                width = max(1, width // 2)
                continue
            await self._take_logs(contract, logs, last)
            first = last + 1
        if first > head.number:
            self._scanned = head.number

    async def _take_logs(self, contract: Distributor, logs: Sequence[ChainLog], last: int) -> None:
        told = [one for one in map(contract.told, logs) if one is not None]

        def keep(connection: Connection) -> list[Strike]:
            news = []
            for one in told:
                if isinstance(one, Proposed):
                    store.put_proposal(connection, self._address, one)
                elif isinstance(one, Strike):
                    news += [one] if store.put_strike(connection, self._address, one) else []
                elif one[0] == "Demanded":
                    store.put_demand(connection, self._address, *one[1:])
                else:
                    store.put_answer(connection, self._address, *one[1:])
            store.set_read_to(connection, self._address, last)
            return news

        for one in await self._database.write(keep):
            if one.challenger == self._signer.address:
                log.warning(
                    "epoch %d, attempt %d fell: %d micro of its bond are ours",
                    one.epoch,
                    one.attempt,
                    one.reward_micro,
                )

    async def _read(self, function: Callable[[Connection], Result]) -> Result:
        return await self._database.read(function)
