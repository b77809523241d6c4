"""Requests that no client would send, correctly signed: never a 500, never a bug in the log."""

import random
from collections import Counter
from typing import Any

import pytest
from tests.unit.gateway.world import ACCESS, CODEC, SECRET, World

from atoll.core import sigv4
from atoll.core.sigv4 import Credentials
from atoll.gateway.s3.codec.decode import parse_query

NAMES = sorted(
    {
        member.wire
        for shape in CODEC.model.shapes.values()
        for member in shape.members
        if member.location == "header"
    }
)
RESOURCES = sorted(
    {name for operation in CODEC.model.operations.values() for name, _ in operation.literals}
)
QUERIES = ["uploadId", "partNumber", "max-keys", "prefix", "marker", "versionId", "encoding-type",
           "continuation-token", "delimiter", "start-after", "x-id", "key-marker"]  # fmt: skip
VALUES = ["", "0", "1", "-1", "99999999999999999999", "x", "é", "*", "true", "2026-01-02T03:04:05Z",
          "CRC32", "AAAAAA==", "bytes=0-", "bytes=5-2", '"e"', "url", "/store/k", "\t",
          "%00"]  # fmt: skip
BODIES = [b"", b"x", b"<a/>", b"<Delete><Object><Key>k</Key></Object></Delete>", b"\xff" * 100,
          b"<CompleteMultipartUpload/>", b"<a><b><c/></b></a>", b"0\r\n\r\n"]  # fmt: skip
PATHS = ["/", "/store", "/store/", "/store/k", "/store//", "/x", "/%00", "/store/%e9", "//", "/-/-",
         *["/store/k"] * 8, *["/store"] * 4]  # fmt: skip
METHODS = ["GET", "PUT", "HEAD", "DELETE", "POST", "PATCH", *["GET", "PUT"] * 3]
PAYLOADS = [sigv4.UNSIGNED_PAYLOAD, sigv4.EMPTY_SHA256, sigv4.STREAMING_UNSIGNED_TRAILER,
            sigv4.STREAMING_SIGNED]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
async def test_no_signed_request_is_a_bug(world: World, seed: int, caplog: Any) -> None:
    chance = random.Random(seed)
    await world.customer("PUT", "/store/k", body=b"x")
    codes: Counter[str] = Counter()
    for _ in range(150):
        method, path = chance.choice(METHODS), chance.choice(PATHS)
        names = chance.sample(QUERIES, chance.randrange(3))
        names += chance.sample(RESOURCES, chance.random() < 0.3)
        query = "&".join(
            f"{name}={chance.choice(VALUES)}" if chance.random() < 0.7 else name for name in names
        ).replace("é", "%C3%A9")
        headers = {
            name.lower(): chance.choice(VALUES)
            for name in chance.sample(NAMES, chance.randrange(4))
            if name.lower() not in ("authorization", "content-length")
        }
        body = chance.choice(BODIES)
        if chance.random() < 0.8:
            headers["content-length"] = str(len(body))
        if chance.random() < 0.3:
            headers["x-amz-decoded-content-length"] = str(chance.randrange(3))
        sent = sigv4.sign_headers(
            Credentials(ACCESS, SECRET),
            method,
            path.encode(),
            parse_query(query.encode()),
            {name: value.encode().decode("latin-1") for name, value in headers.items()}
            | {"host": "h"},
            chance.choice(PAYLOADS),
            world.clock.now_ms(),
        )
        sent = {name: value.encode("latin-1").decode() for name, value in sent.items()}
        target = f"{path}?{query}" if query else path
        try:
            answer = await world.customer.send(method, target, sent, [body])
        except ConnectionError:
            continue
        codes[answer.code or str(answer.status)] += 1
        assert answer.status < 500 or answer.status == 501, (method, target, headers, answer.body)
    assert "a bug" not in caplog.text
    assert codes["SignatureDoesNotMatch"] < 15, "most requests come past the door"
    assert len(codes) > 15, "and meet many fates"
