"""aws-chunked bodies: any cuts decode alike, every truncation and forgery is refused."""

import base64
import contextlib
import hashlib
from itertools import pairwise
from typing import Any

import pytest
from awscrt import checksums as crt
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.world import ACCESS, SECRET, Answer, World

from atoll.core import sigv4
from atoll.core.sigv4 import ChunkSigner, Credentials
from atoll.gateway.s3.chunks import ChunkDecoder, ChunkEnd
from atoll.gateway.s3.errors import S3Error

HOST = "127.0.0.1:9000"
CREDENTIALS = Credentials(ACCESS, SECRET)


def framed(chunks: list[bytes], signer: ChunkSigner | None, trailer: bytes = b"") -> bytes:
    """Return a body as a client frames it."""
    out = bytearray()
    for data in [*chunks, b""]:
        out += f"{len(data):x}".encode()
        if signer is not None:
            out += b";chunk-signature=" + signer.chunk(hashlib.sha256(data).hexdigest()).encode()
        out += b"\r\n" + data + (b"\r\n" if data else b"")
    if trailer:
        out += trailer + b"\r\n"
        if signer is not None:
            signature = signer.trailer(trailer + b"\n")
            out += b"x-amz-trailer-signature:" + signature.encode() + b"\r\n"
    return bytes(out + b"\r\n")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


def fresh_signer() -> ChunkSigner:
    return ChunkSigner(bytes(32), "20260102T030405Z", "scope", "0" * 64)


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
CUTS = st.lists(st.integers(0, 1000), max_size=12)


@given(chunks=CHUNKS, cuts=CUTS, signed=st.booleans(), trailing=st.booleans())
def test_any_cuts_decode_alike(
    chunks: list[bytes], cuts: list[int], signed: bool, trailing: bool
) -> None:
    trailer = b"x-amz-checksum-crc32:AAAAAA==" if trailing else b""
    body = framed(chunks, fresh_signer() if signed else None, trailer)
    whole = b"".join(chunks)
    decoder = ChunkDecoder(signed=signed, decoded_bytes=len(whole))
    events = [event for part in cut(body, cuts) for event in decoder.feed(part)]
    assert b"".join(bytes(e) for e in events if isinstance(e, memoryview)) == whole
    ends = [event for event in events if isinstance(event, ChunkEnd)]
    assert len(ends) == (len(chunks) + 1 if signed else 0)
    trailers = decoder.finish()
    assert trailers.get("x-amz-checksum-crc32") == ("AAAAAA==" if trailing else None)


@given(chunks=CHUNKS, data=st.data())
def test_a_truncated_body_is_incomplete(chunks: list[bytes], data: Any) -> None:
    body = framed(chunks, None)
    framing_end = len(body) - len(b"\r\n")
    length = data.draw(st.integers(0, framing_end - 1))
    decoder = ChunkDecoder(signed=False, decoded_bytes=len(b"".join(chunks)))
    decoder.feed(body[:length])
    with pytest.raises(S3Error) as caught:
        decoder.finish()
    assert caught.value.code == "IncompleteBody"


@settings(max_examples=300)
@given(data=st.binary(max_size=200), signed=st.booleans(), size=st.integers(0, 100))
def test_noise_is_refused_or_harmless(data: bytes, signed: bool, size: int) -> None:
    decoder = ChunkDecoder(signed=signed, decoded_bytes=size)
    decoded = 0
    with contextlib.suppress(S3Error):
        for event in decoder.feed(data):
            decoded += len(event) if isinstance(event, memoryview) else 0
        decoder.finish()
    assert decoded <= size


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"g\r\n",
        b"-5\r\nhello\r\n",
        b"5 ;chunk-signature=zz\r\nhello\r\n0\r\n\r\n" + b"f" * 2000,
        b"1" * 2000,
        b"ffffffffffffffff\r\n",
    ],
)
def test_malformed_framing_is_refused(body: bytes) -> None:
    decoder = ChunkDecoder(signed=False, decoded_bytes=5)

    def decode() -> None:
        decoder.feed(body)
        decoder.finish()

    with pytest.raises(S3Error):
        decode()


def test_a_body_shorter_than_announced_is_incomplete() -> None:
    decoder = ChunkDecoder(signed=False, decoded_bytes=6)
    decoder.feed(b"5\r\nhello\r\n0\r\n\r\n")
    with pytest.raises(S3Error) as caught:
        decoder.finish()
    assert caught.value.code == "IncompleteBody"


def test_payload_is_not_copied() -> None:
    data = b"5\r\nhello\r\n0\r\n\r\n"
    decoder = ChunkDecoder(signed=False, decoded_bytes=5)
    view = next(e for e in decoder.feed(data) if isinstance(e, memoryview))
    assert view.obj is data


# --- through the endpoint ------------------------------------------------------------------------


def crc32c(data: bytes) -> str:
    return base64.b64encode(crt.crc32c(data).to_bytes(4, "big")).decode()


async def upload(
    world: World,
    chunks: list[bytes],
    *,
    mode: str = sigv4.STREAMING_SIGNED,
    trailer: str = "",
    announce: str = "",
    spoil: Any = None,
    decoded: int | None = None,
    cuts: list[int] | None = None,
    extra: dict[str, str] | None = None,
) -> Answer:
    """Upload to /store/s in chunks; ``spoil`` changes the framed body."""
    now_ms = world.clock.now_ms()
    size = sum(map(len, chunks)) if decoded is None else decoded
    headers = {
        "host": HOST,
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(size),
        **({"x-amz-trailer": announce} if announce else {}),
        **(extra or {}),
    }
    sent = sigv4.sign_headers(CREDENTIALS, "PUT", b"/store/s", [], headers, mode, now_ms)
    signer = None
    if "HMAC" in mode:
        timestamp = sent["x-amz-date"]
        signer = ChunkSigner(
            sigv4.signing_key(SECRET, timestamp[:8], "us-east-1"),
            timestamp,
            sigv4.scope_of(timestamp[:8], "us-east-1"),
            sent["authorization"].rpartition("=")[2],
        )
    body = framed(chunks, signer, trailer.encode())
    body = spoil(body) if spoil else body
    sent["content-length"] = str(len(body))
    return await world.customer.send("PUT", "/store/s", sent, list(cut(body, cuts or [])))


SIGNED, SIGNED_T = sigv4.STREAMING_SIGNED, sigv4.STREAMING_SIGNED_TRAILER
UNSIGNED_T = sigv4.STREAMING_UNSIGNED_TRAILER
BIG = [bytes([n]) * 150_000 for n in range(5)]


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_T, UNSIGNED_T])
@pytest.mark.parametrize("chunks", [[], [b"x"], [b"one", b"two"], BIG])
async def test_streamed_uploads_come_back(world: World, mode: str, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    trailing = {
        "trailer": f"x-amz-checksum-crc32c:{crc32c(whole)}",
        "announce": "x-amz-checksum-crc32c",
    }
    options: dict[str, Any] = trailing if mode != SIGNED else {}
    answer = await upload(world, chunks, mode=mode, cuts=[70_001, 333], **options)
    assert answer.status == 200, answer.body
    got = await world.customer("GET", "/store/s")
    assert got.body == whole
    assert "content-encoding" not in got.headers


def flip(place: bytes) -> Any:
    def change(body: bytes) -> bytes:
        at = body.index(place)
        return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

    return change


TRAILER = {"announce": "x-amz-checksum-crc32c"}
GOOD = f"x-amz-checksum-crc32c:{crc32c(b'onetwo')}"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"spoil": flip(b"two")}, "SignatureDoesNotMatch"),
        ({"spoil": lambda b: b[: b.index(b"two") + 1]}, "IncompleteBody"),
        ({"spoil": lambda b: b[: b.index(b"\r\n0;") + 2]}, "IncompleteBody"),
        ({"decoded": 7}, "IncompleteBody"),
        ({"decoded": 5}, "IncompleteBody"),
        ({"decoded": 6 << 30}, "EntityTooLarge"),
        ({"mode": SIGNED_T, "trailer": GOOD, **TRAILER,
          "spoil": lambda b: b[:-10] + b"0" * 8 + b[-2:]}, "SignatureDoesNotMatch"),
        ({"mode": UNSIGNED_T, "trailer": "x-amz-checksum-crc32c:AAAAAA==", **TRAILER},
         "BadDigest"),
        ({"mode": UNSIGNED_T, "trailer": "x-amz-checksum-crc32c:AAAA", **TRAILER},
         "InvalidRequest"),
        ({"mode": UNSIGNED_T, "trailer": "", **TRAILER}, "MalformedTrailerError"),
        ({"mode": UNSIGNED_T, "trailer": "nonsense", **TRAILER}, "MalformedTrailerError"),
        ({"mode": UNSIGNED_T, "trailer": GOOD, "announce": "x-amz-meta-a"}, "InvalidRequest"),
        ({"mode": UNSIGNED_T, "trailer": GOOD}, "MalformedTrailerError"),
        ({"mode": UNSIGNED_T, "trailer": GOOD, **TRAILER,
          "extra": {"x-amz-sdk-checksum-algorithm": "SHA1"}}, "InvalidRequest"),
    ],
)  # fmt: skip
async def test_a_spoilt_stream_leaves_nothing(
    world: World, options: dict[str, Any], code: str
) -> None:
    answer = await upload(world, [b"one", b"two"], **options)
    assert (answer.status, answer.code) == (403 if "Signature" in code else 400, code)
    assert (await world.customer("GET", "/store/s")).code == "NoSuchKey"


async def test_a_large_stream_with_one_bad_signature_is_refused(world: World) -> None:
    answer = await upload(world, BIG, spoil=flip(b"\x03" * 99), cuts=[65_536, 400_000])
    assert answer.code == "SignatureDoesNotMatch"
