"""Computes a published epoch again and says what differs. An empty answer means: it is right.

What this cannot tell: whether the lines themselves are true. They name their evidence (receipts,
verdicts) by hash, and the parties to them can show it (``docs/spec/epochs.md``, "What a stranger
can check").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from atoll.core.errors import AtollError, Kind
from atoll.economy.settlement.compute import compute, leaves
from atoll.economy.settlement.document import NO_DOCUMENT, Document, LeafRow, tree_figures
from atoll.economy.settlement.model import FIRST

DIFFERENCES_MAX = 100
"""More are not listed: one is enough."""
SHOWN_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was published otherwise than it comes out."""

    where: str
    published: str
    computed: str

    def __str__(self) -> str:
        return f"{self.where}: published {self.published}, computed {self.computed}"


def recompute(document: Document, previous: Document | None = None) -> list[Difference]:
    """Return what differs between a document and what its own inputs come to.

    With ``previous`` it must also begin where that one ended. At most ``DIFFERENCES_MAX``.
    """
    found: list[Difference] = []
    for difference in _differences(document, previous):
        found.append(difference)
        if len(found) == DIFFERENCES_MAX:
            break
    return found


def _differences(document: Document, previous: Document | None) -> Iterator[Difference]:
    index, content = document.index, document.content
    yield from _beginning(document, previous)
    try:
        result = compute(content.before, content.inputs, content.tariff, content.parameters)
    except AtollError as error:
        if error.kind not in (Kind.BAD_REQUEST, Kind.INTERNAL):
            raise
        yield Difference("epoch", "something", f"nothing: {error.message}")
        return
    yield from _compare("result", content.result, result)
    rows = [
        LeafRow(leaf.account, leaf.released_micro, leaf.held_micro)
        for leaf in leaves(result.totals)
    ]
    yield from _compare("leaves", list(content.leaves), rows)
    root, released, held = tree_figures(rows)
    inputs = content.inputs
    for name, said, computed in (
        ("root", index.root, root),
        ("leaf_count", index.leaf_count, len(rows)),
        ("released_micro", index.released_micro, released),
        ("held_micro", index.held_micro, held),
        ("epoch", index.epoch, inputs.epoch),
        ("from_ms", index.from_ms, inputs.from_ms),
        ("until_ms", index.until_ms, inputs.until_ms),
    ):
        yield from _compare(f"index.{name}", said, computed)


def _beginning(document: Document, previous: Document | None) -> Iterator[Difference]:
    index, content = document.index, document.content
    if index.epoch == 1:
        yield from _compare("before", content.before, FIRST)
        yield from _compare("index.previous", index.previous, NO_DOCUMENT)
        return
    if previous is None:
        return
    yield from _compare("index.previous", index.previous, previous.content_hash)
    yield from _compare("before", content.before, previous.content.result.totals)
    yield from _compare(
        "index.coordinator_key", index.coordinator_key, previous.index.coordinator_key
    )
    if index.from_ms < previous.index.until_ms:
        yield Difference("index.from_ms", str(index.from_ms), f"≥ {previous.index.until_ms}")


def _compare(where: str, published: Any, computed: Any) -> Iterator[Difference]:
    """Yield differences of values of one type, down to their fields."""
    if published == computed:
        return
    if isinstance(published, msgspec.Struct):
        for name in published.__struct_fields__:
            yield from _compare(
                f"{where}.{name}", getattr(published, name), getattr(computed, name)
            )
    elif isinstance(published, list) and len(published) == len(computed):
        yield from _rows(where, published, computed)
    elif isinstance(published, list):
        yield Difference(where, f"{len(published)} rows", f"{len(computed)} rows")
    else:
        yield Difference(where, _show(published), _show(computed))


def _rows(where: str, published: Sequence[Any], computed: Sequence[Any]) -> Iterator[Difference]:
    for place, (said, found) in enumerate(zip(published, computed, strict=True)):
        yield from _compare(f"{where}[{place}]", said, found)


def _show(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"
