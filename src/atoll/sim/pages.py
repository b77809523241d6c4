"""Short pages: what is read a thousand rows at a time is read a few at a time.

A simulated node holds some hundreds of pieces, a real one millions. Whoever takes a page that was
cut for the last one is found with pages this short.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from atoll.coordinator.audit import trees
from atoll.coordinator.metering import service as metering
from atoll.coordinator.packing import service as packing
from atoll.coordinator.repair import loop, survival
from atoll.coordinator.repair import service as repair
from atoll.coordinator.sets import store as set_store
from atoll.coordinator.upgrade import service as upgrade
from atoll.node import departure
from atoll.node.prover import service as prover
from atoll.node.prover import tree
from atoll.node.sets import service as node_sets

PAGE_ROWS = 7
PAGES = (
    (trees, "PAGE_ROWS"),
    (metering, "PAGE_SEGMENTS"),
    (packing, "PAGE_OBJECTS"),
    (repair, "PAGE_SEGMENTS"),
    (survival, "PAGE_SEGMENTS"),
    (loop, "PAGE_SEGMENTS"),
    (set_store, "ENTRIES_PAGE"),
    (upgrade, "PAGE_SEGMENTS"),
    (upgrade, "PAGE_OBJECTS"),
    (departure, "PAGE_PIECES"),
    (prover, "PAGE_PIECES"),
    (tree, "PAGE_PIECES"),
    (node_sets, "PAGE_PIECES"),
)
"""The limits of all pages that coordinators and nodes read by themselves."""


@contextmanager
def short_pages(short: bool) -> Iterator[None]:
    """Let all pages be short while this lasts, if ``short``."""
    with ExitStack() as stack:
        for module, name in PAGES if short else ():
            stack.enter_context(patch.object(module, name, PAGE_ROWS))
        yield
