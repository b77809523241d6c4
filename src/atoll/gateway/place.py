"""Where this gateway is and who runs it: what it says of itself, and which buckets it may serve."""

import msgspec

from atoll.core.attestation import sign_witness
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import BucketInfo, ControlPlane
from atoll.core.messages.policy import (
    CheckPolicy,
    GetPolicy,
    PartyFacts,
    PolicyFit,
    PolicyVersion,
    SignedPartyFacts,
)
from atoll.core.parties import sign_party
from atoll.core.policy.model import ANYWHERE
from atoll.core.policy.text import parse
from atoll.core.ports import Clock

ANYWHERE_ID = 1
"""Policy of buckets that have none."""
JUDGED_MAX = 10_000
AGAIN_S = 30.0
"""A judgement is believed for so long: certificates expire, trust changes."""


class GatewayPlace:
    """This gateway as a party to policies."""

    def __init__(
        self, control: ControlPlane, clock: Clock, identity: Identity | None, facts: PartyFacts
    ) -> None:
        """``facts`` as its operator set them. Without an identity it can sign nothing."""
        self._control = control
        self._clock = clock
        self._identity = identity
        if identity is not None:
            facts = msgspec.structs.replace(facts, public_key=identity.public_key, role="gateway")
        self.facts = facts
        self._judged: dict[int, tuple[float, str]] = {}

    def signed(self) -> SignedPartyFacts | None:
        """Return the facts with this gateway's signature; None where it has no key."""
        return None if self._identity is None else sign_party(self._identity, self.facts)

    def witness(self, last_seal: bytes) -> str:
        """Return the line by which this gateway vouches for what it was given; "" without a key."""
        if self._identity is None:
            return ""
        return sign_witness(self._identity, last_seal, self._clock.now_ms()).decode()

    async def admit(self, bucket: BucketInfo) -> None:
        """Raise ``FORBIDDEN`` where the bucket's policy keeps this gateway from serving it."""
        if bucket.policy == ANYWHERE_ID:
            return
        now = self._clock.monotonic()
        judged = self._judged.get(bucket.policy)
        if judged is None or now >= judged[0]:
            if len(self._judged) >= JUDGED_MAX:
                self._judged.clear()
            judged = self._judged[bucket.policy] = (now + AGAIN_S, await self._judge(bucket))
        if judged[1]:
            raise AtollError(
                Kind.FORBIDDEN,
                "serve bucket",
                f"the bucket's policy keeps this gateway from serving it: {judged[1]}",
                hint="use a gateway that it admits, or change the policy: `atoll policy set`",
                about=bucket.name,
            )

    async def _judge(self, bucket: BucketInfo) -> str:
        """Return what is against serving under the bucket's policy; empty for nothing."""
        policy = await self._control.ask(GetPolicy(policy=bucket.policy), PolicyVersion)
        rules = parse(policy.text)
        if all(rules.expression(scope) == ANYWHERE for scope in ("gateway", "keys")):
            return ""
        signed = self.signed()
        if signed is None:
            return "this gateway has no key, and so nothing is known about it"
        question = CheckPolicy(text=policy.text, gateway=signed)
        fit = await self._control.ask(question, PolicyFit)
        return "; ".join(fit.objections)
