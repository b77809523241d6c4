"""Which buckets a gateway serves: what their policies say of it decides, reads included."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import Answer, BucketInfo, Message
from atoll.core.messages.policy import (
    CheckPolicy,
    GetPolicy,
    PartyFacts,
    PolicyFit,
    PolicyVersion,
)
from atoll.core.parties import declared_by, read_party
from atoll.core.policy.text import lack_words, parse
from atoll.gateway.place import AGAIN_S, GatewayPlace

GATEWAY = Identity(b"g" * 32)


@dataclass
class Coordinator:
    """The control port as a coordinator answers it, for one policy."""

    text: str
    asked: list[type[Message]] = field(default_factory=list)

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        self.asked.append(type(request))
        found: Any
        if isinstance(request, GetPolicy):
            found = PolicyVersion(
                policy=request.policy, bucket=b"b", version=1, text=self.text, created_ms=0
            )
        else:
            assert isinstance(request, CheckPolicy)
            assert request.gateway is not None
            subject = declared_by(read_party(request.gateway))
            found = PolicyFit(
                text=self.text, nodes_alive=0, nodes_admitted=0, independent=0, refusals=[],
                schemes=[],
                objections=lack_words("this gateway", "gateway", parse(self.text), subject),
            )  # fmt: skip
        assert isinstance(found, answer)
        return found


@dataclass
class SetClock:
    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def bucket(policy: int = 2) -> BucketInfo:
    return BucketInfo(
        bucket=b"b" * 16, account=b"a" * 16, name="reef", region="", mode="managed", created_ms=0,
        policy=policy,
    )  # fmt: skip


def place(
    text: str, country: str = "DE", identity: Identity | None = GATEWAY
) -> tuple[GatewayPlace, Coordinator, SetClock]:
    coordinator, clock = Coordinator(text), SetClock()
    facts = PartyFacts(public_key=b"", role="gateway", country=country)
    return GatewayPlace(coordinator, clock, identity, facts), coordinator, clock


async def test_a_bucket_without_a_policy_costs_no_question() -> None:
    served, coordinator, _ = place("anywhere")
    await served.admit(bucket(policy=1))
    assert coordinator.asked == []


async def test_a_policy_about_data_alone_admits_any_gateway_and_is_read_once() -> None:
    served, coordinator, _ = place("country in US")
    for _ in range(3):
        await served.admit(bucket())
    assert coordinator.asked == [GetPolicy]


async def test_a_gateway_elsewhere_refuses_and_says_why() -> None:
    served, _, _ = place("gateway: country in FR")
    with pytest.raises(AtollError, match="country is DE") as caught:
        await served.admit(bucket())
    assert caught.value.kind is Kind.FORBIDDEN
    admitted, _, _ = place("gateway: country in FR", country="FR")
    await admitted.admit(bucket())


async def test_a_judgement_is_made_again_after_a_while() -> None:
    served, coordinator, clock = place("gateway: country in FR")
    with pytest.raises(AtollError):
        await served.admit(bucket())
    coordinator.text = "gateway: country in DE"
    with pytest.raises(AtollError):
        await served.admit(bucket())
    clock.seconds += AGAIN_S
    await served.admit(bucket())


async def test_a_gateway_without_a_key_serves_no_bucket_that_asks_about_gateways() -> None:
    served, _, _ = place("gateway: country in DE", identity=None)
    with pytest.raises(AtollError):
        await served.admit(bucket())
    assert served.signed() is None
    assert served.witness(b"seal") == ""
