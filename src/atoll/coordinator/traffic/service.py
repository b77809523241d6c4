"""Takes nodes' claims for reads, checks them against the orders it issued, and adds them up.

Nobody is believed: the gateway's signature says what it had, the order in it was issued here, for
that gateway, that node and at most so many bytes, and an order counts once, whoever shows it how
often. Who pays is whose segment it is, by the database. What a claim brings is written in one
transaction with the memory of its orders.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.service import RegistryService
from atoll.coordinator.traffic import rules, store
from atoll.coordinator.traffic.model import (
    FORGET_PAUSE_S,
    REMEMBERED_MS,
    OrderRead,
    ReadLine,
    SignedReceipt,
    evidence_of,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SHORT_ID_BYTES, node_id_of
from atoll.core.messages import Message
from atoll.core.messages.traffic import (
    CLAIM_ORDERS_MAX,
    CLAIMS_MAX,
    ClaimedReads,
    ClaimReads,
    ReadClaim,
)
from atoll.core.ports import Clock, Database
from atoll.core.receipts import SIGNED_HEAD_BYTES, gateway_signed, node_signed, parse_read_receipt

log = logging.getLogger("atoll.coordinator.traffic")


class TrafficService(Part):
    """What accounts read at which nodes, receipt by receipt."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        registry: RegistryService,
        *,
        public_key: bytes,
        settlement_key: bytes,
    ) -> None:
        """``public_key``: the coordinator's; ``settlement_key``: by which it knows its orders."""
        self._clock = clock
        self._database = database
        self._registry = registry
        self._public_key = public_key
        self._settlement_key = settlement_key
        self.node_handlers = {ClaimReads: self._claim}
        self.steps = [Step("forget read orders", self.forget, FORGET_PAUSE_S)]

    async def forget(self) -> int:
        """Forget orders that are too old to be claimed for; return how many."""
        before_ms = self._clock.now_ms() - REMEMBERED_MS
        return await self._database.write(lambda c: store.forget_orders(c, before_ms))

    # --- claims ---

    async def _claim(self, request: ClaimReads, prover: bytes, _: int) -> Message:
        return await self.claim(request, prover)

    async def claim(self, request: ClaimReads, prover: bytes) -> ClaimedReads:
        """Settle what a node claims; one claim that does not hold refuses only itself.

        Raises ``FORBIDDEN`` for a node that is not registered, ``TOO_LARGE`` for too many claims.
        """
        await self._registry.fresh()
        alias = self._registry.alias_of(node_id_of(prover))
        if alias is None:
            raise AtollError(Kind.FORBIDDEN, "claim reads", "the node is not registered here")
        orders = sum(len(claim.limits) for claim in request.claims)
        if len(request.claims) > CLAIMS_MAX or orders > CLAIM_ORDERS_MAX:
            raise AtollError(
                Kind.TOO_LARGE,
                "claim reads",
                f"at most {CLAIMS_MAX} receipts and {CLAIM_ORDERS_MAX} orders at a time",
            )
        checked = [self._check(alias, claim, prover) for claim in request.claims]

        def write(connection: Connection) -> list[tuple[int, int]]:
            store.lock_node(connection, alias)
            return [
                _settle(connection, alias, one) if isinstance(one, _Checked) else (0, 0)
                for one in checked
            ]

        settled = await self._database.write(write)
        return ClaimedReads(
            refused=[one if isinstance(one, str) else "" for one in checked],
            byte_counts=[byte_count for byte_count, _ in settled],
            orders_refused=sum(left_out for _, left_out in settled),
        )

    def _check(self, alias: int, claim: ReadClaim, prover: bytes) -> "_Checked | str":
        """Return a claim whose signatures hold, with the orders that do, or why it is refused."""
        try:
            receipt = parse_read_receipt(claim.receipt)
            rules.check_parties(receipt, node_id_of(prover), self._public_key)
            orders = rules.orders_of(
                receipt, claim.limits, self._settlement_key, self._clock.now_ms()
            )
            if orders and not gateway_signed(claim.receipt):
                raise _unsigned("the gateway did not sign this receipt")
            if orders and not node_signed(claim.receipt, prover, claim.signature):
                raise _unsigned("the node did not sign this receipt")
        except AtollError as error:
            log.warning("node %d: a claim does not hold: %s", alias, error)
            return error.kind.value
        signed = SignedReceipt(
            # Another gateway cannot put its receipts in place of this one's.
            hashlib.sha256(receipt.of.gateway_key + receipt.of.tab).digest()[:SHORT_ID_BYTES],
            receipt.sequence,
            0,
            claim.receipt[:SIGNED_HEAD_BYTES],
            prover,
            claim.signature,
        )
        return _Checked(orders, len(receipt.entries), signed)

    # --- epochs ---

    def settle(self, connection: Connection, epoch: int, node_ids: Mapping[int, bytes]) -> None:
        """Fix all that counts so far as an epoch's, in the transaction that closes it."""
        store.lock_all(connection)
        receipts = store.receipts_of(connection, 0)
        lines = []
        for line in store.lines_of(connection, 0):
            node_id = node_ids.get(line.alias, b"")
            evidence = evidence_of(epoch, node_id, line, receipts.get(line.alias, ()))
            lines.append(ReadLine(line.alias, line.account, line.byte_count, evidence))
        store.settle(connection, epoch, lines)

    def lines(self, connection: Connection, epoch: int) -> list[ReadLine]:
        """Return the lines of a closed epoch (0: of the one that goes on), in order."""
        return store.lines_of(connection, epoch)

    async def explain(
        self, evidence: bytes
    ) -> tuple[int, ReadLine, bytes, list[SignedReceipt]] | None:
        """Return epoch, line, node id and receipts that an evidence stands for, if any."""
        await self._registry.fresh()

        def load(connection: Connection) -> tuple[int, ReadLine, list[SignedReceipt]] | None:
            found = store.by_evidence(connection, evidence)
            if found is None:
                return None
            epoch, line = found
            return epoch, line, store.receipts_at(connection, epoch, line.alias)

        found = await self._database.read(load)
        if found is None or not evidence:
            return None
        epoch, line, receipts = found
        node_ids = {view.alias: view.node_id for view in self._registry.nodes()}
        return epoch, line, node_ids.get(line.alias, b""), receipts


@dataclass(frozen=True, slots=True)
class _Checked:
    """A claim that may be settled."""

    orders: list[OrderRead]
    entries: int
    signed: SignedReceipt


def _settle(connection: Connection, alias: int, claim: _Checked) -> tuple[int, int]:
    """Settle one claim; return the bytes that count now, and how many orders do not."""
    fresh, accounts = rules.counted(
        claim.orders,
        store.settled(connection, alias, claim.orders),
        store.payers(connection, claim.orders),
    )
    byte_count = sum(accounts.values())
    if fresh:
        store.put_orders(connection, alias, fresh)
        store.add(connection, alias, accounts, replace(claim.signed, byte_count=byte_count))
    return byte_count, claim.entries - len(fresh)


def _unsigned(message: str) -> AtollError:
    return AtollError(Kind.UNAUTHENTICATED, "claim reads", message)
