"""The S3 service model of the installed botocore, read as a file: botocore is not imported.

Nouns only; ``router``, ``decode`` and ``encode`` compile them.
"""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError, Kind

MODEL_VERSION = "2006-03-01"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure: its name here, its name on the wire, and where it travels."""

    name: str
    wire: str
    location: str
    """``uri``, ``querystring``, ``header``, ``headers`` (a prefix map) or empty: the body."""
    shape: str
    flattened: bool
    attribute: bool
    streaming: bool
    explicit: bool
    """Whether the model names the wire name itself."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A type of the model."""

    name: str
    type: str
    members: tuple[Member, ...] = ()
    required: frozenset[str] = frozenset()
    payload: str = ""
    item: str = ""
    """Shape of a list's members."""
    item_wire: str = ""
    """Name of a list's members on the wire; empty where the model gives none."""
    flattened: bool = False
    timestamp_format: str = ""
    wire: str = ""
    """The shape's own element name, for payloads; empty where the model gives none."""
    event_stream: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its route and its shapes."""

    name: str
    method: str
    level: str
    """``service``, ``bucket`` or ``key``."""
    fixed_path: str
    """The whole path where it is a constant other than ``/``."""
    literals: tuple[tuple[str, str], ...]
    """Query parameters that belong to the route, with their values (often empty)."""
    status: int
    input: str
    output: str
    checksum_required: bool


@dataclass(frozen=True, slots=True)
class Model:
    """All operations and shapes by name."""

    operations: Mapping[str, Operation]
    shapes: Mapping[str, Shape]


def model_path() -> Path:
    """Return where the installed botocore keeps its S3 model. Raises ``CONFIG`` if nowhere."""
    found = find_spec("botocore")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / "data" / "s3" / MODEL_VERSION / "service-2.json.gz"
        if path.is_file():
            return path
    raise AtollError(
        Kind.CONFIG,
        "load the S3 model",
        "the botocore package with its S3 model is not installed",
        hint="pip install botocore",
    )


def load_model() -> Model:
    """Read the model."""
    raw = json.loads(gzip.decompress(model_path().read_bytes()))
    shapes = {name: _shape(name, row) for name, row in raw["shapes"].items()}
    operations = {name: _operation(name, row) for name, row in raw["operations"].items()}
    return Model(operations=operations, shapes=shapes)


def _shape(name: str, row: Mapping[str, Any]) -> Shape:
    item = row.get("member", {})
    return Shape(
        name=name,
        type=row["type"],
        members=tuple(_member(key, value) for key, value in row.get("members", {}).items()),
        required=frozenset(row.get("required", ())),
        payload=row.get("payload", ""),
        item=item.get("shape", ""),
        item_wire=item.get("locationName", ""),
        flattened=row.get("flattened", False),
        timestamp_format=row.get("timestampFormat", ""),
        wire=row.get("locationName", ""),
        event_stream=row.get("eventstream", False),
    )


def _member(name: str, row: Mapping[str, Any]) -> Member:
    return Member(
        name=name,
        wire=row.get("locationName", name),
        location=row.get("location", ""),
        shape=row["shape"],
        flattened=row.get("flattened", False),
        attribute=row.get("xmlAttribute", False),
        streaming=row.get("streaming", False),
        explicit="locationName" in row,
    )


def _operation(name: str, row: Mapping[str, Any]) -> Operation:
    http = row["http"]
    path, _, query = http["requestUri"].partition("?")
    levels = {"/": "service", "/{Bucket}": "bucket", "/{Bucket}/{Key+}": "key"}
    literals = tuple(
        (key, value)
        for key, _, value in (part.partition("=") for part in query.split("&") if part)
        if key != "x-id"
    )
    return Operation(
        name=name,
        method=http["method"],
        level=levels.get(path, "bucket"),
        fixed_path="" if path in levels else path,
        literals=literals,
        status=http.get("responseCode", 200),
        input=row.get("input", {}).get("shape", ""),
        output=row.get("output", {}).get("shape", ""),
        checksum_required=row.get("httpChecksum", {}).get("requestChecksumRequired", False),
    )
