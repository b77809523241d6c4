"""A customer's bucket on three nodes, billed; and all that pays the nodes' owners."""

from tests.fixtures.bank import OPERATOR
from tests.unit.coordinator.billing.test_billing import (
    COORDINATOR,
    EUR,
    LENGTH_MS,
    SECRET,
)
from tests.unit.coordinator.billing.test_billing import World as BilledWorld
from tests.unit.coordinator.market.providers import provider
from typing_extensions import override

from atoll.coordinator.billing.model import BillingConfig
from atoll.coordinator.billing.service import BillingService
from atoll.coordinator.part import Part
from atoll.coordinator.payouts.bank import PayoutBank
from atoll.coordinator.payouts.desk import PayoutDesk
from atoll.coordinator.payouts.earnings import EarningsService, ProviderBook
from atoll.coordinator.payouts.seal import Seal
from atoll.core.messages import Answer, Message
from atoll.core.messages.payouts import (
    BankWordsTaken,
    GetEarnings,
    NodeEarnings,
    OpenPayouts,
    PayoutFileWritten,
    PayoutsOpened,
    PayoutTerms,
    SetPayout,
    TakeBankWords,
    WritePayoutFile,
)
from atoll.economy.payments.accounts import BankAccount
from atoll.runtime.disk import FolderDisk
from atoll.runtime.rng import SystemRng

FACTOR = 10**8
"""Forty megabytes for ten minutes are some cents then."""
SEAL = Seal(b"s" * 32, SystemRng())
ADA_NAME, ADA_IBAN = "Ada Łowicz", "NL91ABNA0417164300"
BERT_NAME, BERT_IBAN = "Bert & Söhne", "DE75512108001245126199"


class World(BilledWorld):
    """Three nodes that earn cents; the third one's owner has named no bank account."""

    debtor: BankAccount | None = OPERATOR

    @override
    def biller(self, disk: FolderDisk | None = None, length_max_ms: int = 0) -> BillingService:
        return BillingService(
            self.clock,
            self.database,
            self.compute,
            self.providers.registry,
            self.market,
            self.meters,
            BillingConfig(
                LENGTH_MS,
                disk or FolderDisk(self.folder),
                length_max_ms=length_max_ms,
                time_factor=FACTOR,
            ),
            public_key=COORDINATOR.public_key,
            secret=SECRET,
            providers=ProviderBook(),
        )

    def earnings(self) -> EarningsService:
        """A process that knows only what is durable."""
        return EarningsService(
            self.clock, self.database, self.providers.registry, self.biller(), SEAL
        )

    def desk(self) -> PayoutDesk:
        return PayoutDesk(
            self.clock,
            SystemRng(),
            self.database,
            COORDINATOR,
            self.providers.registry,
            SEAL,
            None,
            lambda: self.debtor,
        )

    def bank(self) -> PayoutBank:
        return PayoutBank(
            self.clock, self.database, self.compute, SEAL, lambda: self.debtor, on_chain=False
        )

    async def as_node(self, number: int, request: Message, answer: type[Answer]) -> Answer:
        """Ask as a node does."""
        if isinstance(request, SetPayout):
            self.clock.time_ms += 1
        part: Part = self.earnings() if isinstance(request, GetEarnings) else self.desk()
        handle = part.node_handlers[type(request)]
        found = await handle(request, provider(number).public_key, self.clock.time_ms)
        assert isinstance(found, answer)
        return found

    async def as_operator(self, request: Message, answer: type[Answer]) -> Answer:
        """Ask as the operator does."""
        self.clock.time_ms += 1
        part: Part = self.desk() if isinstance(request, OpenPayouts) else self.bank()
        found = await part.handlers[type(request)](request)
        assert isinstance(found, answer)
        return found

    async def earned(self, number: int, days: int = 31) -> NodeEarnings:
        return await self.as_node(number, GetEarnings(days=days), NodeEarnings)

    async def name_banks(self) -> None:
        for number, name, iban in ((1, ADA_NAME, ADA_IBAN), (2, BERT_NAME, BERT_IBAN)):
            wish = SetPayout(method="euro", name=name, iban=iban)
            await self.as_node(number, wish, PayoutTerms)

    async def earn(self) -> None:
        """Begin, name bank accounts, let an epoch pass and settle it."""
        await self.begin(prepaid_pico=1_000 * EUR)
        await self.name_banks()
        await self.pass_epoch()
        await self.settle()

    async def open(self) -> PayoutsOpened:
        return await self.as_operator(OpenPayouts(), PayoutsOpened)

    async def file(self, **given: str) -> PayoutFileWritten:
        return await self.as_operator(WritePayoutFile(**given), PayoutFileWritten)

    async def hear(self, data: bytes) -> BankWordsTaken:
        return await self.as_operator(TakeBankWords(data=data), BankWordsTaken)
