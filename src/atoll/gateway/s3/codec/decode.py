"""Request decoders compiled from the model: headers, query and XML to named parameters.

Parameters carry the model's names; times are milliseconds since the epoch, numbers ``int``.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from lxml import etree

from atoll.gateway.s3.codec.model import Member, Model, Operation, Shape
from atoll.gateway.s3.codec.values import parse_boolean, parse_date, parse_integer
from atoll.gateway.s3.errors import S3Error, invalid_argument
from atoll.gateway.s3.quirks import XSI_NAMESPACE

Params = dict[str, Any]
Reader = Callable[[Any], Any]
Scalar = Callable[[str], Any]

METADATA_PREFIX = "x-amz-meta-"


def _text(value: str) -> str:
    return value


def _blob(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


_SCALARS: dict[str, Scalar] = {
    "string": _text,
    "integer": parse_integer,
    "long": parse_integer,
    "boolean": parse_boolean,
    "timestamp": parse_date,
    "blob": _blob,
}


class InputDecoder:
    """Decodes the requests of one operation."""

    __slots__ = (
        "_headers",
        "_maps",
        "_query",
        "_required",
        "body_required",
        "operation",
        "payload",
        "read_body",
        "streams",
    )

    def __init__(self, model: Model, operation: Operation) -> None:
        self.operation = operation
        self._headers: dict[str, tuple[str, Scalar]] = {}
        self._query: dict[str, tuple[str, Scalar]] = {}
        self._maps: list[tuple[str, str]] = []
        required: list[tuple[str, str]] = []
        self.payload = ""
        """The parameter that the body is; empty where there is none or it is the structure."""
        self.read_body: Callable[[bytes], Any] | None = None
        """Reads a body held in memory; None where there is none or it streams."""
        self.streams = False
        self.body_required = False
        shape = model.shapes[operation.input] if operation.input else None
        if shape is not None:
            for member in shape.members:
                self._place(model, shape, member, required)
            self._bind_body(model, shape)
        self._required = tuple(required)

    def _place(
        self, model: Model, shape: Shape, member: Member, required: list[tuple[str, str]]
    ) -> None:
        if member.location == "headers":
            self._maps.append((member.wire.lower(), member.name))
        elif member.location in ("header", "querystring"):
            table = self._headers if member.location == "header" else self._query
            wire = member.wire.lower() if member.location == "header" else member.wire
            table[wire] = (member.name, _scalar(model, member.shape))
            if member.name in shape.required:
                required.append((member.name, member.wire))

    def _bind_body(self, model: Model, shape: Shape) -> None:
        if shape.payload:
            member = next(m for m in shape.members if m.name == shape.payload)
            target = model.shapes[member.shape]
            self.payload = member.name
            self.body_required = member.name in shape.required
            if member.streaming:
                self.streams = True
            elif target.type == "structure":
                read = _structure_reader(model, target)
                self.read_body = lambda body: read(parse_xml(body))
            else:
                self.read_body = lambda body: body.decode("utf-8")
            return
        inner = tuple(member for member in shape.members if not member.location)
        if inner:
            read = _structure_reader(model, shape)
            self.read_body = lambda body: read(parse_xml(body))

    def decode(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Params:
        """Return the parameters in headers and query. Raises ``InvalidArgument``."""
        params: Params = {}
        for source, table in ((query, self._query), (headers, self._headers)):
            for wire, value in source.items():
                entry = table.get(wire)
                if entry is not None:
                    try:
                        params[entry[0]] = entry[1](value)
                    except (ValueError, binascii.Error) as cause:
                        raise invalid_argument(wire, value) from cause
        for prefix, name in self._maps:
            found = {
                wire[len(prefix) :]: value
                for wire, value in headers.items()
                if wire.startswith(prefix)
            }
            if found:
                params[name] = found
        for name, wire in self._required:
            if name not in params:
                raise S3Error("InvalidRequest", f"Missing required parameter: {wire}")
        return params

    def decode_body(self, body: bytes, params: Params) -> None:
        """Add what the body says to ``params``. Raises ``MalformedXML``."""
        if self.read_body is None:
            return
        if not body.strip():
            if self.body_required:
                raise S3Error("MalformedXML")
            return
        try:
            value = self.read_body(body)
        except (ValueError, binascii.Error) as cause:
            raise S3Error("MalformedXML") from cause
        if self.payload:
            params[self.payload] = value
        else:
            params.update(value)


def _scalar(model: Model, name: str) -> Scalar:
    shape = model.shapes[name]
    if shape.type == "list":
        inner = _scalar(model, shape.item)
        return lambda value: [inner(part.strip()) for part in value.split(",")]
    return _SCALARS[shape.type]


_PARSER_OPTIONS: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "dtd_validation": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
    "encoding": None,
}


def parse_xml(body: bytes) -> Any:
    """Return the root element of an XML body without DTD, entities and excessive depth.

    Raises ``MalformedXML``. The caller bounds the length.
    """
    parser = etree.XMLParser(**_PARSER_OPTIONS)
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as cause:
        raise S3Error("MalformedXML") from cause
    document: Any = root.getroottree().docinfo
    if document.doctype:
        raise S3Error("MalformedXML", "A document type declaration is not allowed")
    return root


def _local(tag: Any) -> str:
    if not isinstance(tag, str):
        raise S3Error("MalformedXML", "Entities are not allowed")
    return tag.rpartition("}")[2]


def _reader(model: Model, name: str) -> Reader:
    shape = model.shapes[name]
    if shape.type == "structure":
        return _structure_reader(model, shape)
    if shape.type == "list":
        item = _reader(model, shape.item)
        return lambda node: [item(child) for child in node]
    scalar = _SCALARS[shape.type]

    def read(node: Any) -> Any:
        if len(node):
            raise S3Error("MalformedXML")
        return scalar(node.text or "")

    return read


class _Fields:
    """Where the children and attributes of an element go in its structure."""

    __slots__ = ("attributes", "repeated", "required", "single")

    def __init__(self, model: Model, shape: Shape) -> None:
        self.single: dict[str, tuple[str, Reader]] = {}
        self.repeated: dict[str, tuple[str, Reader]] = {}
        self.attributes: list[tuple[str, str]] = []
        self.required: list[str] = []
        for member in shape.members:
            if not member.location:
                self._place(model, shape, member)

    def _place(self, model: Model, shape: Shape, member: Member) -> None:
        target = model.shapes[member.shape]
        if member.name in shape.required:
            self.required.append(member.name)
        if member.attribute:
            local = member.wire.rpartition(":")[2]
            self.attributes.append((member.name, f"{{{XSI_NAMESPACE}}}{local}"))
        elif target.type == "list" and (target.flattened or member.flattened):
            item = _reader(model, target.item)
            self.repeated[flattened_name(member, target)] = (member.name, item)
        else:
            self.single[member.wire] = (member.name, _reader(model, member.shape))


def _structure_reader(model: Model, shape: Shape) -> Reader:
    fields = _Fields(model, shape)
    single, repeated = fields.single, fields.repeated

    def read(node: Any) -> Params:
        params: Params = {}
        for child in node:
            tag = _local(child.tag)
            entry = single.get(tag)
            if entry is not None:
                params[entry[0]] = entry[1](child)
                continue
            entry = repeated.get(tag)
            if entry is not None:
                params.setdefault(entry[0], []).append(entry[1](child))
        for name, attribute in fields.attributes:
            value = node.get(attribute)
            if value is not None:
                params[name] = value
        for name in fields.required:
            if name not in params:
                raise S3Error("MalformedXML")
        return params

    return read


def flattened_name(member: Member, target: Shape) -> str:
    """Return the element name of each item of a flattened list."""
    return target.item_wire or member.wire


def decode_text(raw: bytes) -> str:
    """Return a percent-decoded piece of a URL as text. Raises ``InvalidURI`` unless UTF-8."""
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8")
    except UnicodeDecodeError as cause:
        raise S3Error("InvalidURI") from cause


def parse_query(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return the decoded pairs of a query string in order; a bare name has an empty value."""
    pairs = []
    for part in raw.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        if b"+" in part:
            name, value = name.replace(b"+", b" "), value.replace(b"+", b" ")
        pairs.append(
            (
                unquote_to_bytes(name) if b"%" in name else name,
                unquote_to_bytes(value) if b"%" in value else value,
            )
        )
    return pairs
