"""The codec agrees with a client we did not write: botocore, for every modelled operation."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from atoll.gateway.s3.codec.compiled import Codec, compile_codec
from atoll.gateway.s3.codec.decode import decode_text, parse_query, parse_xml
from atoll.gateway.s3.codec.values import http_date
from atoll.gateway.s3.errors import S3Error
from atoll.gateway.s3.quirks import UNROUTED

CODEC: Codec = compile_codec()
SERVICE = botocore.model.ServiceModel(
    botocore.loaders.Loader().load_service_model("s3", "service-2"), "s3"
)
SERIALIZER = botocore.serialize.create_serializer("rest-xml", include_validation=False)
PARSER = botocore.parsers.create_parser("rest-xml")

HEADER_TEXT = st.text("abcXYZ019-_./", min_size=1, max_size=12)
BODY_TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Cn")),
    min_size=1,
    max_size=12,
).filter(lambda text: text.strip() != "")
SECONDS = st.integers(0, 4_000_000_000)


def values(shape: Any, header: bool, depth: int = 0) -> st.SearchStrategy[Any]:
    kind = shape.type_name
    if kind == "structure":
        return structures(shape, depth=depth + 1)
    if kind == "list":
        return st.lists(values(shape.member, header, depth + 1), min_size=1, max_size=3)
    if kind == "map":
        return st.dictionaries(st.text("abc-", min_size=1, max_size=5), HEADER_TEXT, min_size=1)
    if kind in ("integer", "long"):
        return st.integers(-(2**31), 2**31 if kind == "integer" else 2**62)
    if kind == "boolean":
        return st.booleans()
    if kind == "timestamp":
        return SECONDS.map(lambda second: datetime.fromtimestamp(second, UTC))
    if kind == "blob":
        return st.binary(min_size=1, max_size=16)
    if shape.enum:
        return st.sampled_from(shape.enum)
    return HEADER_TEXT if header else BODY_TEXT


def structures(
    shape: Any, skip: frozenset[str] = frozenset(), depth: int = 0
) -> st.SearchStrategy[dict[str, Any]]:
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, member in shape.members.items():
        if name in skip or member.serialization.get("eventstream"):
            continue
        location = member.serialization.get("location", "")
        strategy = values(member, location in ("header", "headers", "uri", "querystring"), depth)
        target = required if name in shape.required_members else optional
        target[name] = strategy
    if depth > 3:
        optional = {}
    return st.fixed_dictionaries(required, optional=optional)


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp()) * 1000
    if isinstance(value, dict):
        # The model itself says that Expires is a string; botocore's extras make it a date.
        return {
            key: http_date(plain(inner))
            if key == "Expires" and isinstance(inner, datetime)
            else plain(inner)
            for key, inner in value.items()
            if key != "ExpiresString"
        }
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def without_empty(value: Any) -> Any:
    """Structures and lists with nothing in them vanish on the wire."""
    if isinstance(value, dict):
        cleaned = {key: without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in cleaned.items() if inner not in ({}, [], None, "")}
    if isinstance(value, list):
        return [without_empty(inner) for inner in value]
    return value


ROUTED = sorted(set(SERVICE.operation_names) - UNROUTED - {"WriteGetObjectResponse"})


@pytest.mark.parametrize("name", ROUTED)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_botocore_serialises_is_what_we_decode(name: str, data: Any) -> None:
    operation = SERVICE.operation_model(name)
    decoder = CODEC.decoders[name]
    params: dict[str, Any] = {}
    if operation.input_shape:
        streaming = frozenset({decoder.payload}) if decoder.streams else frozenset()
        params = data.draw(structures(operation.input_shape, streaming))
    if "Bucket" in params:
        params["Bucket"] = "bucket"
    request = SERIALIZER.serialize_to_request(params, operation)
    path, _, fixed = request["url_path"].partition("?")
    query = {decode_text(key): decode_text(value) for key, value in parse_query(fixed.encode())}
    for key, value in request["query_string"].items():
        query[key] = ",".join(value) if isinstance(value, list) else str(value)
    headers = {key.lower(): str(value) for key, value in request["headers"].items()}
    bucket, _, key = path.lstrip("/").partition("/")
    level = "key" if key else ("bucket" if bucket else "service")
    found = CODEC.router.find(request["method"], level, query, "x-amz-copy-source" in headers)
    assert found.name == name

    decoded = decoder.decode(headers, query)
    body = request["body"]
    if decoder.read_body is not None:
        decoder.decode_body(body.encode() if isinstance(body, str) else bytes(body), decoded)
    expected = plain(params)
    for gone in ("Bucket", "Key"):
        member = operation.input_shape.members.get(gone) if operation.input_shape else None
        if member is not None and member.serialization.get("location") == "uri":
            expected.pop(gone, None)
    assert without_empty(decoded) == without_empty(expected)


ANSWERED = sorted(
    name
    for name in SERVICE.operation_names
    if SERVICE.operation_model(name).output_shape
    and name not in ("GetBucketLocation", "SelectObjectContent", *UNROUTED)
)


@pytest.mark.parametrize("name", ANSWERED)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_we_encode_is_what_botocore_parses(name: str, data: Any) -> None:
    operation = SERVICE.operation_model(name)
    encoder = CODEC.encoders[name]
    shape: Any = operation.output_shape
    payload = shape.serialization.get("payload")
    streaming = frozenset({payload}) if encoder.streams else frozenset()
    output = data.draw(structures(shape, streaming))
    ours = plain(output)
    answer = {
        "status_code": 200,
        "headers": dict(encoder.headers(ours)),
        "body": encoder.body(ours),
    }
    parsed = PARSER.parse(answer, shape)
    parsed.pop("ResponseMetadata")
    for name_gone in streaming:
        parsed.pop(name_gone, None)
    assert without_empty(plain(parsed)) == without_empty(ours)


def test_the_model_is_read_without_importing_botocore() -> None:
    script = (
        "import sys; from atoll.gateway.s3.codec.compiled import compile_codec; compile_codec();"
        "print('botocore' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "body",
    [
        b"<a><b></a>",
        b"",
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>" * 300 + b"</a>" * 300,
        b"\xff\xfe<",
    ],
)
def test_hostile_xml_is_malformed(body: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        parse_xml(body)
    assert caught.value.code == "MalformedXML"


@pytest.mark.parametrize(
    ("method", "level", "query", "code"),
    [
        ("PUT", "bucket", {"uploads": ""}, "MethodNotAllowed"),
        ("PATCH", "key", {}, "MethodNotAllowed"),
        ("DELETE", "bucket", {"analytics": ""}, "MethodNotAllowed"),
        ("GET", "bucket", {"list-type": "7"}, "InvalidArgument"),
        ("PUT", "key", {"partNumber": "1"}, "InvalidArgument"),
        ("DELETE", "key", {"acl": ""}, "MethodNotAllowed"),
    ],
)
def test_a_request_for_no_operation_is_refused(
    method: str, level: str, query: dict[str, str], code: str
) -> None:
    with pytest.raises(S3Error) as caught:
        CODEC.router.find(method, level, query, False)
    assert caught.value.code == code


def test_control_characters_and_markup_in_keys_survive_a_listing() -> None:
    keys = ["a&b<c>\"d'", "tab\there", "line\nbreak\r", "é ü 漢字", "]]>"]
    body = CODEC.encoders["ListObjectsV2"].body({"Contents": [{"Key": key} for key in keys]})
    root = etree.fromstring(body)
    assert [node.text for node in root.iter("{*}Key")] == keys


def test_model_names_are_plain_json() -> None:
    assert json.dumps(sorted(CODEC.decoders))
