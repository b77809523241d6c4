"""From a disqualification for lost data to the epoch and to the bond.

A node that was disqualified gets a case with a file that anybody can check; the next epoch that is
closed takes what was held of it; verifiers sign a verdict, and it is carried out on the chain. Each
step is durable, and each goes on after a kill. Without a chain the last two are left out.
"""

import logging
from functools import partial

from atoll.coordinator.audit import store as audit_store
from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.model import NodeView
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.reputation.model import Standing
from atoll.coordinator.reputation.service import ReputationService
from atoll.coordinator.settlement.model import WantedStatement
from atoll.coordinator.settlement.service import SettlementService
from atoll.coordinator.settlement.views import COURT
from atoll.coordinator.settlement.wanting import Standing as Stand
from atoll.coordinator.settlement.wanting import Wants
from atoll.coordinator.slashing import rules, store
from atoll.coordinator.slashing.model import (
    AGAIN_MS,
    CASES_PAGE_MAX,
    LOOK_S,
    RESULTS_READ,
    Case,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import show_node
from atoll.core.ports import Clock, Compute, Database
from atoll.core.proofs.loss import Loss, check_loss
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.settlement.slashes import LossStated, loss_statement
from atoll.economy.settlement.wire import encode_rows

log = logging.getLogger("atoll.coordinator.slashing")
_END_SLOT = 1 << 62


class SlashingService(Part):
    """Opens cases, and has their verdicts signed and carried out."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        compute: Compute,
        registry: RegistryService,
        reputation: ReputationService,
        settlement: SettlementService | None = None,
    ) -> None:
        """``settlement``: the way to the chain, where there is one."""
        self._clock = clock
        self._database = database
        self._compute = compute
        self._registry = registry
        self._reputation = reputation
        self._settlement = settlement
        self._accused: set[int] | None = None
        """Aliases of nodes that have a case, as far as this process knows."""
        self._again_ms: dict[int, int] = {}
        self._asked: set[bytes] = set()
        self._told: dict[int, str] = {}
        """What kept a verdict from going on, as told last."""
        self._wants: Wants | None = None
        if settlement is not None:
            link = settlement.link
            self._wants = Wants(link.outbox, link.operator.address)
        self.steps = [Step("slash lost data", self.step, LOOK_S)]

    async def step(self) -> None:
        """Open cases that are due; bring settled ones to the chain."""
        for view in await self._unaccused():
            await self._accuse(view)
        if self._settlement is None:
            return
        limit = CASES_PAGE_MAX
        for case in await self._database.read(partial(store.to_carry_out, limit=limit)):
            try:
                await self._carry_out(case, self._settlement)
            except AtollError as error:
                # The others do not wait for it.
                known = self._told.get(case.alias) == str(error)
                self._told[case.alias] = str(error)
                level = logging.DEBUG if error.meaning.transient or known else logging.ERROR
                log.log(level, "verdict on %s: %s", show_node(case.node_id), error)

    # --- cases ------------------------------------------------------------------------------

    async def _unaccused(self) -> list[NodeView]:
        """Return nodes that were disqualified and have no case, but those looked at just now."""
        gone = [
            view
            for view in self._registry.nodes()
            if self._reputation.standing(view.alias) is Standing.DISQUALIFIED
        ]
        if not gone:
            return []
        if self._accused is None or any(view.alias not in self._accused for view in gone):
            self._accused = await self._database.read(store.accused)
        known, now_ms = self._accused, self._clock.now_ms()
        return [
            view
            for view in gone
            if view.alias not in known and self._again_ms.get(view.alias, 0) <= now_ms
        ]

    async def _accuse(self, view: NodeView) -> None:
        """Open a case against a node, if its verdicts show the loss."""
        self._again_ms[view.alias] = self._clock.now_ms() + AGAIN_MS
        results = await self._database.read(
            lambda c: audit_store.read_results(c, view.alias, _END_SLOT, RESULTS_READ)
        )
        run = await self._compute.run(rules.run_of, results)
        beacons = {}
        for verdict, _ in run:
            found = await self._database.read(partial(audit_store.read_beacon, slot=verdict.slot))
            if found is not None:
                beacons[verdict.slot] = found
        body = rules.loss_file(run, beacons)
        if body is None:
            log.warning(
                "%s is disqualified, but its latest verdicts do not show a loss by themselves",
                show_node(view.node_id),
            )
            return
        # What others will check is checked here first.
        loss = await self._compute.run(check_loss, body)
        case = Case(
            evidence=loss.evidence,
            alias=view.alias,
            node_id=view.node_id,
            owner=view.facts.payout_account,
            reporter=await self._reporter(loss),
            opened_ms=self._clock.now_ms(),
            first_slot=loss.first_slot,
            last_slot=loss.last_slot,
            samples=loss.samples,
            failed=loss.failed,
        )
        if await self._database.write(partial(store.put_case, case=case, body=body)):
            log.warning(
                "%s lost data: %d of %d samples failed in slots %d to %d; evidence %s",
                show_node(view.node_id),
                loss.failed,
                loss.samples,
                loss.first_slot,
                loss.last_slot,
                loss.evidence.hex(),
            )

    async def _reporter(self, loss: Loss) -> bytes:
        """Return the account of the first verifier that signed and has one; empty for nobody."""
        if self._settlement is None:
            return b""
        accounts = await self._settlement.statements.accounts()
        return next((accounts[key] for key in loss.signers if key in accounts), b"")

    # --- the bond ---------------------------------------------------------------------------

    def _stated(self, case: Case, settlement: SettlementService) -> LossStated:
        return LossStated(
            node_id=case.node_id,
            owner=case.owner,
            evidence=case.evidence,
            epoch=case.epoch,
            customer_account=settlement.link.operator.address,
            reporter=case.reporter,
        )

    async def _carry_out(self, case: Case, settlement: SettlementService) -> None:
        """Have a settled case's verdict signed, then carried out; one step of it."""
        stated = self._stated(case, settlement)
        statement = loss_statement(stated)
        wanted = WantedStatement(
            statement.kind,
            statement.subject,
            statement.epoch,
            statement.stated,
            encode_rows([stated]),
        )
        desk = settlement.statements
        if case.evidence not in self._asked:
            await desk.ask(wanted)
            self._asked.add(case.evidence)
        key = f"slash/{case.evidence.hex()}"
        assert self._wants is not None
        if not await self._wants.is_wanted(key) and not await desk.is_agreed(wanted):
            return

        async def make() -> tuple[bytes, bytes]:
            signatures = await desk.signatures(wanted)
            call = abi.call_data(load(COURT), "carry_out", stated.values(), signatures)
            return await settlement.views.address_of(COURT), call

        done = await self._wants.want(key, make)
        if done.standing is Stand.GIVEN_UP:
            raise AtollError(
                Kind.PRECONDITION_FAILED,
                "carry out verdict",
                f"the court refuses the verdict on {show_node(case.node_id)}: {done.problem}",
                hint="`atoll chain status` shows what was refused",
            )
        if done.standing is Stand.DONE:
            await desk.close(wanted)
            await self._database.write(
                partial(store.carry_out, evidence=case.evidence, transaction=done.transaction)
            )
            log.info("the verdict on %s is carried out", show_node(case.node_id))
