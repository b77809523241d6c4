"""Brings epochs on their way: published, signed, proposed, final, claimed.

What happened on the chain is taken over from its events; what is to happen there is an intent of
the outbox, with a key that follows from the epoch and the attempt. Both are durable, and a step
decides from them alone: a process may be killed between any two.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy.engine import Connection

from atoll.coordinator.billing.model import SettlementFacts
from atoll.coordinator.settlement import rules, store
from atoll.coordinator.settlement.documents import Documents
from atoll.coordinator.settlement.model import (
    CLAIMS_AT_ONCE_MAX,
    EPOCHS_AT_ONCE_MAX,
    SIGNATURES_KEPT_EPOCHS,
    Cursor,
    SettlementRow,
    State,
    WantedStatement,
)
from atoll.coordinator.settlement.statements import StatementDesk
from atoll.coordinator.settlement.takeover import Takeover
from atoll.coordinator.settlement.views import COURT, DISTRIBUTOR, Views
from atoll.coordinator.settlement.wanting import MakeCall, Standing, Wanted, Wants
from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Clock, Database
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.deploy import TEST_STABLE
from atoll.economy.chain.link import ChainLink
from atoll.economy.settlement.fraud import chunk_level, leaf_words, path_words
from atoll.economy.settlement.statement import StatementKind
from atoll.economy.settlement.sumtree import SumTree

Funded = Callable[[int], Awaitable[bool]]
"""Says whether the distributor has what an epoch's leaves need: released and held together."""
ADOPTED_AT_ONCE: Final = 100
OPEN_ROWS_MAX: Final = 100
DEMANDS_AT_ONCE_MAX: Final = 64
ALLOWANCE_MICRO: Final = (1 << 256) - 1
"""The distributor may take bonds from the operator's account without being allowed each time."""
FAUCET_BONDS: Final = 10
"""On an embedded chain so many bonds are drawn from the faucet at once."""
PREPARED_MAX: Final = 10_000
"""How often a bond is drawn or allowed."""
_AWAY: Final = frozenset({Kind.UNREACHABLE, Kind.TIMEOUT, Kind.OVERLOADED})
log = logging.getLogger("atoll.coordinator.settlement")


class Progress:
    """The way of epochs to the chain."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        link: ChainLink,
        views: Views,
        statements: StatementDesk,
        documents: Documents,
    ) -> None:
        self._clock = clock
        self._database = database
        self._link = link
        self._views = views
        self._statements = statements
        self._documents = documents
        self._takeover = Takeover(database, link, views)
        self._wants = Wants(link.outbox, link.operator.address)
        self._quorum = 0
        self._groups: tuple[int, int, list[rules.ClaimGroup]] = (0, -1, [])
        """Epoch, serial of the last event then, and which claims were missing."""
        self.funded: Funded | None = None
        """Nothing is proposed while this is None."""

    async def step(self) -> None:
        """Bring everything on as far as it goes now. Chains that are away are no error."""
        try:
            await self._step()
        except AtollError as error:
            if error.kind not in _AWAY:
                raise
            log.debug("settlement waits: %s", error)

    async def _step(self) -> None:
        await self._adopt()
        await self._takeover.step()
        cursor = await self._cursor()
        await self._sign(cursor)
        await self._propose(cursor)
        for row in await self._rows(State.PROPOSED, 1):
            await self._answer(row)
            await self._finalise(row)
        for row in await self._rows(State.FINAL, 1):
            await self._claim(row)

    async def _rows(self, state: State, limit: int) -> list[SettlementRow]:
        return await self._database.read(partial(store.in_state, state=state, limit=limit))

    async def _cursor(self) -> Cursor:
        return await self._database.read(partial(store.cursor, chain=self._link.config.chain_id))

    async def _move(self, before: SettlementRow, after: SettlementRow) -> bool:
        if before == after:
            return False
        moved = await self._database.write(partial(store.move, before=before, after=after))
        if moved and before.state is not after.state:
            log.info("epoch %d is %s", after.epoch, after.state.value)
        return moved

    async def _note(self, row: SettlementRow, problem: str) -> None:
        await self._move(row, replace(row, problem=problem[: store.PROBLEM_CHARACTERS_MAX]))

    # --- published ------------------------------------------------------------------------------

    async def _adopt(self) -> None:
        """Take over what was published since."""
        newest = await self._database.read(store.newest)
        after = newest.epoch if newest else 0
        for found in await self._documents.published(after, ADOPTED_AT_ONCE):
            index = await self._documents.index(found.epoch, found.content)
            row = SettlementRow(
                epoch=found.epoch,
                state=State.PUBLISHED if index.leaf_count else State.EMPTY,
                content=found.content,
                root=index.root,
                count=index.leaf_count,
                released_micro=index.released_micro,
                held_micro=index.held_micro,
            )
            await self._database.write(partial(store.put, row=row))

    # --- signed ---------------------------------------------------------------------------------

    async def _sign(self, cursor: Cursor) -> None:
        """Want signatures for the next attempt; note which epochs have enough."""
        rows = await self._rows(State.PUBLISHED, OPEN_ROWS_MAX)
        rows += await self._rows(State.SIGNED, OPEN_ROWS_MAX)
        chosen = [row for row in rules.to_sign(rows) if row.epoch > cursor.proposed_epoch]
        if not chosen:
            return
        court = await self._views.court()
        attempt = cursor.attempts + 1
        if any(row.attempt != attempt for row in chosen):
            wanted = [rules.statement_of(row, court, attempt) for row in chosen]
            ask = partial(self._ask_in, rows=chosen, wanted=wanted, attempt=attempt)
            await self._database.write(ask)
        self._quorum = await self._views.quorum()
        for row in await self._rows(State.PUBLISHED, OPEN_ROWS_MAX):
            if row.attempt == attempt and await self._is_signed(row):
                await self._move(row, replace(row, state=State.SIGNED, problem=""))
            elif not await self._views.ask(COURT, "verifiers"):
                await self._note(row, "the court on the chain knows no verifiers")

    async def _is_signed(self, row: SettlementRow) -> bool:
        court = await self._views.court()
        wanted = rules.statement_of(row, court, row.attempt)
        if await self._statements.count(wanted) < self._quorum:
            return False
        return await self._statements.is_agreed(wanted)

    def _ask_in(
        self,
        connection: Connection,
        rows: Sequence[SettlementRow],
        wanted: Sequence[WantedStatement],
        attempt: int,
    ) -> None:
        """Want these statements and no others over roots; epochs are signed anew if they must."""
        store.close_kind(connection, int(StatementKind.ROOT))
        for one in wanted:
            self._statements.ask_in(connection, one)
        for row in rows:
            if row.attempt != attempt:
                after = replace(row, state=State.PUBLISHED, attempt=attempt, problem="")
                store.move(connection, row, after)

    # --- proposed -------------------------------------------------------------------------------

    async def _propose(self, cursor: Cursor) -> None:
        """Propose the newest signed epoch that has its funds, once nothing else is proposed."""
        if cursor.proposed_epoch or not self._takeover.caught_up:
            return
        signed = [
            row
            for row in await self._rows(State.SIGNED, EPOCHS_AT_ONCE_MAX)
            if row.attempt == cursor.attempts + 1
        ]
        # One proposal at a time: two for one attempt would only undo each other.
        begun = [row for row in signed if await self._wants.is_wanted(_propose_key(row))]
        for row in begun or signed:
            if not begun and not await self._is_funded(row):
                await self._note(row, "it waits for its funds")
                continue
            await self._propose_one(row, begun=bool(begun))
            return

    async def _propose_one(self, row: SettlementRow, *, begun: bool) -> None:
        problem = "" if begun else await self._bond_problem()
        if problem:
            await self._note(row, problem)
            return
        wanted = await self._wants.want(_propose_key(row), partial(self._proposal, row))
        if wanted.standing is Standing.GIVEN_UP:
            await self._move(row, replace(row, state=State.REJECTED, problem=_said(wanted)))
            return
        # What was there for the bond may have been spent since.
        missing = await self._bond_problem() if wanted.problem else ""
        await self._note(row, missing or wanted.problem)

    async def _is_funded(self, row: SettlementRow) -> bool:
        return self.funded is not None and await self.funded(row.epoch)

    async def _proposal(self, row: SettlementRow) -> tuple[bytes, bytes]:
        court = await self._views.court()
        tree = await self._documents.tree(row.epoch, row.content)
        signatures = await self._statements.signatures(rules.statement_of(row, court, row.attempt))
        return await self._call(
            "propose",
            row.epoch,
            rules.top_of(tree),
            row.released_micro,
            row.held_micro,
            row.count,
            row.content,
            signatures,
        )

    async def _bond_problem(self) -> str:
        """See that the operator's account can pay the bond; say what is missing."""
        operator = self._link.operator.address
        distributor = await self._views.address_of(DISTRIBUTOR)
        bond = await self._views.parameter("proposer_bond_micro")
        if await self._views.balance_micro(operator) < bond:
            if not self._link.config.embedded:
                return (
                    f"the operator's account has less than the bond of {bond} micro-euro:"
                    " send it stablecoin (atoll chain status shows the account)"
                )
            amount = bond * FAUCET_BONDS
            return await self._again("settlement/faucet", "faucet", operator, amount)
        if await self._views.allowance_micro(operator, distributor) < bond:
            return await self._again("settlement/allow", "approve", distributor, ALLOWANCE_MICRO)
        return ""

    async def _again(self, key: str, function: str, *values: Any) -> str:
        """Want a call of the stablecoin, also where it was done before and is used up.

        Return what is waited for, in words.
        """

        async def make() -> tuple[bytes, bytes]:
            return await self._views.stable(), abi.call_data(load(TEST_STABLE), function, *values)

        for number in range(1, PREPARED_MAX):
            wanted = await self._wants.want(f"{key}/{number}", make)
            if wanted.standing is not Standing.DONE:
                return _said(wanted) or f"the bond is being prepared ({function})"
        return f"{function} was called too often"

    # --- final ----------------------------------------------------------------------------------

    async def _answer(self, row: SettlementRow) -> None:
        """Show the chunks that somebody asked for."""
        chunks = await self._database.read(
            partial(store.demands, attempt=row.attempt, limit=DEMANDS_AT_ONCE_MAX)
        )
        for chunk in chunks:
            key = f"epoch/{row.epoch}/answer/{row.attempt}/{chunk}"
            await self._wants.want(key, partial(self._shown, row, chunk))

    async def _shown(self, row: SettlementRow, chunk: int) -> tuple[bytes, bytes]:
        tree = await self._documents.tree(row.epoch, row.content)
        opening = tree.open(chunk_level(tree.count), chunk)
        leaves = [leaf_words(leaf) for leaf in opening.leaves]
        return await self._call("answer", chunk, leaves, path_words(opening.path))

    async def _finalise(self, row: SettlementRow) -> None:
        """Make a proposal final whose window is over."""
        if self._clock.now_ms() < row.ends_s * 1000:
            return
        if await self._database.read(partial(store.demands, attempt=row.attempt, limit=1)):
            return
        key = f"epoch/{row.epoch}/finalise/{row.attempt}"
        wanted = await self._wants.want(key, partial(self._call, "finalise"))
        await self._note(row, _said(wanted))

    # --- claimed --------------------------------------------------------------------------------

    async def _claim(self, row: SettlementRow) -> None:
        """Claim for all accounts of the newest final epoch, batch by batch."""
        tree = await self._documents.tree(row.epoch, row.content)
        waiting, unpaid, problem, last_block = 0, 0, "", -1
        for group in await self._unclaimed(row, tree):
            make = _claim_maker(self._call, tree, row.epoch, group)
            wanted = await self._wants.want(f"epoch/{row.epoch}/claim/{group.name}", make)
            problem = problem or wanted.problem
            unpaid += group.unpaid
            last_block = max(last_block, wanted.block_number)
            waiting += wanted.standing is Standing.WAITING
            if waiting >= CLAIMS_AT_ONCE_MAX:
                break
        if waiting or not await self._has_seen(last_block):
            await self._note(row, problem)
            return
        said = f"{unpaid} accounts cannot be paid: {problem or 'the stablecoin refuses'}"
        await self._claimed(row, said if unpaid else "")

    async def _unclaimed(self, row: SettlementRow, tree: SumTree) -> list[rules.ClaimGroup]:
        """Return what was not claimed yet, as of the events that were taken over."""
        epoch, serial, groups = self._groups
        now = (await self._cursor()).serial
        if (epoch, serial) != (row.epoch, now):
            claimed = await self._database.read(store.claimed_by_account)
            groups = list(rules.claim_groups(tree, claimed))
            self._groups = (row.epoch, now, groups)
        return groups

    async def _has_seen(self, block_number: int) -> bool:
        """Say whether all that was said up to a block was taken over."""
        return self._takeover.caught_up and await self._link.watcher.read_to() >= block_number

    async def _claimed(self, row: SettlementRow, problem: str) -> None:
        """Note that all was sent: with it all that earlier epochs had released."""
        earlier = await self._rows(State.FINAL, OPEN_ROWS_MAX)

        def write(connection: Connection) -> None:
            after = replace(row, state=State.CLAIMED, problem=problem)
            store.move(connection, row, after)
            for one in earlier:
                if one.epoch < row.epoch:
                    store.move(connection, one, replace(one, state=State.CLAIMED))
            oldest = row.epoch - SIGNATURES_KEPT_EPOCHS
            store.prune(connection, int(StatementKind.ROOT), oldest)

        await self._database.write(write)
        self._documents.forget()
        log.info("epoch %d is claimed%s", row.epoch, problem and f": {problem}")

    async def _call(self, function: str, *values: Any) -> tuple[bytes, bytes]:
        address = await self._views.address_of(DISTRIBUTOR)
        return address, abi.call_data(load(DISTRIBUTOR), function, *values)

    # --- facts ----------------------------------------------------------------------------------

    async def facts(self, epochs: Sequence[int]) -> dict[int, SettlementFacts]:
        """Return what is told of epochs that were taken over; asks no chain."""
        contracts = await self._link.contracts()
        court = await self._views.court() if DISTRIBUTOR in contracts else None

        def read(connection: Connection) -> dict[int, SettlementFacts]:
            found = {}
            for epoch in epochs:
                row = store.one(connection, epoch)
                if row is None:
                    continue
                count = 0
                if row.attempt and court is not None:
                    one = rules.statement_of(row, court, row.attempt)
                    count = len(
                        store.signatures(connection, one.kind, one.subject, one.epoch, one.stated)
                    )
                found[epoch] = _facts(row, count, self._quorum)
            return found

        return await self._database.read(read)


def _claim_maker(
    call: Callable[..., Awaitable[tuple[bytes, bytes]]],
    tree: SumTree,
    epoch: int,
    group: rules.ClaimGroup,
) -> MakeCall:
    async def make() -> tuple[bytes, bytes]:
        name, values = rules.claim_call(tree, epoch, group)
        return await call(name, *values)

    return make


def _propose_key(row: SettlementRow) -> str:
    return f"epoch/{row.epoch}/propose/{row.attempt}"


def _said(wanted: Wanted) -> str:
    """Return what is in the way of something wanted, in words."""
    if wanted.standing is Standing.GIVEN_UP:
        return f"given up: {wanted.problem}"
    return wanted.problem


def _facts(row: SettlementRow, signatures: int, quorum: int) -> SettlementFacts:
    def shown(hash_: bytes) -> str:
        return "0x" + hash_.hex() if hash_ else ""

    return SettlementFacts(
        state=row.state.value,
        attempt=row.attempt,
        signatures=signatures,
        quorum=quorum,
        ends_s=row.ends_s,
        proposed_transaction=shown(row.proposed_transaction),
        final_transaction=shown(row.final_transaction),
        claimed_micro=row.claimed_micro,
        problem=row.problem,
    )
