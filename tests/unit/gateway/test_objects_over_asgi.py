"""Objects through the whole endpoint: what is put comes back, byte for byte."""

import pytest
from botocore.utils import percent_encode
from tests.unit.gateway.world import Customer


async def test_an_object_comes_back(customer: Customer) -> None:
    put = await customer("PUT", "/store/a.txt", body=b"hello", headers={"content-type": "text/x"})
    assert (put.status, put.headers["etag"]) == (200, '"5d41402abc4b2a76b9719d911017c592"')
    assert "content-length" in put.headers
    got = await customer("GET", "/store/a.txt")
    assert (got.status, got.body) == (200, b"hello")
    assert got.headers["content-type"] == "text/x"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["content-length"] == "5"
    assert got.headers["server"] == "Atoll"
    assert len(got.headers["x-amz-request-id"]) == 16
    assert got.headers["last-modified"].endswith("GMT")
    head = await customer("HEAD", "/store/a.txt")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == "5"


ODD_KEYS = [
    "a//b", "/lead", "//lead", "trail/", "a/../b", "..", ".", "a%2Fb", "a+b c", "a?b#c&d=e",
    "é漢字🦑", "quote\"'<>&", "new\nline\ttab", "\x01control", "a\\b", "~tilde-_.!*()", "%", "%zz",
    "k" * 1024, "\x00nul", "uploads", "?acl", " space ", ";,:@$[]{}|^`",
]  # fmt: skip


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_every_odd_key_works(customer: Customer, key: str) -> None:
    target = "/store/" + percent_encode(key, safe="/~")
    body = key.encode()
    assert (await customer("PUT", target, body=body)).status == 200
    assert (await customer("GET", target)).body == body
    # The host names the bucket just as well.
    virtual = await customer("GET", "/" + percent_encode(key, safe="/~"), host="store.localhost:9")
    assert virtual.body == body
    listing = await customer("GET", "/store?list-type=2&encoding-type=url")
    assert f"<Key>{percent_encode(key, safe='/')}</Key>" in listing.body.decode()
    assert (await customer("DELETE", target)).status == 204
    assert (await customer("GET", target)).code == "NoSuchKey"
