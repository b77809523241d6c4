"""What the audit shows: verdicts, heads, verifiers and evidence, from the database alone."""

from atoll.coordinator.audit import store
from atoll.coordinator.audit.model import EXCLUDED, ProofTimes, Result
from atoll.coordinator.registry.service import RegistryService
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import Message
from atoll.core.messages.proofs import RESULTS_MAX, GetProofs, ProofList, ProofResult
from atoll.core.ports import Clock, Database
from atoll.core.proofs.heads import SignedHead
from atoll.core.proofs.signed import decode_statement, encode_statement

EVIDENCE_SHOWN_MAX = 50


class ProofPages:
    """Answers ``GetProofs``, in any process over the database."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        times: ProofTimes,
        coordinator_key: bytes,
    ) -> None:
        """Read from a database."""
        self._clock = clock
        self._database = database
        self._registry = registry
        self._times = times
        self._coordinator_key = coordinator_key

    async def get_proofs(self, request: GetProofs) -> Message:
        """Return verdicts, newest first, with what is needed to check them."""
        await self._registry.fresh()
        alias = self._alias_named(request)
        limit = min(max(1, request.limit), RESULTS_MAX)
        before = request.before_slot or store.SERIAL_END
        results = await self._database.read(
            lambda c: store.read_results(c, alias, before, limit, failed=request.failed_only)
        )
        heads = await self._database.read(store.all_heads)
        newest: dict[int, bytes] = {}
        for owner, _, body in heads:
            if alias in (0, owner) and decode_statement(body, SignedHead).node_signature:
                newest.setdefault(owner, body)
        evidence = await self._database.read(lambda c: store.read_evidence(c, EVIDENCE_SHOWN_MAX))
        rows = await self._database.read(store.all_verifiers)
        slot = self._clock.now_ms() // self._times.slot_ms
        return ProofList(
            time_ms=self._clock.now_ms(),
            slot=slot,
            epoch=slot // self._times.epoch_slots * self._times.epoch_slots,
            coordinator_key=self._coordinator_key,
            results=[self._shown(result) for result in results],
            verifiers=[row.place for row in rows],
            excluded=[row.place.key for row in rows if row.status == EXCLUDED],
            heads=[newest[owner] for owner in sorted(newest)][:RESULTS_MAX],
            chains=[encode_statement(chain) for row in rows for chain in row.chains],
            evidence=evidence,
        )

    def _alias_named(self, request: GetProofs) -> int:
        if not request.node:
            return request.alias
        wanted = request.node.removeprefix("n-").lower()
        found = [
            view.alias for view in self._registry.nodes() if view.node_id.hex().startswith(wanted)
        ]
        if not found and request.node.isdigit() and self._registry.node(int(request.node)):
            found = [int(request.node)]
        if len(found) != 1:
            raise AtollError(
                Kind.NOT_FOUND,
                "show proofs",
                f"{len(found) or 'no'} nodes are called {request.node!r}",
                hint="`atoll status` lists the nodes",
            )
        return found[0]

    def _shown(self, result: Result) -> ProofResult:
        view = self._registry.node(result.alias)
        return ProofResult(
            slot=result.slot,
            slot_ms=self._times.slot_ms,
            alias=result.alias,
            node_id=view.node_id if view is not None else b"",
            outcome=result.outcome,
            samples=result.samples,
            failed=result.failed,
            verdict=result.verdict,
            pieces=list(result.pieces),
        )
