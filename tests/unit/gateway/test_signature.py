"""Who may ask: every way to sign is verified, every way to cheat has its exact answer."""

import base64
import hmac
from typing import Any
from urllib.parse import quote

import pytest
from tests.unit.gateway.world import ACCESS, SECRET, STRANGER, Answer, Customer, World

from atoll.core import sigv4
from atoll.core.sigv4 import Credentials

HOST = "127.0.0.1:9000"
CREDENTIALS = Credentials(ACCESS, SECRET)


async def signed(
    world: World,
    method: str = "GET",
    path: str = "/store/a",
    *,
    credentials: Credentials = CREDENTIALS,
    shift_ms: int = 0,
    change: dict[str, str | None] | None = None,
    payload: str = sigv4.EMPTY_SHA256,
    extra: dict[str, str] | None = None,
) -> Answer:
    """Sign, then tamper with what was signed (None removes a header)."""
    now_ms = world.clock.now_ms() + shift_ms
    headers = sigv4.sign_headers(
        credentials, method, path.encode(), [], {"host": HOST, **(extra or {})}, payload, now_ms
    )
    for name, value in (change or {}).items():
        if value is None:
            headers.pop(name)
        else:
            headers[name] = value
    return await world.customer.send(method, path, headers, [b""])


async def test_a_good_signature_passes(world: World) -> None:
    assert (await signed(world)).code == "NoSuchKey"


MINUTES = 60_000


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"credentials": Credentials(ACCESS, "guess")}, 403, "SignatureDoesNotMatch"),
        ({"credentials": Credentials("AKIDNOBODY", SECRET)}, 403, "InvalidAccessKeyId"),
        ({"credentials": Credentials(ACCESS, SECRET, "mars-1")}, 400,
         "AuthorizationHeaderMalformed"),
        ({"credentials": Credentials(ACCESS, SECRET, "us-east-1", "ec2")}, 400,
         "AuthorizationHeaderMalformed"),
        ({"shift_ms": 16 * MINUTES}, 403, "RequestTimeTooSkewed"),
        ({"shift_ms": -16 * MINUTES}, 403, "RequestTimeTooSkewed"),
        ({"change": {"host": "evil"}}, 403, "SignatureDoesNotMatch"),
        ({"change": {"x-amz-date": "20200101T000000Z"}}, 400, "AuthorizationHeaderMalformed"),
        ({"change": {"x-amz-date": "yesterday"}}, 403, "AccessDenied"),
        ({"change": {"x-amz-content-sha256": None}}, 400, "InvalidRequest"),
        ({"change": {"x-amz-content-sha256": "beef"}}, 400, "InvalidArgument"),
        ({"change": {"x-amz-acl": "private"}}, 403, "AccessDenied"),
        ({"change": {"authorization": None}}, 403, "AccessDenied"),
        ({"change": {"authorization": "AWS AKID:sig"}}, 400, "InvalidRequest"),
        ({"change": {"authorization": "Bearer x"}}, 400, "InvalidArgument"),
        ({"change": {"authorization": "AWS4-HMAC-SHA256 nonsense"}}, 400,
         "AuthorizationHeaderMalformed"),
        ({"change": {"authorization": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, "
                     "Signature=00"}}, 400, "AuthorizationHeaderMalformed"),
        ({"change": {"authorization": "AWS4-ECDSA-P256-SHA256 Credential=x"}}, 501,
         "NotImplemented"),
        ({"payload": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"}, 501, "NotImplemented"),
        ({"extra": {"x-amz-security-token": "t"}}, 400, "InvalidToken"),
    ],
)  # fmt: skip
async def test_a_bad_signature_has_its_exact_answer(
    world: World, options: dict[str, Any], status: int, code: str
) -> None:
    answer = await signed(world, **options)
    assert (answer.status, answer.code) == (status, code)


async def test_the_wrong_region_is_told_the_right_one(world: World) -> None:
    answer = await signed(world, credentials=Credentials(ACCESS, SECRET, "mars-1"))
    assert b"<Region>us-east-1</Region>" in answer.body
    assert answer.headers["x-amz-bucket-region"] == "us-east-1"


async def test_a_mismatch_shows_what_was_signed_but_no_secret(world: World) -> None:
    answer = await signed(world, credentials=Credentials(ACCESS, "guess"))
    assert b"<StringToSign>AWS4-HMAC-SHA256" in answer.body
    assert SECRET.encode() not in answer.body


async def presigned(world: World, *, shift_ms: int = 0, expires_s: int = 60, **tamper: str) -> Any:
    query = sigv4.presign(
        CREDENTIALS, "GET", b"/store/a", [], {"host": HOST}, expires_s,
        world.clock.now_ms() + shift_ms,
    )  # fmt: skip
    for name, value in tamper.items():
        query = "&".join(
            part if not part.startswith(f"X-Amz-{name}=") else f"X-Amz-{name}={value}"
            for part in query.split("&")
        )
    return await world.customer.send("GET", f"/store/a?{query}", {"host": HOST}, [b""])


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({}, 404, "NoSuchKey"),
        ({"shift_ms": -61_000}, 403, "AccessDenied"),
        ({"shift_ms": 16 * MINUTES}, 403, "AccessDenied"),
        ({"Expires": "604801"}, 400, "AuthorizationQueryParametersError"),
        ({"Expires": "soon"}, 400, "AuthorizationQueryParametersError"),
        ({"Expires": "61"}, 403, "SignatureDoesNotMatch"),
        ({"Algorithm": "ROT13"}, 400, "AuthorizationQueryParametersError"),
        ({"Credential": "me"}, 400, "AuthorizationQueryParametersError"),
        ({"Date": "now"}, 400, "AuthorizationQueryParametersError"),
        ({"Signature": "0" * 64}, 403, "SignatureDoesNotMatch"),
        ({"SignedHeaders": "accept"}, 403, "AccessDenied"),
    ],
)
async def test_presigned_requests(
    world: World, options: dict[str, Any], status: int, code: str
) -> None:
    answer = await presigned(world, **options)
    assert (answer.status, answer.code) == (status, code)


async def test_an_expired_request_says_so(world: World) -> None:
    answer = await presigned(world, shift_ms=-120_000)
    assert b"<Message>Request has expired</Message>" in answer.body
    assert b"<X-Amz-Expires>60</X-Amz-Expires>" in answer.body


async def test_a_forged_link_of_version_2_is_refused(world: World) -> None:
    for expires in ("1", "", "x", "-1", "9" * 30):
        target = f"/store/a?AWSAccessKeyId=a&Signature=b&Expires={expires}"
        answer = await world.customer.send("GET", target, {"host": HOST}, [b""])
        assert (answer.status, answer.code) == (403, "AccessDenied")


def link(world: World, method: str, resource: str, amz: str = "") -> str:
    """Return the query of a link of version 2, made by the owner."""
    expires = world.clock.now_ms() // 1000 + 60
    text = f"{method}\n\n\n{expires}\n{amz}{resource}"
    digest = hmac.digest(SECRET.encode(), text.encode(), "sha1")
    signature = quote(base64.b64encode(digest).decode(), safe="")
    return f"AWSAccessKeyId={ACCESS}&Expires={expires}&Signature={signature}"


@pytest.mark.parametrize(
    "added",
    [
        "&attributes",
        "&legal-hold",
        "&renameObject",
        "&x-amz-acl=private",
        "&expires=99999999999",
        "&X-AMZ-COPY-SOURCE=/store/secret",
        "&content-md5=a%0Ab",
    ],
)
async def test_a_link_of_version_2_does_only_what_was_signed(world: World, added: str) -> None:
    await world.customer("PUT", "/store/a", body=b"shared")
    await world.customer("PUT", "/store/secret", body=b"secret")
    query = link(world, "GET", "/store/a")
    good = await world.customer.send("GET", f"/store/a?{query}", {"host": HOST}, [b""])
    assert (good.status, good.body) == (200, b"shared")
    bad = await world.customer.send("GET", f"/store/a?{query}{added}", {"host": HOST}, [b""])
    assert bad.status == 403


async def test_a_signed_parameter_has_no_twin_in_another_case(world: World) -> None:
    await world.customer("PUT", "/store/a", body=b"shared")
    await world.customer("PUT", "/store/secret", body=b"secret")
    signed = link(world, "PUT", "/store/copy", "x-amz-copy-source:/store/a\n")
    own = "x-amz-copy-source=/store/a"
    attack = f"/store/copy?X-Amz-Copy-Source=/store/secret&{own}&{signed}"
    answer = await world.customer.send("PUT", attack, {"host": HOST}, [b""])
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert (await world.customer("GET", "/store/copy")).code == "NoSuchKey"
    fair = f"/store/copy?{own}&{signed}"
    assert (await world.customer.send("PUT", fair, {"host": HOST}, [b""])).status == 200


async def test_anothers_bucket_is_closed(world: World) -> None:
    stranger = Customer(world.gateway, *STRANGER)
    for method in ("GET", "PUT", "DELETE"):
        answer = await stranger(method, "/store/a")
        assert (answer.status, answer.code) == (403, "AccessDenied")
    assert (await stranger("PUT", "/store")).code == "BucketAlreadyExists"


async def test_a_body_other_than_the_signed_one_is_never_stored(world: World) -> None:
    payload = sigv4.sign_headers(
        CREDENTIALS, "PUT", b"/store/a", [], {"host": HOST}, "0" * 64, world.clock.now_ms()
    )
    payload["content-length"] = "5"
    answer = await world.customer.send("PUT", "/store/a", payload, [b"other"])
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert not world.objects.kept, "the nodes never saw its end"
    assert (await world.customer("GET", "/store/a")).code == "NoSuchKey"
