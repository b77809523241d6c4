"""A customer's bill, budget, billing address and invoices: told to himself alone."""

import msgspec

from atoll.core.messages import Done
from atoll.core.messages.customers import (
    Bill,
    BillingAddress,
    BillingAddressFacts,
    GetBill,
    GetBillingAddress,
    GetInvoice,
    InvoiceDocument,
    InvoiceList,
    ListInvoices,
    SetBillingAddress,
    SetBudget,
)
from atoll.gateway.customer.call import CustomerCall


class _Month(msgspec.Struct, frozen=True):
    month: str = ""


class _Budget(msgspec.Struct, frozen=True):
    budget_eur: str = ""
    """Empty for none."""
    stops: bool = True


class _Number(msgspec.Struct, frozen=True):
    number: str


class _Limit(msgspec.Struct, frozen=True):
    limit: int = 100


async def bill(call: CustomerCall) -> Bill:
    """Return a month of the caller's account. Raises ``BAD_REQUEST`` for what is no month."""
    asked = call.read(_Month)
    question = GetBill(account=call.caller.account, month=asked.month)
    return await call.services.control.ask(question, Bill)


async def set_budget(call: CustomerCall) -> Bill:
    """Set the caller's budget of a month; return his bill as it is then."""
    asked = call.read(_Budget)
    question = SetBudget(
        account=call.caller.account, budget_eur=asked.budget_eur, stops=asked.stops
    )
    await call.services.control.ask(question, Done)
    return await call.services.control.ask(GetBill(account=call.caller.account), Bill)


async def set_address(call: CustomerCall) -> BillingAddressFacts:
    """Say to whom the caller's invoices are written."""
    question = SetBillingAddress(account=call.caller.account, address=call.read(BillingAddress))
    await call.services.control.ask(question, Done)
    return await address(call)


async def address(call: CustomerCall) -> BillingAddressFacts:
    """Return to whom the caller's invoices are written."""
    question = GetBillingAddress(account=call.caller.account)
    return await call.services.control.ask(question, BillingAddressFacts)


async def invoices(call: CustomerCall) -> InvoiceList:
    """Return the caller's invoices, the newest first."""
    question = ListInvoices(account=call.caller.account, limit=call.read(_Limit).limit)
    return await call.services.control.ask(question, InvoiceList)


async def invoice(call: CustomerCall) -> InvoiceDocument:
    """Return one of the caller's invoices. Raises ``NOT_FOUND``, also for somebody else's."""
    question = GetInvoice(account=call.caller.account, number=call.read(_Number).number)
    return await call.services.control.ask(question, InvoiceDocument)
