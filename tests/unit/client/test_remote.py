"""The control plane over the network: signed, tried at each coordinator, typed errors."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.client.cluster import BUCKET, TestClock

from atoll.client.remote import CONTROL_PATH, RemoteControl
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, check_request
from atoll.core.messages import (
    BucketInfo,
    Failure,
    GetBucket,
    decode,
    encode,
    failure_of,
)
from atoll.core.ports import Address, Reply

FIRST, SECOND = Address("127.0.0.1", 1), Address("127.0.0.1", 2)


class Coordinators:
    """The far side of ``call``: checks the signature, knows one bucket, may be down."""

    def __init__(self, *down: Address) -> None:
        self.down = set(down)
        self.asked: list[Address] = []
        self.fault = Kind.UNREACHABLE

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        self.asked.append(address)
        if address in self.down:
            raise AtollError(self.fault, "call", "down")
        key = check_request(headers["x-atoll-proof"], method, path, body, TestClock().now_ms())
        assert (key, path) == (Identity(b"g" * 32).public_key, CONTROL_PATH)
        request = decode(body, GetBucket)
        if request.name != BUCKET.name:
            error = AtollError(Kind.BUCKET_NOT_FOUND, "get bucket", "no such bucket", hint="look")
            return Reply(404, {}, encode(failure_of(error)))
        return Reply(200, {}, encode(BUCKET))


def remote(coordinators: Any, *addresses: Address) -> RemoteControl:
    return RemoteControl(coordinators, addresses, Identity(b"g" * 32), TestClock())


async def test_a_question_is_answered() -> None:
    answer = await remote(Coordinators(), FIRST).ask(GetBucket(name="bucket"), BucketInfo)
    assert answer == BUCKET


async def test_an_error_keeps_its_kind_and_hint() -> None:
    with pytest.raises(AtollError) as caught:
        await remote(Coordinators(), FIRST).ask(GetBucket(name="other"), BucketInfo)
    assert caught.value.kind is Kind.BUCKET_NOT_FOUND
    assert caught.value.hint == "look"
    assert isinstance(failure_of(caught.value), Failure)


async def test_the_next_coordinator_is_asked_and_remembered() -> None:
    coordinators = Coordinators(FIRST)
    control = remote(coordinators, FIRST, SECOND)
    for _ in range(2):
        assert await control.ask(GetBucket(name="bucket"), BucketInfo) == BUCKET
    assert coordinators.asked == [FIRST, SECOND, SECOND]


async def test_all_down_is_unreachable() -> None:
    with pytest.raises(AtollError) as caught:
        await remote(Coordinators(FIRST, SECOND), FIRST, SECOND).ask(
            GetBucket(name="bucket"), BucketInfo
        )
    assert caught.value.kind is Kind.UNREACHABLE


async def test_one_that_may_have_acted_is_not_passed_over() -> None:
    coordinators = Coordinators(FIRST)
    coordinators.fault = Kind.TIMEOUT
    with pytest.raises(AtollError) as caught:
        await remote(coordinators, FIRST, SECOND).ask(GetBucket(name="bucket"), BucketInfo)
    assert caught.value.kind is Kind.TIMEOUT
    assert coordinators.asked == [FIRST]


def test_no_address_is_a_configuration_error() -> None:
    with pytest.raises(AtollError) as caught:
        remote(Coordinators())
    assert caught.value.kind is Kind.CONFIG


class OnceOnly(Coordinators):
    """A coordinator that takes each signature once, as the true one does."""

    def __init__(self) -> None:
        super().__init__()
        self.spent: set[str] = set()

    async def call(
        self,
        address: Address,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
    ) -> Reply:
        if headers["x-atoll-proof"] in self.spent:
            error = AtollError(Kind.REPLAYED, "ask coordinator", "answered before")
            return Reply(error.meaning.http_status, {}, encode(failure_of(error)))
        self.spent.add(headers["x-atoll-proof"])
        return await super().call(address, method, path, headers, body, timeout_s)


class StillClock(TestClock):
    def now_ms(self) -> int:
        return self.started_ms

    def __init__(self) -> None:
        self.started_ms = TestClock().now_ms()


async def test_equal_questions_of_one_moment_are_all_answered() -> None:
    coordinator, clock = OnceOnly(), StillClock()
    workers = [
        RemoteControl(coordinator, [FIRST], Identity(b"g" * 32), clock)  # type: ignore[arg-type]
        for _ in range(3)
    ]
    for _ in range(5):
        for worker in workers:
            assert await worker.ask(GetBucket(name="bucket"), BucketInfo) == BUCKET
    assert len(coordinator.spent) == 15
