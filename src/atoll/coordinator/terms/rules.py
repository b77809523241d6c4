"""Pure decisions about moves: in which order, and whether a move is shown to have happened."""

from collections.abc import Iterable

from atoll.coordinator.metadata.model import StoredSegment
from atoll.coordinator.terms.model import Wish
from atoll.core.errors import AtollError
from atoll.core.ids import SegmentId
from atoll.core.merkle import HASH_BYTES, segment_root
from atoll.core.messages.terms import MovedPiece
from atoll.core.orders import check_receipt


def in_order(wishes: Iterable[Wish], reason: str) -> list[Wish]:
    """Return what to move first.

    A dying disk gives up first what is least safe elsewhere. Otherwise what is safest goes first:
    while it is on its way it is missed least.
    """
    return sorted(wishes, key=lambda wish: wish.spare if reason == "evacuate" else -wish.spare)


def shown(segment: StoredSegment, moved: MovedPiece, holder: bytes) -> bool:
    """Say whether the new holder has acknowledged the very piece that the metadata commits to.

    Neither node is trusted: the roots must make the segment root recorded at the upload, and the
    receipt, signed by ``holder`` (a node id), must be for the piece root among them.
    """
    roots = moved.piece_roots
    if len(roots) != segment.n or any(len(root) != HASH_BYTES for root in roots):
        return False
    root = segment_root(
        SegmentId(segment.segment),
        segment.k,
        segment.n,
        segment.unit_bytes,
        segment.plain_bytes,
        roots,
    )
    if root != segment.root or not 0 <= moved.index < segment.n:
        return False
    try:
        receipt = check_receipt(moved.receipt, holder)
    except AtollError:
        return False
    return (receipt.segment_id, receipt.index, receipt.piece_root) == (
        segment.segment,
        moved.index,
        roots[moved.index],
    )
