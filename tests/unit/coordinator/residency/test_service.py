"""Policies on a coordinator with nodes: set, refused, applied, explained, attested, checked."""

import json
from dataclasses import replace

import pytest
from sqlalchemy.engine import Connection
from tests.unit.coordinator.test_app import (
    COORDINATOR,
    GATEWAY,
    MIB,
    World,
    grown,
    make_bucket,
)
from tests.unit.coordinator.test_app import world as world

from atoll.coordinator.audit.model import Result
from atoll.coordinator.audit.store import add_result
from atoll.core.addresses import read_table
from atoll.core.attestation import sign_witness
from atoll.core.attestation_check import Trusted, Verified, verify
from atoll.core.certificates import (
    PARTY,
    Certificate,
    Issuer,
    Revocation,
    RevocationList,
    issue,
    sign_revocations,
)
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.messages import (
    BucketInfo,
    CommitObject,
    GetBucket,
    ObjectFacts,
    ObjectInfo,
    OrderSegment,
    SegmentGrant,
    SegmentRecord,
    StoredPiece,
)
from atoll.core.messages.policy import (
    AttestedPage,
    AttestPage,
    CheckPolicy,
    ExplainObject,
    GetPolicy,
    ListPolicies,
    ObjectExplained,
    PartyFacts,
    PolicyFit,
    PolicyList,
    PolicyVersion,
    PublishRevocations,
    RevocationsTaken,
    SetPolicy,
)
from atoll.core.parties import sign_party

ACCOUNT = b"a" * 16
ISSUER = Identity(b"i" * 32)
COUNTRIES = ("DE", "AT", "US", "DE", "FR", "DE", "US", "FR", "DE", "AT", "DE", "FR")


async def lands(world: World, count: int = 12) -> World:
    for number in range(count):
        await world.add_node(number, country=COUNTRIES[number % 12])
        await world.beat(world.nodes[number])
    return world


async def set_policy(world: World, bucket: BucketInfo, text: str, **more: object) -> PolicyVersion:
    request = SetPolicy(bucket=bucket.bucket, account=ACCOUNT, text=text, **more)  # type: ignore[arg-type]
    return await world.coordinator.ask(request, PolicyVersion)


async def order(world: World, bucket: BucketInfo) -> SegmentGrant:
    request = OrderSegment(bucket=bucket.bucket, plain_bytes=MIB, gateway_key=GATEWAY.public_key)
    return await world.coordinator.ask(request, SegmentGrant)


async def put(world: World, bucket: BucketInfo, key: str, segments: int = 1) -> SegmentGrant:
    records = []
    for _ in range(segments):
        grant = await order(world, bucket)
        pieces = [
            StoredPiece(index=i, alias=g.alias) for i, g in enumerate(grant.grants[: grant.n])
        ]
        records.append(
            SegmentRecord(
                segment=grant.segment,
                serial=grant.serial,
                plain_bytes=MIB,
                k=grant.k,
                n=grant.n,
                unit_bytes=grant.unit_bytes,
                root=bytes(32),
                wrapped_key=b"wrapped",
                pieces=pieces,
            )
        )
    facts = ObjectFacts(size=MIB * segments, etag="e", content_type="text/plain")
    await world.coordinator.ask(
        CommitObject(bucket=bucket.bucket, key=key, facts=facts, segments=records), ObjectInfo
    )
    return grant


def countries(world: World, grant: SegmentGrant) -> set[str]:
    views = {view.alias: view for view in world.coordinator.registry.nodes()}
    return {views[one.alias].facts.country for one in grant.grants}


async def test_a_policy_decides_from_the_next_order_on(world: World) -> None:
    await lands(world)
    bucket = await make_bucket(world)
    text = "country in DE, AT, FR and parent not in US"
    stored = await set_policy(world, bucket, text)
    assert (stored.version, stored.text) == (1, text)
    assert "US" not in countries(world, await order(world, bucket))
    assert (await world.coordinator.ask(GetBucket(name="photos"), BucketInfo)).policy > 1
    await set_policy(world, bucket, "country not in DE", expected_version=1)
    assert "DE" not in countries(world, await order(world, bucket))
    listed = await world.coordinator.ask(ListPolicies(bucket=bucket.bucket), PolicyList)
    assert [one.version for one in listed.versions] == [2, 1]
    old = await world.coordinator.ask(GetPolicy(policy=stored.policy), PolicyVersion)
    assert old.text == text


async def test_a_policy_that_cannot_be_kept_is_refused_with_what_is_missing(world: World) -> None:
    await lands(world)
    bucket = await make_bucket(world)
    with pytest.raises(AtollError, match=r"0 of 12 nodes satisfy it.*keeps out 12") as caught:
        await set_policy(world, bucket, "tier >= dc")
    assert caught.value.kind is Kind.PRECONDITION_FAILED
    with pytest.raises(AtollError, match="at version 0, not 3"):
        await set_policy(world, bucket, "country in DE, AT, FR", expected_version=3)
    with pytest.raises(AtollError, match="column 12"):
        await set_policy(world, bucket, "country in XX")
    with pytest.raises(AtollError, match="managed"):
        await set_policy(world, bucket, "decrypt by owner")
    stranger = SetPolicy(bucket=bucket.bucket, account=b"b" * 16, text="anywhere")
    with pytest.raises(AtollError) as caught:
        await world.coordinator.ask(stranger, PolicyVersion)
    assert caught.value.kind is Kind.FORBIDDEN
    await set_policy(world, bucket, "tier >= dc", force=True)
    with pytest.raises(AtollError, match="`tier >= dc` keeps out 12") as caught:
        await order(world, bucket)
    assert caught.value.kind is Kind.TOO_FEW_NODES


async def test_a_check_says_what_a_policy_costs_and_what_it_only_states(world: World) -> None:
    await lands(world)
    facts = PartyFacts(public_key=GATEWAY.public_key, role="gateway", country="US")
    fit = await world.coordinator.ask(
        CheckPolicy(
            text="country in EU; gateway: country in EU", gateway=sign_party(GATEWAY, facts)
        ),
        PolicyFit,
    )
    assert (fit.nodes_alive, fit.nodes_admitted, fit.independent) == (12, 10, 10)
    assert [(one.part, one.nodes) for one in fit.refusals] == [("country in EU", 2)]
    assert all(one.fits for one in fit.schemes)
    assert len(fit.objections) == 1
    assert "country is US" in fit.objections[0]
    assert any("declare" in words for words in fit.stated)


async def test_metadata_elsewhere_than_the_policy_wants_refuses_orders(world: World) -> None:
    await lands(world)
    bucket = await make_bucket(world)
    with pytest.raises(AtollError, match="this coordinator does not satisfy"):
        await set_policy(world, bucket, "metadata: country in DE")
    await set_policy(world, bucket, "metadata: country in DE", force=True)
    with pytest.raises(AtollError) as caught:
        await order(world, bucket)
    assert caught.value.kind is Kind.FORBIDDEN
    policies = world.coordinator.policies
    policies.place = replace(policies.place, country="DE")
    await order(world, bucket)
    policies.place = replace(policies.place, database_country="US")
    with pytest.raises(AtollError, match="its database"):
        await order(world, bucket)


def certificate_for(node: Identity, world: World, *statements: str, days: int = 30) -> Certificate:
    now_ms = world.clock.now_ms()
    return Certificate(
        certificate=b"c" * 16,
        issuer=ISSUER.public_key,
        kind=PARTY,
        subject=node.node_id,
        statements=list(statements),
        not_before_ms=now_ms - 1000,
        not_after_ms=now_ms + days * 86_400_000,
    )


async def test_certificates_count_while_trusted_valid_and_not_revoked(world: World) -> None:
    await lands(world)
    policies = world.coordinator.policies

    async def admitted(text: str) -> int:
        fit = await world.coordinator.ask(CheckPolicy(text=text), PolicyFit)
        return fit.nodes_admitted

    for number in range(4):
        node = world.nodes[number]
        country = COUNTRIES[number]
        made = certificate_for(node, world, "ISO27001", f"country:{country}")
        world.clock.offset_ms += 10
        certificate = issue(ISSUER, replace_id(made, number))
        await world.register(node, number, country=country, certificates=[certificate])
        await world.beat(node)
    assert await admitted('certificate "iso27001"') == 0
    await policies.trust(Issuer(ISSUER.public_key, "TÜV", ("ISO27001", "country:*")))
    assert await admitted('certificate "iso27001"') == 4
    assert await admitted("evidence >= certificate") == 4
    taken = RevocationList(
        issuer=ISSUER.public_key,
        sequence=1,
        issued_ms=world.clock.now_ms(),
        revoked=[Revocation(certificate=bytes([1]) * 16, since_ms=1, reason="lost")],
    )
    raw = sign_revocations(ISSUER, taken)
    answer = await world.coordinator.ask(PublishRevocations(revocations=raw), RevocationsTaken)
    assert (answer.sequence, answer.revoked) == (1, 1)
    assert await admitted("evidence >= certificate") == 3
    # A node that says another thing than its certificate is nowhere that anybody knows.
    node = world.nodes[0]
    certificate = issue(ISSUER, replace_id(certificate_for(node, world, "country:DE"), 0))
    world.clock.offset_ms += 10
    await world.register(node, 0, country="US", certificates=[certificate])
    assert await admitted("country in DE, US") == 12 - 3 - 2 - 1
    assert await admitted("evidence >= certificate") == 2
    before = world.coordinator.placement.nodes()
    world.clock.offset_ms += 31 * 86_400_000
    assert world.coordinator.placement.nodes() is not before
    assert {n.subject.evidence.word for n in world.coordinator.placement.nodes().values()} == {
        "declared"
    }


def replace_id(certificate: Certificate, number: int) -> Certificate:
    import msgspec

    return msgspec.structs.replace(certificate, certificate=bytes([number]) * 16)


async def test_an_object_is_explained_piece_by_piece(world: World) -> None:
    await lands(world)
    bucket = await make_bucket(world)
    await set_policy(world, bucket, "country in DE, AT, FR")
    await put(world, bucket, "a/b")
    found = await explain(world, bucket)
    (segment,) = found.segments
    assert (segment.k, segment.n, segment.healthy, segment.survives_nodes) == (4, 8, 8, 4)
    assert segment.survives_domain
    assert (segment.worst_domain_pieces, found.survives_nodes) == (1, 4)
    assert {place.evidence for place in segment.places} == {"declared"}
    assert not any(place.violation for place in segment.places)
    assert found.policy.text == "country in DE, AT, FR"
    moved = segment.places[0].alias
    number = next(i for i, n in enumerate(world.nodes) if n.node_id == segment.places[0].node_id)
    world.clock.offset_ms += 10
    await world.register(world.nodes[number], number, country="US")
    again = await explain(world, bucket)
    wrong = [place for place in again.segments[0].places if place.violation]
    assert [place.alias for place in wrong] == [moved]
    assert "country is US" in wrong[0].violation


async def test_when_a_node_last_proved_what_it_holds_is_shown(world: World) -> None:
    await lands(world)
    bucket = await make_bucket(world)
    await put(world, bucket, "a/b")
    slot_ms = world.coordinator.audit.times.slot_ms
    slot = world.clock.now_ms() // slot_ms - 3
    alias = (await explain(world, bucket)).segments[0].places[0].alias

    def note(connection: Connection) -> None:
        for at, outcome in ((slot, "passed"), (slot - 1, "passed"), (slot + 1, "missed")):
            add_result(
                connection,
                Result(
                    slot=at, alias=alias, outcome=outcome, samples=1, failed=0, pieces=(),
                    verdict=b"",
                ),
            )  # fmt: skip

    await world.database.write(note)
    places = (await explain(world, bucket)).segments[0].places
    assert {place.alias: place.proven_ms for place in places if place.proven_ms} == {
        alias: slot * slot_ms
    }


async def explain(world: World, bucket: BucketInfo) -> ObjectExplained:
    return await world.coordinator.ask(
        ExplainObject(bucket=bucket.bucket, key="a/b"), ObjectExplained
    )


async def attested(world: World, bucket: BucketInfo, **more: object) -> list[bytes]:
    lines: list[bytes] = []
    seal = b""
    while True:
        request = AttestPage(bucket=bucket.bucket, account=ACCOUNT, seal=seal, **more)  # type: ignore[arg-type]
        page = await world.coordinator.ask(request, AttestedPage)
        lines += page.page.splitlines()
        lines.append(page.seal)
        if page.last:
            return [*lines, sign_witness(GATEWAY, page.seal, world.clock.now_ms())]
        seal = page.seal


def checked(lines: list[bytes]) -> Verified:
    return verify(lines, Trusted(frozenset((COORDINATOR.public_key,))))


async def test_an_attestation_verifies_offline_and_any_altered_byte_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll.coordinator.residency.pages.PAGE_SEGMENTS_MAX", 3)
    await lands(world)
    bucket = await make_bucket(world)
    await set_policy(world, bucket, "country in DE, AT, FR")
    for number in range(7):
        await put(world, bucket, f"reef/{number}.jpg")
    facts = PartyFacts(public_key=GATEWAY.public_key, role="gateway", country="DE")
    lines = await attested(world, bucket, gateway=sign_party(GATEWAY, facts))
    found = checked(lines)
    assert (found.verdict, found.pages, found.witnessed) == ("within", 3, True)
    assert (found.sums.objects, found.sums.segments, found.sums.pieces) == (7, 7, 56)
    assert (found.sums.declared, found.sums.outside) == (56, 0)
    for number, line in enumerate(lines):
        for place in range(3, len(line), max(1, len(line) // 7)):
            bad = bytearray(line)
            bad[place] ^= 1
            altered = [*lines[:number], bytes(bad), *lines[number + 1 :]]
            with pytest.raises(AtollError) as caught:
                checked(altered)
            told = caught.value.message
            # A page or seal that is no seal any more is named by where the next one begins.
            assert told.startswith("line ") or "a seal is missing" in told, told
            if json_like(line) in ("segment", "node", "head"):
                assert told.startswith(f"line {number + 1} (byte "), told
    for cut in range(1, len(lines) - 1):
        with pytest.raises(AtollError):
            checked(lines[:cut])
    with pytest.raises(AtollError, match="do not trust"):
        verify(lines, Trusted(frozenset((GATEWAY.public_key,))))


def json_like(line: bytes) -> str:
    return str(json.loads(line)["line"])


async def test_an_attestation_says_outside_while_a_changed_claim_has_not_been_moved(
    world: World,
) -> None:
    await lands(world)
    bucket = await make_bucket(world)
    await set_policy(world, bucket, "country in DE, AT, FR")
    grant = await put(world, bucket, "one")
    number = next(i for i, n in enumerate(world.nodes) if n.node_id == grant.grants[0].node_id)
    world.clock.offset_ms += 10
    await world.register(world.nodes[number], number, country="US")
    found = checked(await attested(world, bucket, hash_keys=True))
    assert (found.verdict, found.sums.outside) == ("outside", 1)
    assert "country is US" in found.outside[0]
    assert found.head.keys_hashed
    assert "one" not in found.outside[0].split(",")[0]


async def test_a_table_of_addresses_confirms_or_disputes_and_the_file_shows_it(
    world: World,
) -> None:
    world.coordinator.policies._table = read_table("127.0.0.0/8,DE\n")
    await lands(world)
    bucket = await make_bucket(world)
    fit = await world.coordinator.ask(CheckPolicy(text="evidence >= address"), PolicyFit)
    assert fit.nodes_admitted == COUNTRIES.count("DE") == 5
    await set_policy(world, bucket, "country in DE, FR and evidence >= address", force=True)
    await put(world, bucket, "a")
    found = checked(await attested(world, bucket))
    assert (found.verdict, found.sums.address, found.sums.declared) == ("within", 4, 0)
    nodes = world.coordinator.placement.nodes().values()
    assert {n.subject.evidence.word for n in nodes} == {"address", "disputed"}


async def test_an_object_longer_than_a_page_is_listed_once_and_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll.coordinator.residency.pages.PAGE_SEGMENTS_MAX", 2)
    await lands(world)
    bucket = await make_bucket(world)
    await put(world, bucket, "a")
    await put(world, bucket, "b", segments=5)
    await put(world, bucket, "c")
    lines = await attested(world, bucket)
    found = checked(lines)
    assert (found.sums.objects, found.sums.segments, found.pages) == (3, 7, 4)
    listed = [json.loads(line) for line in lines if json_like(line) == "segment"]
    assert [(one["object"], one["number"]) for one in listed] == [
        ("a", 0), *(("b", number) for number in range(5)), ("c", 0)
    ]  # fmt: skip
    request = ExplainObject(bucket=bucket.bucket, key="b", after_segment=3)
    explained = await world.coordinator.ask(request, ObjectExplained)
    assert (explained.segments_total, len(explained.segments)) == (5, 2)


async def test_a_stolen_seal_or_a_changed_policy_ends_an_attestation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atoll.coordinator.residency.pages.PAGE_SEGMENTS_MAX", 1)
    await lands(world)
    bucket = await make_bucket(world)
    for key in ("a", "b"):
        await put(world, bucket, key)
    first = await world.coordinator.ask(
        AttestPage(bucket=bucket.bucket, account=ACCOUNT), AttestedPage
    )
    assert not first.last
    forged = first.seal.replace(b'"objects":1', b'"objects":9')
    with pytest.raises(AtollError, match="not ours"):
        await world.coordinator.ask(
            AttestPage(bucket=bucket.bucket, account=ACCOUNT, seal=forged), AttestedPage
        )
    await set_policy(world, bucket, "country in DE, AT, FR")
    with pytest.raises(AtollError) as caught:
        await world.coordinator.ask(
            AttestPage(bucket=bucket.bucket, account=ACCOUNT, seal=first.seal), AttestedPage
        )
    assert caught.value.kind is Kind.CONFLICT


async def test_a_bucket_without_a_policy_is_listed_and_says_so(world: World) -> None:
    await grown(world)
    bucket = await make_bucket(world)
    found = checked(await attested(world, bucket))
    assert (found.verdict, found.sums.segments, found.pages) == ("no policy", 0, 1)
