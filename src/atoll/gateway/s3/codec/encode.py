"""Response encoders compiled from the model: named values to headers and XML."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from atoll.gateway.s3.codec.decode import flattened_name
from atoll.gateway.s3.codec.model import Member, Model, Operation, Shape
from atoll.gateway.s3.codec.values import http_date, iso_date
from atoll.gateway.s3.errors import escape
from atoll.gateway.s3.quirks import NAMESPACE, OUTPUT_ROOTS, XSI_NAMESPACE

Writer = Callable[[list[str], Any], None]
HeaderList = list[tuple[str, str]]

XML_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


_BODY_SCALARS: dict[str, Callable[[Any], str]] = {
    "string": escape,
    "integer": str,
    "long": str,
    "boolean": _boolean,
    "timestamp": iso_date,
    "blob": _base64,
}
_HEADER_SCALARS: dict[str, Callable[[Any], str]] = {
    **_BODY_SCALARS,
    "string": str,
    "timestamp": http_date,
}


class OutputEncoder:
    """Encodes the answers of one operation."""

    __slots__ = ("_headers", "_maps", "_payload", "_raw", "_root", "_write", "operation", "streams")

    def __init__(self, model: Model, operation: Operation) -> None:
        self.operation = operation
        self._headers: dict[str, tuple[str, Callable[[Any], str]]] = {}
        self._maps: list[tuple[str, str]] = []
        self._payload = ""
        self._raw = False
        self._root = ""
        self._write: Writer | None = None
        self.streams = False
        shape = model.shapes[operation.output] if operation.output else None
        if shape is None:
            return
        for member in shape.members:
            if member.location == "header":
                self._headers[member.name] = (member.wire, _header_scalar(model, member))
            elif member.location == "headers":
                self._maps.append((member.name, member.wire))
        self._bind_body(model, shape)

    def _bind_body(self, model: Model, shape: Shape) -> None:
        if shape.payload:
            member = next(m for m in shape.members if m.name == shape.payload)
            target = model.shapes[member.shape]
            self._payload = member.name
            self.streams = member.streaming or target.event_stream
            self._raw = target.type != "structure"
            self._root = OUTPUT_ROOTS.get(
                self.operation.name, member.wire if member.explicit else target.name
            )
            if not self.streams and not self._raw:
                self._write = _structure_writer(model, target, self._root, top=True)
        elif any(not member.location for member in shape.members):
            name = shape.name.removesuffix("Output").removesuffix("Response")
            self._root = OUTPUT_ROOTS.get(self.operation.name, shape.wire or f"{name}Result")
            self._write = _structure_writer(model, shape, self._root, top=True)

    def headers(self, values: Mapping[str, Any]) -> HeaderList:
        """Return the headers that the model places values in."""
        headers = []
        for name, value in values.items():
            entry = self._headers.get(name)
            if entry is not None and value is not None:
                headers.append((entry[0], entry[1](value)))
        for name, prefix in self._maps:
            for key, value in (values.get(name) or {}).items():
                headers.append((prefix + key, value))
        return headers

    def body(self, values: Mapping[str, Any]) -> bytes:
        """Return the body; empty where the answer has none or streams."""
        if self._payload and self._raw and not self.streams:
            value = values.get(self._payload) or ""
            return value if isinstance(value, bytes) else value.encode("utf-8")
        if self._write is None:
            return b""
        out: list[str] = [XML_DECLARATION]
        self._write(out, (values.get(self._payload) or {}) if self._payload else values)
        return "".join(out).encode("utf-8", "surrogatepass")


def _header_scalar(model: Model, member: Member) -> Callable[[Any], str]:
    shape = model.shapes[member.shape]
    if shape.type == "list":
        return lambda values: ", ".join(str(value) for value in values)
    if shape.type == "timestamp" and shape.timestamp_format == "iso8601":
        return iso_date
    return _HEADER_SCALARS[shape.type]


def _writer(model: Model, name: str, tag: str) -> Writer:
    shape = model.shapes[name]
    if shape.type == "structure":
        return _structure_writer(model, shape, tag)
    if shape.type == "list":
        item = _writer(model, shape.item, shape.item_wire or "member")

        def write_list(out: list[str], values: Any) -> None:
            out.append(f"<{tag}>")
            for value in values:
                item(out, value)
            out.append(f"</{tag}>")

        return write_list
    text = _BODY_SCALARS[shape.type]
    if shape.type == "timestamp" and shape.timestamp_format == "rfc822":
        text = http_date
    before, after = f"<{tag}>", f"</{tag}>"

    def write(out: list[str], value: Any) -> None:
        out.append(f"{before}{text(value)}{after}")

    return write


def _structure_writer(model: Model, shape: Shape, tag: str, *, top: bool = False) -> Writer:
    attributes: list[tuple[str, str]] = []
    members: list[tuple[str, Writer]] = []
    for member in shape.members:
        if member.location:
            continue
        target = model.shapes[member.shape]
        if member.attribute:
            attributes.append((member.name, member.wire))
        elif target.type == "list" and (target.flattened or member.flattened):
            item = _writer(model, target.item, flattened_name(member, target))
            members.append((member.name, _each(item)))
        else:
            members.append((member.name, _writer(model, member.shape, member.wire)))
    opening = f'<{tag} xmlns="{NAMESPACE}">' if top else f"<{tag}>"
    closing = f"</{tag}>"

    def write(out: list[str], values: Any) -> None:
        if attributes:
            out.append(_opening(tag, attributes, values))
        else:
            out.append(opening)
        for name, write_member in members:
            value = values.get(name)
            if value is not None:
                write_member(out, value)
        out.append(closing)

    return write


def _opening(tag: str, attributes: list[tuple[str, str]], values: Mapping[str, Any]) -> str:
    text = "".join(
        f' {wire}="{escape(values[name])}"' for name, wire in attributes if values.get(name)
    )
    return f'<{tag} xmlns:xsi="{XSI_NAMESPACE}"{text}>'


def _each(item: Writer) -> Writer:
    def write(out: list[str], values: Any) -> None:
        for value in values:
            item(out, value)

    return write
