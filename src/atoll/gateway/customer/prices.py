"""What storage costs, and what a provider's price would bring: any customer may ask."""

from atoll.core.messages.market import GetPrices, PreviewPrice, PricePreview, Prices
from atoll.gateway.customer.call import CustomerCall


async def prices(call: CustomerCall) -> Prices:
    """Return the prices of all classes."""
    return await call.services.control.ask(GetPrices(), Prices)


async def preview(call: CustomerCall) -> PricePreview:
    """Return what a node of a class would get at a price."""
    return await call.services.control.ask(call.read(PreviewPrice), PricePreview)
