"""Reads XML of strangers: no DTD, no entities, no network, limits on size and depth.

Elements are found by their local names: a namespace is a message's version here.
"""

import re
from collections.abc import Iterator

from lxml import etree

from atoll.core.errors import AtollError, Kind

XML_BYTES_MAX = 16 * 2**20
"""Some 10,000 entries with all their details."""
TEXT_CHARACTERS_MAX = 2_000
"""Of one element: ISO 20022 has none longer that we read."""
DEPTH_MAX = 64

_ENCODINGS = frozenset({"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252"})
"""All hold ASCII as ASCII, so that a declaration cannot hide from a search of the bytes."""
_DECLARED = re.compile(rb"""^<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_NAMESPACE = re.compile(r"^\{urn:iso:std:iso:20022:tech:xsd:([a-z]{4}\.\d{3}\.\d{3}\.\d{2})\}")


def read(data: bytes, operation: str) -> etree._Element:
    """Return the root of a document.

    Raises ``TOO_LARGE`` beyond ``XML_BYTES_MAX`` and ``BAD_REQUEST`` for what is no XML, has a
    DTD, comes in an encoding that statements do not use or is nested beyond ``DEPTH_MAX``.
    """
    if len(data) > XML_BYTES_MAX:
        raise AtollError(
            Kind.TOO_LARGE,
            operation,
            f"the file is larger than {XML_BYTES_MAX // 2**20} MiB",
            hint="export a shorter time",
        )
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    declared = _DECLARED.match(data)
    encoding = declared[1].decode("ascii").lower() if declared else "utf-8"
    if encoding not in _ENCODINGS or b"\0" in data:
        raise _bad(operation, f"an encoding that is not accepted: {encoding}")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise _bad(operation, "it declares a document type, which no bank's file does")
    parser = etree.XMLParser(
        resolve_entities=False, load_dtd=False, no_network=True, dtd_validation=False,
        huge_tree=False, remove_comments=True, remove_pis=True, recover=False,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _bad(operation, f"it is no XML: {str(error)[:120]}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise _bad(operation, "it declares a document type, which no bank's file does")
    _check_depth(root, operation)
    return root


def _check_depth(root: etree._Element, operation: str) -> None:
    depth = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        if not isinstance(element.tag, str):
            raise _bad(operation, "an entity that is not declared")
        depth += 1 if event == "start" else -1
        if depth > DEPTH_MAX:
            raise _bad(operation, "it is nested too deeply")


def message_of(root: etree._Element) -> str:
    """Return which message a document is by its namespace, ``camt.053.001.08``; "" for none."""
    found = _NAMESPACE.match(str(root.tag))
    return found[1] if found else ""


def local(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: etree._Element, name: str) -> Iterator[etree._Element]:
    """Yield the children of one name."""
    return (one for one in element if local(one) == name)


def all_at(element: etree._Element, path: str) -> list[etree._Element]:
    """Return every element at a path of names, ``NtryDtls/TxDtls``."""
    found = [element]
    for name in path.split("/"):
        found = [one for parent in found for one in children(parent, name)]
    return found


def texts_at(element: etree._Element, path: str) -> tuple[str, ...]:
    """Return the texts of every element at a path, trimmed, cut at ``TEXT_CHARACTERS_MAX``."""
    return tuple((one.text or "").strip()[:TEXT_CHARACTERS_MAX] for one in all_at(element, path))


def text_at(element: etree._Element, *paths: str) -> str:
    """Return the first text that is not empty at any of the paths; "" for none."""
    for path in paths:
        for text in texts_at(element, path):
            if text:
                return text
    return ""


def _bad(operation: str, message: str) -> AtollError:
    return AtollError(
        Kind.BAD_REQUEST, operation, message, hint="export the file again from the bank"
    )
