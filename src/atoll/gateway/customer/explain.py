"""Where an object's pieces are, and why: for the owner of its bucket."""

import msgspec

from atoll.core.messages.policy import ExplainObject, ObjectExplained
from atoll.gateway.customer.call import CustomerCall


class ExplainAsked(msgspec.Struct, frozen=True):
    """Body of ``object-explain``."""

    bucket: str
    key: str
    after_segment: int = 0
    limit: int = 100


async def explain(call: CustomerCall) -> ObjectExplained:
    """Explain an object of the caller."""
    asked = call.read(ExplainAsked)
    bucket = await call.bucket(asked.bucket, served=False)
    question = ExplainObject(
        bucket=bucket.bucket,
        key=asked.key,
        after_segment=asked.after_segment,
        limit=asked.limit,
    )
    return await call.services.control.ask(question, ObjectExplained)
