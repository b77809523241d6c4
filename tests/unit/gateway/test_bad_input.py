"""Bad input gets its exact error and leaves nothing behind."""

import asyncio
import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.world import ACCESS, CODEC, SECRET, Answer, Customer, World

from atoll.core import sigv4
from atoll.core.errors import AtollError, Kind
from atoll.core.sigv4 import Credentials
from atoll.gateway.config import GatewayConfig
from atoll.gateway.s3.metadata import user_metadata, wire_text
from atoll.gateway.s3.operations import HANDLERS
from atoll.gateway.s3.quirks import PARTIAL, UNROUTED

LONG = "k" * 1025
MD5 = base64.b64encode(hashlib.md5(b"hello").digest()).decode()


@pytest.mark.parametrize(
    ("method", "target", "headers", "status", "code"),
    [
        ("PUT", "/No", {}, 400, "InvalidBucketName"),
        ("PUT", "/ab", {}, 400, "InvalidBucketName"),
        ("PUT", "/192.168.1.1", {}, 400, "InvalidBucketName"),
        ("PUT", "/a..b", {}, 400, "InvalidBucketName"),
        ("PUT", "/xn--bucket", {}, 400, "InvalidBucketName"),
        ("PUT", "/foo.-bar", {}, 400, "InvalidBucketName"),
        ("PUT", "/new-one", {"x-amz-acl": "public-read"}, 400,
         "InvalidBucketAclWithObjectOwnership"),
        ("PUT", "/new-one", {"x-amz-bucket-object-lock-enabled": "true"}, 501, "NotImplemented"),
        ("GET", "/absent", {}, 404, "NoSuchBucket"),
        ("GET", "/absent/key", {}, 404, "NoSuchBucket"),
        ("GET", "/store/absent", {}, 404, "NoSuchKey"),
        ("PUT", f"/store/{LONG}", {}, 400, "KeyTooLongError"),
        ("GET", "/store/%ff", {}, 400, "InvalidURI"),
        ("PATCH", "/store/k", {}, 405, "MethodNotAllowed"),
        ("PUT", "/store?acl", {"x-amz-acl": "public-read"}, 400, "AccessControlListNotSupported"),
        ("PUT", "/store/k?tagging", {}, 501, "NotImplemented"),
        ("POST", "/store", {}, 405, "MethodNotAllowed"),
        ("GET", "/store/k?uploadId=zz", {}, 404, "NoSuchUpload"),
        ("PUT", "/store/k?uploadId=zz&partNumber=0", {}, 400, "InvalidArgument"),
        ("PUT", "/store/k?uploadId=zz&partNumber=10001", {}, 400, "InvalidArgument"),
        ("PUT", "/store/k?uploadId=zz&partNumber=one", {}, 400, "InvalidArgument"),
        ("GET", "/store?max-keys=-1", {}, 400, "InvalidArgument"),
        ("GET", "/store?max-keys=x", {}, 400, "InvalidArgument"),
        ("GET", "/store?encoding-type=rot13", {}, 400, "InvalidArgument"),
        ("GET", "/store?list-type=2&continuation-token=zz", {}, 400, "InvalidArgument"),
        ("GET", "/store/k?versionId=abc", {}, 404, "NoSuchVersion"),
        ("PUT", "/store/k", {"content-md5": "zz"}, 400, "InvalidDigest"),
        ("PUT", "/store/k", {"content-md5": MD5}, 400, "BadDigest"),
        ("PUT", "/store/k", {"x-amz-checksum-crc32": "zz"}, 400, "InvalidRequest"),
        ("PUT", "/store/k", {"x-amz-checksum-crc32": "AAAAAQ=="}, 400, "BadDigest"),
        ("PUT", "/store/k", {"x-amz-storage-class": "GLACIER"}, 400, "InvalidStorageClass"),
        ("PUT", "/store/k", {"x-amz-tagging": "a=b"}, 501, "NotImplemented"),
        ("PUT", "/store/k", {"x-amz-server-side-encryption": "aws:kms"}, 501, "NotImplemented"),
        ("PUT", "/store/k", {"x-amz-acl": "public-read"}, 400, "AccessControlListNotSupported"),
        ("PUT", "/store/k", {"x-amz-object-lock-mode": "COMPLIANCE"}, 400, "InvalidRequest"),
        ("PUT", "/store/k", {"x-amz-meta-a": "x" * 2048}, 400, "MetadataTooLarge"),
        ("PUT", "/store/k", {"x-amz-expected-bucket-owner": "other"}, 403, "AccessDenied"),
        ("PUT", "/store/k", {"content-length": str((5 << 30) + 1)}, 400, "EntityTooLarge"),
        ("PUT", "/store/k", {"content-length": "ten"}, 400, "InvalidArgument"),
        ("PUT", "/store/k", {"content-length": "9"}, 400, "IncompleteBody"),
        ("POST", "/store?delete", {}, 400, "InvalidRequest"),
        ("POST", "/store", {"content-type": "multipart/form-data; boundary=x"}, 501,
         "NotImplemented"),
        ("OPTIONS", "/store/k", {}, 403, "AccessForbidden"),
    ],
)  # fmt: skip
async def test_exact_errors(
    customer: Customer, method: str, target: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await customer(method, target, headers=headers)
    assert (answer.status, answer.code) == (status, code)
    listing = await customer("GET", "/store?list-type=2")
    assert b"<KeyCount>0</KeyCount>" in listing.body


def content_md5(body: bytes) -> dict[str, str]:
    return {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<Delete/>", b"not xml", b"<Delete><Object/></Delete>",
        b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        b"<Delete><Object><Key>&e;</Key></Object></Delete>",
        b"<Delete><Object><Key><b/></Key></Object></Delete>",
    ],
)  # fmt: skip
async def test_bad_xml_deletes_nothing(customer: Customer, body: bytes) -> None:
    await customer("PUT", "/store/k", body=b"kept")
    answer = await customer("POST", "/store?delete", body=body, headers=content_md5(body))
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert (await customer("GET", "/store/k")).body == b"kept"


async def test_a_long_message_is_refused_unread(customer: Customer) -> None:
    answer = await customer(
        "POST", "/store?delete", headers={"content-length": str(9 << 20), **content_md5(b"")}
    )
    assert (answer.status, answer.code) == (400, "MaxMessageLengthExceeded")


async def test_deletions_tell_of_each_key(customer: Customer) -> None:
    await customer("PUT", "/store/a%26b", body=b"x")
    body = (
        "<Delete xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Object><Key>a&amp;b</Key>"
        "</Object><Object><Key>absent</Key></Object><Object><Key>v</Key><VersionId>7</VersionId>"
        f"</Object><Object><Key>{LONG}</Key></Object></Delete>"
    ).encode()
    answer = await customer("POST", "/store?delete", body=body, headers=content_md5(body))
    text = answer.body.decode()
    assert text.count("<Deleted>") == 2
    assert "<Code>NoSuchVersion</Code>" in text
    assert "<Code>KeyTooLongError</Code>" in text
    quiet = body.replace(b"<Object>", b"<Quiet>true</Quiet><Object>", 1)
    answer = await customer("POST", "/store?delete", body=quiet, headers=content_md5(quiet))
    assert "<Deleted>" not in answer.body.decode()


async def raw_put(customer: Customer, headers: dict[str, Any], parts: list[Any]) -> Answer:
    """A signed upload of an unsigned payload whose framing the attacker chooses."""
    signed = sigv4.sign_headers(
        Credentials(customer.credentials.access_key, customer.credentials.secret_key),
        "PUT",
        b"/store/k",
        [],
        {"host": "h"},
        sigv4.UNSIGNED_PAYLOAD,
        customer.gateway.services.clock.now_ms(),
    )
    return await customer.send("PUT", "/store/k", {**signed, **headers}, parts)


async def test_a_client_that_leaves_amid_its_body_leaves_nothing(world: World) -> None:
    with pytest.raises(ConnectionError):
        await raw_put(world.customer, {"content-length": "900000"}, [b"x" * 500_000, None])
    assert (await world.customer("GET", "/store/k")).code == "NoSuchKey"
    assert world.gateway.requests_running == 0


async def test_no_length_is_no_upload(customer: Customer) -> None:
    answer = await raw_put(customer, {}, [b"x"])
    assert (answer.status, answer.code) == (411, "MissingContentLength")


async def test_a_body_longer_than_said_is_refused(customer: Customer) -> None:
    answer = await raw_put(customer, {"content-length": "1"}, [b"xy"])
    assert answer.code == "IncompleteBody"


async def test_a_body_that_stalls_is_given_up(world: World) -> None:
    gateway = world.make(GatewayConfig(body_stall_s_max=0.01))

    headers = sigv4.sign_headers(
        Credentials(ACCESS, SECRET), "PUT", b"/store/k", [],
        {"host": "h"}, sigv4.UNSIGNED_PAYLOAD, world.clock.now_ms(),
    )  # fmt: skip
    headers["content-length"] = "5"
    scope = {
        "type": "http",
        "method": "PUT",
        "raw_path": b"/store/k",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        messages.append(message)

    await gateway.app(scope, receive, send)
    assert Answer(messages).code == "RequestTimeout"


async def test_too_few_nodes_is_503_with_what_is_missing(world: World) -> None:
    world.objects.fail_with = AtollError(
        Kind.TOO_FEW_NODES, "place", "3 of 6 nodes", hint="start 3 more"
    )
    answer = await world.customer("PUT", "/store/k", body=b"x")
    assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    assert b"3 of 6 nodes (start 3 more)" in answer.body
    assert answer.headers["retry-after"] == "1"
    world.objects.fail_with = None
    assert (await world.customer("GET", "/store/k")).code == "NoSuchKey"


async def test_an_unreadable_object_is_a_clean_error(world: World) -> None:
    await world.customer("PUT", "/store/k", body=b"x")
    world.objects.fail_with = AtollError(Kind.DATA_LOST, "read", "too few pieces answer")
    answer = await world.customer("GET", "/store/k")
    assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    world.objects.fail_with = AtollError(Kind.CORRUPT, "unwrap", "inner affairs")
    answer = await world.customer("GET", "/store/k")
    assert (answer.status, answer.code) == (500, "InternalError")
    assert b"inner affairs" not in answer.body


async def test_one_request_too_many_is_slowed_down(world: World) -> None:
    gateway = world.make(GatewayConfig(concurrent_requests_max=0))
    answer = await Customer(gateway)("GET", "/store/k")
    assert (answer.status, answer.code) == (503, "SlowDown")


async def test_a_bug_is_a_500_with_a_request_id(world: World, caplog: Any) -> None:
    world.control.handlers.clear()
    answer = await world.customer("GET", "/store/k")
    assert (answer.status, answer.code) == (500, "InternalError")
    assert answer.headers["x-amz-request-id"] in caplog.text


async def test_a_head_error_has_no_body(customer: Customer) -> None:
    for target in ("/absent", "/store/absent"):
        answer = await customer("HEAD", target)
        assert (answer.status, answer.body) == (404, b"")


UNSERVED = sorted(set(CODEC.model.operations) - set(HANDLERS) - UNROUTED)


@pytest.mark.parametrize("name", [*UNSERVED[:4], *UNSERVED[-4:], "PutBucketPolicy"])
async def test_what_is_not_served_is_501_with_its_name(customer: Customer, name: str) -> None:
    operation = CODEC.model.operations[name]
    query = {key: value for key, value in operation.literals}
    shape = CODEC.model.shapes[operation.input]
    headers = {}
    for member in shape.members:
        if member.name in shape.required and member.location == "querystring":
            query[member.wire] = "x"
        if member.name in shape.required and member.location == "header":
            headers[member.wire] = "x"
    path = operation.fixed_path or {"key": "/store/k", "bucket": "/store"}[operation.level]
    text = "&".join(f"{key}={value}" for key, value in query.items())
    answer = await customer(operation.method, f"{path}?{text}".rstrip("?"), headers=headers)
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert f"<Operation>{name}</Operation>".encode() in answer.body


def test_every_partial_operation_is_served() -> None:
    assert set(PARTIAL) <= set(HANDLERS) <= set(CODEC.model.operations)


@given(st.text(max_size=60))
def test_user_metadata_of_any_text_survives_the_headers(text: str) -> None:
    stored = " ".join(text.split())
    if "=?" in stored:
        return
    again = user_metadata({"k": wire_text(stored)})["k"]
    assert again == stored


async def test_metadata_in_utf8_comes_back_as_rfc_2047(customer: Customer) -> None:
    word = "=?UTF-8?B?" + base64.b64encode("Grüße 🦑".encode()).decode() + "?="
    await customer("PUT", "/store/k", headers={"x-amz-meta-a": word, "x-amz-meta-b": "plain"})
    got = await customer("GET", "/store/k")
    assert got.headers["x-amz-meta-a"] == word
    assert got.headers["x-amz-meta-b"] == "plain"


async def test_the_health_needs_no_signature(customer: Customer) -> None:
    answer = await customer.send("GET", "/-/health", {}, [b""])
    assert (answer.status, answer.body) == (200, b'{"state":"serving"}')


async def test_many_long_messages_at_once_are_slowed_down(world: World) -> None:
    gateway = world.gateway
    long = {"content-length": str(8 << 20)}

    async def hold(number: int) -> Answer | None:
        headers = sigv4.sign_headers(
            Credentials(ACCESS, SECRET), "POST", b"/store", [(b"delete", b"")],
            {"host": "h", **content_md5(str(number).encode())},
            sigv4.UNSIGNED_PAYLOAD, world.clock.now_ms(),
        )  # fmt: skip
        try:
            return await world.customer.send(
                "POST", "/store?delete", {**headers, **long}, [b" ", None]
            )
        except ConnectionError:
            return None

    gateway._xml_bytes = 60 << 20
    refused = await hold(1)
    assert refused is not None
    assert (refused.status, refused.code) == (503, "SlowDown")
    gateway._xml_bytes = 0
    assert await hold(2) is None
    assert gateway._xml_bytes == 0
