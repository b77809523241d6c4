"""What nodes proved lately, for everybody who asks: verdicts, heads, verifiers, evidence."""

import msgspec

from atoll.core.messages.proofs import RESULTS_MAX, GetProofs, ProofList
from atoll.gateway.customer.call import CustomerCall


class ProofsQuestion(msgspec.Struct, frozen=True):
    """Which verdicts."""

    node: str = ""
    """Beginning of a node's id; empty for all."""
    before_slot: int = 0
    limit: int = 20
    failed_only: bool = False


async def proofs(call: CustomerCall) -> ProofList:
    """Return verdicts, newest first."""
    asked = call.read(ProofsQuestion)
    question = GetProofs(
        node=asked.node,
        before_slot=max(0, asked.before_slot),
        limit=min(max(1, asked.limit), RESULTS_MAX),
        failed_only=asked.failed_only,
    )
    return await call.services.control.ask(question, ProofList)
