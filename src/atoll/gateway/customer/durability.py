"""What the cloud has measured about its durability: churn, healing, margins."""

import msgspec

from atoll.core.messages.repairs import GetRepairFigures, RepairFigures
from atoll.core.messages.upgrades import GetUpgrades, UpgradeStatus
from atoll.gateway.customer.call import CustomerCall


class _Question(msgspec.Struct, frozen=True):
    days: int = 30


async def durability(call: CustomerCall) -> RepairFigures:
    """Return the figures of the last days; any customer may know how well his data is kept."""
    question = call.read(_Question)
    control = call.services.control
    figures = await control.ask(GetRepairFigures(days=question.days), RepairFigures)
    upgrades = await control.ask(GetUpgrades(), UpgradeStatus)
    return msgspec.structs.replace(figures, upgrades=upgrades)
