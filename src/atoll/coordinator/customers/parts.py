"""The parts of customers put together: who answers, and what is done again and again."""

from atoll.coordinator.customers.admission import Admission
from atoll.coordinator.customers.bank import BankDesk
from atoll.coordinator.customers.books import Books
from atoll.coordinator.customers.invoices import InvoiceDesk
from atoll.coordinator.customers.model import CustomersConfig
from atoll.coordinator.customers.removal import Removal
from atoll.coordinator.customers.service import CustomersService
from atoll.coordinator.market.service import MarketService
from atoll.coordinator.part import Part, Step
from atoll.coordinator.registry.service import RegistryService
from atoll.core.ports import Clock, Compute, Database

INVOICES_PAUSE_S = 60.0
BOOKS_PAUSE_S = 1.0
SET_ASIDE_EVERY = 10
"""Judgements between two looks at what is locked."""


class CustomerLoops(Part):
    """Brings the books up to date, judges customers, writes invoices, removes what is unpaid."""

    def __init__(
        self,
        customers: CustomersService,
        admission: Admission,
        invoices: InvoiceDesk,
        books: Books | None,
        removal: Removal,
    ) -> None:
        """Where nothing is charged there is nothing to do."""
        config, steps = customers.config, []
        if config.charged:
            steps = [
                Step("judge customers", customers.judge, config.pause_s),
                Step("write invoices", invoices.write, INVOICES_PAUSE_S),
            ]
        if books is not None:
            steps.append(Step("take epochs over", books.take, BOOKS_PAUSE_S))
        if config.enforced:
            pause_s = SET_ASIDE_EVERY * config.pause_s
            steps.append(Step("set aside for locks", admission.set_aside_all, pause_s))
            steps.append(Step("remove what is unpaid", removal.step, config.pause_s))
        self.steps = steps


def parts_of(
    clock: Clock,
    database: Database,
    compute: Compute,
    registry: RegistryService,
    market: MarketService,
    config: CustomersConfig,
    *,
    secret: bytes,
) -> tuple[Admission, list[Part]]:
    """Return who says what is set aside, and all parts.

    ``secret`` is the one that pseudonyms of epochs are made with.
    """
    customers = CustomersService(clock, database, registry, market, config)
    invoices = InvoiceDesk(clock, database, customers)
    bank = BankDesk(clock, database, compute, customers)
    books = None
    if config.epochs is not None:
        books = Books(database, compute, config.epochs, secret)
    admission = Admission(clock, database, customers)
    loops = CustomerLoops(customers, admission, invoices, books, Removal(clock, database))
    return admission, [customers, admission, invoices, bank, loops]
