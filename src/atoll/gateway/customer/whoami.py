"""Who a signed request comes from: the account, and where this gateway serves."""

import msgspec

from atoll.gateway.customer.call import CustomerCall


class Whoami(msgspec.Struct, frozen=True):
    """The account that a credential belongs to."""

    account: str
    """Hex."""
    owner_name: str
    access_key: str
    region: str


async def whoami(call: CustomerCall) -> Whoami:
    """Return the caller."""
    caller = call.caller
    return Whoami(
        account=caller.account.hex(),
        owner_name=caller.owner_name,
        access_key=caller.access_key,
        region=call.services.config.region,
    )
