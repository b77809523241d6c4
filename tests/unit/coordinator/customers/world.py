"""A gateway over a real coordinator that bills; only the nodes' disks are a dictionary."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tests.fixtures.bank import OPERATOR, Row, Sheet, Tx, camt
from tests.unit.coordinator.market.providers import provider
from tests.unit.coordinator.metadata.world import StillClock
from tests.unit.gateway.world import ACCESS, CODEC, SECRET, STRANGER, Customer, MemoryObjects

from atoll.coordinator.app import Coordinator
from atoll.coordinator.audit import store as audit_store
from atoll.coordinator.audit.model import PASSED, Result
from atoll.coordinator.audit.model import PROFILES as PROOF_PROFILES
from atoll.coordinator.billing.model import BillingConfig
from atoll.coordinator.config import CoordinatorConfig
from atoll.coordinator.customers.admission import Admission
from atoll.coordinator.customers.books import Books
from atoll.coordinator.customers.invoices import InvoiceDesk
from atoll.coordinator.customers.model import CustomersConfig, InvoiceConfig, Times
from atoll.coordinator.customers.parts import CustomerLoops
from atoll.coordinator.customers.removal import Removal
from atoll.coordinator.customers.service import CustomersService
from atoll.coordinator.metering.model import MeteringConfig
from atoll.core.capsule import StreamOrigin
from atoll.core.identity import Identity
from atoll.core.messages import (
    BucketInfo,
    Heartbeat,
    Message,
    NodeCounters,
    NodeFacts,
    OrderSegment,
    Register,
    SegmentGrant,
    SegmentRecord,
    SignedFacts,
    StoredPiece,
    encode,
)
from atoll.core.messages.customers import Bill, GetBill, ImportStatement, StatementTaken
from atoll.core.orders import parse_order
from atoll.core.ports import Compute
from atoll.economy.ledger.model import Account, AccountKind, Entry, Posting
from atoll.economy.ledger.service import LedgerService
from atoll.economy.payments.invoices.model import Party, Vat
from atoll.economy.payments.reference import reference_of
from atoll.gateway.app import Gateway
from atoll.runtime.clock import SystemClock
from atoll.runtime.database import SqlDatabase
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng
from atoll.runtime.transport import HttpPieceTransport

EUR = 10**12
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LENGTH_MS = 6 * HOUR_MS
TIMES = Times(3 * DAY_MS, 14 * DAY_MS, 30 * DAY_MS)
START_MS = 1_793_491_200_000 + 10 * DAY_MS
"""11 November 2026."""
ANNA, BEN = b"a" * 16, b"b" * 16
COORDINATOR = Identity(b"c" * 32)
GATEWAY = Identity(b"g" * 32)
NODES = 6
INVOICES = InvoiceConfig(
    OPERATOR, Party(OPERATOR.name, ("Hafen 1", "20095 Hamburg")), "A", Vat(0, "no VAT")
)
CONFIG = CustomersConfig(
    times=TIMES, enforced=True, charged=True, invoices=INVOICES, fresh_s=0.0, time_factor=1
)
Found = TypeVar("Found")


class OrderedObjects(MemoryObjects):
    """Places segments by the coordinator's orders, as an upload does; keeps them in memory."""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__()
        self.coordinator = coordinator

    async def write_object(
        self,
        bucket: BucketInfo,
        key: str,
        size: int,
        source: AsyncIterator[memoryview],
        origin: StreamOrigin | None = None,
    ) -> list[SegmentRecord]:
        question = OrderSegment(
            bucket=bucket.bucket, plain_bytes=size, gateway_key=GATEWAY.public_key
        )
        grant = await self.coordinator.ask(question, SegmentGrant)
        self.kept[grant.segment] = b"".join([bytes(view) async for view in source])
        nodes = {one.node_id: one.alias for one in self.coordinator.registry.nodes()}
        pieces = [
            StoredPiece(index=index, alias=nodes[parse_order(one.order).node_id])
            for index, one in enumerate(grant.grants[: grant.n])
        ]
        return [
            SegmentRecord(
                segment=grant.segment,
                serial=grant.serial,
                plain_bytes=size,
                k=grant.k,
                n=grant.n,
                unit_bytes=grant.unit_bytes,
                root=bytes(32),
                wrapped_key=b"wrapped",
                pieces=pieces,
            )
        ]


class World:
    """Two customers, six providers, an operator with a bank account; time stands still."""

    def __init__(
        self, database: SqlDatabase, folder: Path, compute: Compute, **changes: Any
    ) -> None:
        self.database = database
        self.clock = StillClock(START_MS)
        self.transport = HttpPieceTransport()
        self.compute = compute
        disk = FolderDisk(folder)
        config = replace(CONFIG, epochs=disk, **changes)
        self.coordinator = Coordinator(
            self.clock,
            SystemRng(),
            database,
            self.transport,
            compute,
            COORDINATOR,
            CoordinatorConfig(
                billing=BillingConfig(LENGTH_MS, disk, time_factor=config.time_factor),
                metering=MeteringConfig(1.0),
                customers=config,
            ),
            loops=True,
        )
        self.slot_ms = PROOF_PROFILES["local"].slot_ms
        self.slot = self.clock.time_ms // self.slot_ms
        self.ledger = LedgerService(self.clock, database)
        self.customers = self._part(CustomersService)
        self.admission = self._part(Admission)
        self.invoices = self._part(InvoiceDesk)
        self.loops = self._part(CustomerLoops)
        self.books = Books(database, compute, disk, _secret(COORDINATOR, b"epoch-pseudonyms/1"))
        self.removal = Removal(self.clock, database)
        self.gateway = Gateway(
            control=self.coordinator,
            objects=OrderedObjects(self.coordinator),
            clock=SystemClock(),
            rng=SystemRng(),
            compute=compute,
            codec=CODEC,
        )
        self.anna = Customer(self.gateway)
        self.ben = Customer(self.gateway, *STRANGER)

    def _part(self, kind: type[Found]) -> Found:
        found = [one for one in self.coordinator.parts if isinstance(one, kind)]
        assert len(found) == 1
        return found[0]

    async def begin(self) -> None:
        metadata = self.coordinator.metadata
        await metadata.create_credential(ANNA, "Anna", ACCESS, SECRET)
        await metadata.create_credential(BEN, "Ben", *STRANGER)
        for number in range(1, NODES + 1):
            await self._join(number)
        assert self.coordinator.billing is not None
        assert await self.coordinator.billing.advance(), "epochs begin"

    async def _join(self, number: int) -> None:
        identity = provider(number)
        facts = encode(
            NodeFacts(
                public_key=identity.public_key, operator=f"o{number}", site=f"s{number}",
                region="eu", country="DE", tier="home", host=f"127.0.{number}.1", port=9_003,
                fingerprint=b"", capacity_bytes=4 * 10**12, price_micro=0, version="1",
                payout_account=b"pay" + number.to_bytes(17, "big"),
            )
        )  # fmt: skip
        signed = SignedFacts(facts=facts, signature=identity.sign(b"node-facts/1", facts))
        registry = self.coordinator.registry
        now_ms = self.clock.time_ms
        await registry.register(Register(signed_facts=signed), identity.public_key, now_ms)
        counters = NodeCounters(
            used_bytes=0, trash_bytes=0, free_bytes=4 * 10**12, pieces=0, put_bytes=0,
            get_bytes=0, errors=0,
        )  # fmt: skip
        beat = Heartbeat(time_ms=now_ms, incarnation=1, full=False, counters=counters)
        await registry.heartbeat(beat, identity.public_key)

    async def close(self) -> None:
        await self.transport.close()

    # --- time -------------------------------------------------------------------------------

    async def wait(self, milliseconds: int) -> None:
        """Let time pass without an epoch, then judge."""
        self.clock.time_ms += milliseconds
        await self.coordinator.metering.read()
        await self.customers.judge()

    async def pass_epoch(self, *, proven: bool = True) -> None:
        """Let an epoch's time pass and settle it; nodes prove what they hold, or do not."""
        self.clock.time_ms += LENGTH_MS + 5 * self.slot_ms
        await self.coordinator.metering.read()
        end = self.clock.time_ms // self.slot_ms
        aliases = [one.alias for one in self.coordinator.registry.nodes()]
        if proven:
            for slot in range(self.slot, end, max(1, (end - self.slot) // 10)):
                for alias in aliases:
                    result = Result(slot, alias, PASSED, 32, 0, (), os.urandom(20))
                    await self.database.write(lambda c, r=result: audit_store.add_result(c, r))
        self.slot = end
        assert self.coordinator.billing is not None
        for _ in range(3):
            assert await self.coordinator.billing.advance()
        assert await self.books.take()
        assert not await self.books.take(), "there is no other epoch"

    # --- money ------------------------------------------------------------------------------

    async def deposit(self, account: bytes, amount_pico: int) -> None:
        """Give a customer a balance, or take from it, past the bank."""
        operator = Account.of(AccountKind.OPERATOR)
        postings = (
            Posting(operator, amount_pico),
            Posting(Account.of(AccountKind.CUSTOMER, account), -amount_pico),
        )
        await self.ledger.post(Entry(os.urandom(16), "deposit", b"test", postings))
        await self.customers.judge()

    async def balance(self, account: bytes) -> int:
        return (await self.ledger.balance(Account.of(AccountKind.CUSTOMER, account))).amount_pico

    async def bill(self, account: bytes = ANNA, month: str = "") -> Bill:
        return await self.ask(GetBill(account=account, month=month), Bill)

    async def ask(self, request: Message, answer: type[Any]) -> Any:
        return await self.coordinator.ask(request, answer)

    async def bank_says(self, data: bytes, *, dry_run: bool = False) -> StatementTaken:
        found: StatementTaken = await self.ask(
            ImportStatement(data=data, dry_run=dry_run), StatementTaken
        )
        return found


def transfer(account: bytes, cents: int, reference: str = "X1") -> Row:
    """An entry of a statement by which a customer pays in."""
    return Row((Tx(cents, structured=reference_of(account)),), reference)


def statement(*rows: Row, **more: Any) -> bytes:
    return camt(Sheet(rows, **more))


def _secret(identity: Identity, purpose: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(identity.sign(purpose, b"")).digest()


def plain(facts: Any) -> Any:
    """A message as JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(facts))
