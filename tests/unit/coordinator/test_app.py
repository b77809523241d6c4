"""The coordinator as a whole: nodes come in, gateways ask, the door refuses what it should."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from atoll.coordinator.app import Coordinator, CoordinatorConfig
from atoll.coordinator.door import NODE_MESSAGE_BYTES_MAX
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity, RequestProof, prove_request
from atoll.core.messages import (
    BucketInfo,
    CloudStatus,
    CommitObject,
    CreateBucket,
    Credential,
    Failure,
    GetBucket,
    GetCredential,
    GetStatus,
    GrantList,
    GrantReads,
    Heartbeat,
    HeartbeatAnswer,
    Message,
    NodeCounters,
    NodeFacts,
    ObjectFacts,
    ObjectInfo,
    ObjectRead,
    OrderSegment,
    ReadObject,
    Register,
    Registered,
    ReplaceGrants,
    ReportLiar,
    SegmentGrant,
    SegmentRecord,
    SignedFacts,
    StoredPiece,
    decode,
    encode,
)
from atoll.core.ports import Database
from atoll.runtime.clock import SystemClock
from atoll.runtime.compute import ThreadCompute
from atoll.runtime.database import SqlDatabase
from atoll.runtime.rng import SystemRng
from atoll.runtime.transport import HttpPieceTransport

GATEWAY = Identity(bytes([7]) * 32)
STRANGER = Identity(bytes([8]) * 32)
COORDINATOR = Identity(bytes([9]) * 32)
MIB = 1 << 20


@dataclass
class SetClock(SystemClock):
    """A clock that the test sets; sleeping is real."""

    offset_ms: int = 0

    def now_ms(self) -> int:
        return SystemClock.now_ms(self) + self.offset_ms

    def monotonic(self) -> float:
        return SystemClock.monotonic(self) + self.offset_ms / 1000


@dataclass
class World:
    clock: SetClock
    database: Database
    coordinator: Coordinator
    transport: HttpPieceTransport
    nodes: list[Identity] = field(default_factory=list)

    async def send(
        self,
        path: str,
        body: bytes,
        identity: Identity | None,
        *,
        method: str = "POST",
        proof: str | None = None,
        client: tuple[str, int] | None = ("127.0.0.1", 1),
        announced: int | None = None,
    ) -> tuple[int, bytes]:
        headers = [(b"content-length", str(len(body) if announced is None else announced).encode())]
        if proof is None and identity is not None:
            now_ms = self.clock.now_ms()
            proof = prove_request(identity, method, path, body, now_ms).to_header()
        if proof is not None:
            headers.append((RequestProof.HEADER.encode(), proof.encode()))
        answers: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: Any) -> None:
            answers.append(event)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": headers,
            "client": client,
        }
        await self.coordinator.app(scope, receive, send)
        return answers[0]["status"], answers[1]["body"]

    async def call(
        self, path: str, message: Message, identity: Identity, types: Any, **more: Any
    ) -> Any:
        status, body = await self.send(path, encode(message), identity, **more)
        if status == 200:
            return decode(body, types)
        failure: Failure = decode(body, Failure)
        raise failure.to_error()

    async def add_node(self, number: int, **changes: Any) -> Registered:
        identity = Identity(b"node" + number.to_bytes(28, "big"))
        self.nodes.append(identity)
        return await self.register(identity, number, **changes)

    async def register(self, identity: Identity, number: int, **changes: Any) -> Registered:
        values: dict[str, Any] = {
            "public_key": identity.public_key,
            "operator": f"operator-{number}",
            "site": f"site-{number}",
            "region": "eu",
            "country": "DE",
            "tier": "home",
            "host": f"127.0.{number}.1",
            "port": 9003,
            "fingerprint": b"",
            "capacity_bytes": 1 << 40,
            "price_micro": 0,
            "version": "1",
        }
        facts = encode(NodeFacts(**{**values, **changes}))
        signed = SignedFacts(facts=facts, signature=identity.sign(b"node-facts/1", facts))
        answer: Registered = await self.call(
            "/v1/node/register", Register(signed_facts=signed), identity, Registered
        )
        return answer

    async def beat(self, identity: Identity, **changes: Any) -> HeartbeatAnswer:
        values: dict[str, Any] = {
            "time_ms": self.clock.now_ms(),
            "incarnation": 1,
            "full": False,
            "counters": counters(),
        }
        answer: HeartbeatAnswer = await self.call(
            "/v1/node/heartbeat", Heartbeat(**{**values, **changes}), identity, HeartbeatAnswer
        )
        return answer


def counters(free_bytes: int = 1 << 39) -> NodeCounters:
    return NodeCounters(
        used_bytes=5, trash_bytes=0, free_bytes=free_bytes, pieces=1, put_bytes=5, get_bytes=7,
        errors=0,
    )  # fmt: skip


@pytest.fixture
async def world(database: SqlDatabase) -> AsyncIterator[World]:
    clock = SetClock()
    transport = HttpPieceTransport()
    coordinator = Coordinator(
        clock,
        SystemRng(),
        database,
        transport,
        ThreadCompute(1),
        COORDINATOR,
        CoordinatorConfig(gateway_keys=frozenset({GATEWAY.public_key})),
        loops=False,
    )
    coordinator.registry._judges = True
    await coordinator.start()
    yield World(clock, database, coordinator, transport)
    await coordinator.stop()
    await transport.close()


async def grown(world: World, count: int = 8) -> World:
    for number in range(count):
        await world.add_node(number)
        await world.beat(world.nodes[number])
    return world


async def make_bucket(world: World, name: str = "photos") -> BucketInfo:
    return await world.coordinator.ask(
        CreateBucket(account=b"a" * 16, name=name, region=""), BucketInfo
    )


async def test_a_segment_is_ordered_committed_read_and_counted(world: World) -> None:
    await grown(world)
    ask = world.coordinator.ask
    bucket = await make_bucket(world)
    grant = await ask(
        OrderSegment(bucket=bucket.bucket, plain_bytes=MIB, gateway_key=GATEWAY.public_key),
        SegmentGrant,
    )
    assert (grant.k, grant.n) == (4, 8)
    record = SegmentRecord(
        segment=grant.segment,
        serial=grant.serial,
        plain_bytes=MIB,
        k=grant.k,
        n=grant.n,
        unit_bytes=grant.unit_bytes,
        root=bytes(32),
        wrapped_key=b"wrapped",
        pieces=[StoredPiece(index=g.index, alias=g.alias) for g in grant.grants[:8]],
    )
    facts = ObjectFacts(size=MIB, etag="e", content_type="text/plain")
    taken = msgspec.structs.replace(record, serial=grant.serial + 1)
    with pytest.raises(AtollError, match="was not given for it"):
        await ask(
            CommitObject(bucket=bucket.bucket, key="a", facts=facts, segments=[taken]), ObjectInfo
        )
    with pytest.raises(AtollError, match="was not given for it"):
        await ask(
            ReplaceGrants(
                bucket=bucket.bucket, segment=grant.segment, serial=grant.serial + 1,
                plain_bytes=MIB, k=4, n=8, indexes=[0], used_aliases=[], gateway_key=b"k" * 32,
            ),
            GrantList,
        )  # fmt: skip
    await ask(
        CommitObject(bucket=bucket.bucket, key="a/b", facts=facts, segments=[record]), ObjectInfo
    )
    read = await ask(ReadObject(bucket=bucket.bucket, key="a/b"), ObjectRead)
    assert read.info.facts == facts
    assert [s.segment for s in read.segments] == [grant.segment]
    assert read.segments[0].pieces == record.pieces
    reads = await ask(
        GrantReads(
            segment=grant.segment,
            pieces=read.segments[0].pieces,
            byte_cap=MIB,
            gateway_key=GATEWAY.public_key,
        ),
        GrantList,
    )
    assert len(reads.grants) == 8
    status = await ask(GetStatus(), CloudStatus)
    assert (status.buckets, status.objects, status.object_bytes) == (1, 1, MIB)
    assert (status.segments, status.pieces, status.garbage_pieces) == (1, 8, 0)
    assert status.stored_bytes == 8 * -(-MIB // (grant.unit_bytes - 16) // 4) * grant.unit_bytes
    assert status.survival.any_nodes == 4
    assert status.one_machine
    assert len(status.nodes) == 8
    assert (status.put_bytes, status.get_bytes) == (40, 56)


async def test_too_few_nodes_is_said_in_words(world: World) -> None:
    await grown(world, 2)
    bucket = await make_bucket(world)
    with pytest.raises(AtollError, match="needs 3") as caught:
        await world.coordinator.ask(
            OrderSegment(bucket=bucket.bucket, plain_bytes=MIB, gateway_key=b"k" * 32),
            SegmentGrant,
        )
    assert caught.value.kind is Kind.TOO_FEW_NODES


async def test_a_gateway_asks_over_the_network(world: World) -> None:
    await world.coordinator.metadata.create_credential(b"a" * 16, "me", "AK", "secret")
    found = await world.call("/v1/control", GetCredential(access_key="AK"), GATEWAY, Credential)
    assert found.secret == "secret"
    with pytest.raises(AtollError) as caught:
        await world.call("/v1/control", GetBucket(name="none"), GATEWAY, BucketInfo)
    assert caught.value.kind is Kind.BUCKET_NOT_FOUND


async def test_an_untrusted_key_is_refused(world: World) -> None:
    with pytest.raises(AtollError) as caught:
        await world.call("/v1/control", GetStatus(), STRANGER, CloudStatus)
    assert caught.value.kind is Kind.FORBIDDEN


async def test_a_signed_question_is_answered_once(world: World) -> None:
    body = encode(GetStatus())
    now_ms = world.clock.now_ms()
    proof = prove_request(GATEWAY, "POST", "/v1/control", body, now_ms).to_header()
    assert (await world.send("/v1/control", body, None, proof=proof))[0] == 200
    key, time, signature = proof.split(":")
    for again in (proof, f"{key}:{time}:{signature.upper()}", f"{key}: {time}:{signature}"):
        status, answer = await world.send("/v1/control", body, None, proof=again)
        assert (status, decode(answer, Failure).kind) == (409, "replayed")
    world.clock.offset_ms += 119_000
    status, answer = await world.send("/v1/control", body, None, proof=proof)
    assert decode(answer, Failure).kind == "clock_skew"


@pytest.mark.parametrize(
    ("path", "method", "body", "signed", "kind"),
    [
        ("/v1/control", "POST", b"\xff", True, "bad_request"),
        ("/v1/control", "POST", encode(GetStatus()), False, "unauthenticated"),
        ("/v1/control", "GET", b"", True, "not_found"),
        ("/v1/nothing", "POST", b"", True, "not_found"),
        ("/v1/node/register", "POST", b"", True, "bad_request"),
        ("/v1/node/heartbeat", "POST", bytes(NODE_MESSAGE_BYTES_MAX + 1), True, "too_large"),
    ],
)
async def test_what_the_door_refuses(
    world: World, path: str, method: str, body: bytes, signed: bool, kind: str
) -> None:
    identity = GATEWAY if signed else None
    _, answer = await world.send(path, body, identity, method=method)
    assert decode(answer, Failure).kind == kind


async def test_a_body_longer_than_announced_is_refused(world: World) -> None:
    body = bytes(NODE_MESSAGE_BYTES_MAX + 1)
    _, answer = await world.send("/v1/node/heartbeat", body, GATEWAY, announced=10)
    assert decode(answer, Failure).kind == "too_large"


async def test_the_status_is_for_this_machine(world: World) -> None:
    status, body = await world.send("/v1/status", b"", None, method="GET")
    assert (status, msgspec.json.decode(body)["objects"]) == (200, 0)
    status, _ = await world.send("/v1/status", b"", None, method="GET", client=("192.0.2.1", 5))
    assert status == 403
    assert (await world.send("/v1/health", b"", None, method="GET"))[0] == 200


async def test_a_report_of_a_worker_reaches_the_coordinator(world: World) -> None:
    taken: list[ReportLiar] = []
    report = ReportLiar(segment=b"s" * 16, index=3, alias=1, reason="wrong tag")
    world.coordinator.repair.report_liar = taken.append  # type: ignore[method-assign]
    for _ in range(2):
        await world.coordinator.ask(report, Message)
    await world.coordinator._take_reports()
    await world.coordinator._take_reports()
    assert taken == [report]


async def test_another_clouds_database_is_refused(world: World) -> None:
    other = Coordinator(
        world.clock,
        SystemRng(),
        world.database,
        world.transport,
        ThreadCompute(1),
        STRANGER,
        CoordinatorConfig(),
        loops=False,
    )
    with pytest.raises(AtollError) as caught:
        await other.start()
    assert caught.value.kind is Kind.WRONG_FOLDER


async def test_the_loops_start_and_stop(database: SqlDatabase) -> None:
    clock, transport = SetClock(), HttpPieceTransport()
    coordinator = Coordinator(
        clock, SystemRng(), database, transport, ThreadCompute(1), COORDINATOR,
        CoordinatorConfig(), loops=True,
    )  # fmt: skip
    world = World(clock, database, coordinator, transport)
    await coordinator.start()
    await grown(world, 3)
    status = await coordinator.ask(GetStatus(), CloudStatus)
    assert [node.state for node in status.nodes] == ["alive"] * 3
    await coordinator.stop()
    await transport.close()
