"""Signature Version 4: AWS's published examples, and agreement with signers we did not write."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import sigv4
from atoll.core.sigv4 import ChunkSigner, Credentials

# The examples of the S3 API reference ("Signature calculations … chunked upload").
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
TIMESTAMP, SCOPE = "20130524T000000Z", "20130524/us-east-1/s3/aws4_request"


def signer(seed: str) -> ChunkSigner:
    key = sigv4.signing_key(EXAMPLE.secret, "20130524", "us-east-1")
    return ChunkSigner(key, TIMESTAMP, SCOPE, seed)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_published_chunk_signatures() -> None:
    chain = signer("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")
    assert [chain.chunk(sha256(data)) for data in (b"a" * 65536, b"a" * 1024, b"")] == [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]


def test_the_published_trailer_signature() -> None:
    chain = signer("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")
    assert [chain.chunk(sha256(data)) for data in (b"a" * 65536, b"a" * 1024, b"")] == [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ]
    assert chain.trailer(b"x-amz-checksum-crc32c:sOO8/Q==\n") == (
        "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    )


def test_the_published_get_example() -> None:
    headers = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9"}
    signed = sigv4.sign_headers(
        EXAMPLE, "GET", b"/test.txt", [], headers, sigv4.EMPTY_SHA256, 1_369_353_600_000
    )
    assert signed["authorization"].endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("C", "Z")))


def oracle(kind: Any, method: str, url: str, **options: Any) -> Any:
    credentials = botocore.credentials.Credentials("AKID", "secret")
    request = botocore.awsrequest.AWSRequest(method=method, url=url, data=b"")
    now = NOW.replace(tzinfo=None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        kind(credentials, "s3", "us-east-1", **options).add_auth(request)
    return request


@given(key=NAMES, pairs=st.lists(st.tuples(NAMES.filter(bool), NAMES), max_size=4))
def test_our_header_signature_is_botocores(key: str, pairs: list[tuple[str, str]]) -> None:
    path = "/bucket/" + quote(key, safe="/~")
    query = "&".join(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in pairs)
    url = f"http://127.0.0.1:9000{path}" + (f"?{query}" if query else "")
    theirs = oracle(botocore.auth.S3SigV4Auth, "GET", url).headers["Authorization"]
    ours = sigv4.sign_headers(
        Credentials("AKID", "secret"),
        "GET",
        path.encode(),
        [(n.encode(), v.encode()) for n, v in pairs],
        {"host": "127.0.0.1:9000"},
        sigv4.EMPTY_SHA256,
        NOW_MS,
    )["authorization"]
    assert ours == theirs


def test_our_presigned_query_is_botocores() -> None:
    request = oracle(botocore.auth.S3SigV4QueryAuth, "GET", "http://h:1/bucket/a%20b", expires=600)
    theirs = dict(part.split("=", 1) for part in request.url.partition("?")[2].split("&"))
    ours = sigv4.presign(
        Credentials("AKID", "secret"), "GET", b"/bucket/a%20b", [], {"host": "h:1"}, 600, NOW_MS
    )
    assert dict(part.split("=", 1) for part in ours.split("&")) == theirs


@pytest.mark.parametrize("seconds", [0, -1, 604_801])
def test_a_presigned_request_lives_a_week_at_most(seconds: int) -> None:
    with pytest.raises(ValueError, match="604800"):
        sigv4.presign(EXAMPLE, "GET", b"/", [], {"host": "h"}, seconds, NOW_MS)


@given(st.integers(0, 4_000_000_000))
def test_dates_go_there_and_back(second: int) -> None:
    assert sigv4.amz_date_ms(sigv4.amz_date(second * 1000)) == second * 1000


@pytest.mark.parametrize("text", ["", "20260102T030405", "2026-01-02T0304Z", "20261302T030405Z"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        sigv4.amz_date_ms(text)
