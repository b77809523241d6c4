"""Deliberate faults in the product's own code: the simulator must find each within a few seeds.

They show that the invariants bite. Each replaces a function while a world with that fault runs;
nothing in the product knows of them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from typing_extensions import override

from atoll.client.transfer import rebuild
from atoll.coordinator.placement import rules as placement_rules
from atoll.coordinator.placement.model import Policy
from atoll.coordinator.repair import offers
from atoll.coordinator.repair import rules as repair_rules
from atoll.coordinator.upgrade import service as upgrade_service
from atoll.core.messages import StoredPiece
from atoll.core.pieces import RecordChecker, Trailer, parse_trailer
from atoll.node.store import commit, upload
from atoll.node.store.store import PieceStore


def _ack_before_sync() -> list[Any]:
    """The node acknowledges what it has written, without the sync."""

    def no_sync(self: Any, files: Any, fresh: bool) -> None:
        return None

    return [patch.object(commit.GroupCommit, "_sync", no_sync)]


class _Credulous(RecordChecker):
    """Takes the trailer's word for the data before it."""

    @override
    def finish(self) -> Trailer:
        header = self.header
        assert header is not None
        return parse_trailer(header, bytes(self._tail))[0]


def _skip_merkle_check() -> list[Any]:
    """The node does not compare what it received with the root that was committed to."""
    return [patch.object(upload, "RecordChecker", _Credulous)]


def _trusting_repair() -> list[Any]:
    """Repair believes its sources, its arithmetic and that targets stored what was sent."""

    def believe(*_: Any) -> None:
        return None

    async def end(self: Any) -> bool:
        if self._task is not None and not self._task.done():
            self._task.cancel()
        return True

    return [
        patch.object(rebuild, "check_rebuild", believe),
        patch.object(rebuild._Upload, "end", end),
    ]


def _careless_keeper() -> list[Any]:
    """The node compares its set, and leaves what nobody counts where it is."""

    async def leave(self: Any, held: Any) -> bool:
        return False

    return [patch.object(PieceStore, "discard", leave)]


def _lawless_placement() -> list[Any]:
    """Placement and repair take every node for one that the policy admits."""

    def admit(self: Any, node: Any) -> bool:
        return True

    return [patch.object(Policy, "admits", admit)]


def _clumping() -> list[Any]:
    """Repair does not see that two pieces of a segment came to lie with one operator."""

    def nobody(*_: Any) -> list[Any]:
        return []

    return [patch.object(repair_rules, "clumped", nobody)]


def _believed_workers() -> list[Any]:
    """Repair records what a worker shows receipts for, whoever signed them for what."""

    def believe(self: Any, request: Any, segment: Any, facts: Any) -> Any:
        stored = [StoredPiece(index=one.index, alias=one.alias) for one in facts.wanted]
        return offers._Shown(tuple(stored) if request.receipts else ())

    return [patch.object(offers.RepairOffers, "_check", believe)]


def _hasty_trash() -> list[Any]:
    """The node takes nothing out of its trash that its coordinator counts again."""

    async def leave(*_: Any, **__: Any) -> None:
        return None

    return [patch.object(PieceStore, "revive", leave)]


def _silent_upgrade() -> list[Any]:
    """Copies in wider schemes take the place of old segments, and no manifest is told."""

    def forget(*_: Any) -> None:
        return None

    outbox = SimpleNamespace(NOBODY=b"", note_keys=forget, note_pack=forget)
    return [patch.object(upgrade_service, "changes", outbox)]


def _crowded_relays() -> list[Any]:
    """Placement and repair put as many pieces behind relays as come to hand."""

    def all_of_them(pieces: int) -> int:
        return pieces

    return [patch.object(placement_rules, "relayed_max", all_of_them)]


DELIBERATE: dict[str, Callable[[], list[Any]]] = {
    "ack-before-sync": _ack_before_sync,
    "skip-merkle-check": _skip_merkle_check,
    "trusting-repair": _trusting_repair,
    "careless-keeper": _careless_keeper,
    "lawless-placement": _lawless_placement,
    "silent-upgrade": _silent_upgrade,
    "clumping": _clumping,
    "believed-workers": _believed_workers,
    "hasty-trash": _hasty_trash,
    "crowded-relays": _crowded_relays,
}
"""By name: what makes the patches."""


@contextmanager
def deliberately(name: str) -> Iterator[None]:
    """Break the product in one way while this lasts; an empty name leaves it whole."""
    with ExitStack() as stack:
        for change in DELIBERATE[name]() if name else []:
            stack.enter_context(change)
        yield
