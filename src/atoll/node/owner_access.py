"""Owners at this node: whoever signs for pieces as their owner may list and read them.

No coordinator is asked, none can forbid it: a piece names its owner's key (TLV 4), bound by the
uploader's signature. An owner may do nothing else here. What strangers can cost is bounded:
signature checks, pages and bytes have their rates, and a stranger owns no bytes.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection

from atoll.core.capsule import owner_hash_of
from atoll.core.errors import AtollError, Kind
from atoll.core.ids import SHORT_ID_BYTES, NodeId
from atoll.core.messages import decode, encode
from atoll.core.messages.recovery import (
    OWNED_PIECES_MAX,
    AdoptPiece,
    AdoptPieces,
    ListOwned,
    OwnedPiece,
    OwnedPieces,
    PiecesAdopted,
    SignedAdoption,
)
from atoll.core.owner import (
    ADOPT_PIECES_MAX,
    check_adoption,
    check_owner_proof,
    check_owner_time,
)
from atoll.core.ports import Clock
from atoll.node import http
from atoll.node.http import Receive, Scope, Send
from atoll.node.orders import issuer_of_key, order_of_header
from atoll.node.part import NodePart
from atoll.node.store.adoption import adopt_piece
from atoll.node.store.model import Row, State
from atoll.node.store.store import PieceStore

_LOG = logging.getLogger(__name__)
LIST_PATH = "/v1/owned/list"
ADOPT_PATH = "/v1/owned/adopt"
ADOPT_BODY_BYTES_MAX = 128 << 10
LIST_BODY_BYTES_MAX = 4096
CHECKS_PER_S = 200
"""Signatures of owners checked, all of them together; a burst of one second is free."""
PAGES_PER_S = 50
"""Pages listed, all owners together."""
BYTES_PER_S = 256 << 20
"""Bytes read by owners without an order, all together: what is paid for goes first."""
PROOFS_KEPT_MAX = 1024
"""Proofs that held and need no second check while they are fresh."""
LIST_PATIENCE_S = 10.0


class _Rate:
    """Admits so many units a second; a burst of one second is free."""

    __slots__ = ("_clock", "_per_s", "_ready_s")

    def __init__(self, clock: Clock, per_s: int) -> None:
        self._clock = clock
        self._per_s = per_s
        self._ready_s = clock.monotonic() - 1.0

    def take(self, units: int) -> None:
        """Raise ``OVERLOADED`` unless so many units may pass now."""
        now_s = self._clock.monotonic()
        ready_s = max(self._ready_s, now_s - 1.0)
        if ready_s > now_s:
            raise AtollError(
                Kind.OVERLOADED,
                "serve owner",
                "owners ask for more than this node gives without orders",
                hint="try again shortly",
            )
        self._ready_s = ready_s + units / self._per_s


class OwnerAccess(NodePart):
    """Checks owners' proofs; lists their pieces."""

    def __init__(self, store: PieceStore, node_id: NodeId, clock: Clock) -> None:
        """Serve the pieces of ``store``."""
        self._store = store
        self._node_id = node_id
        self._clock = clock
        self._known: OrderedDict[bytes, bytes] = OrderedDict()
        self._checks = _Rate(clock, CHECKS_PER_S)
        self._pages = _Rate(clock, PAGES_PER_S)
        self._bytes = _Rate(clock, BYTES_PER_S)
        self.coordinators: Collection[bytes] = ()
        """Keys of those that this node serves: to them alone an owner may give his pieces."""
        self.routes = {("POST", LIST_PATH): self._list, ("POST", ADOPT_PATH): self._adopt}

    def owner_of(self, signed: bytes) -> bytes:
        """Return the owner hash of a proof that holds here and now.

        Raises what ``check_owner_proof`` raises, and ``OVERLOADED``.
        """
        now_ms = self._clock.now_ms()
        owner = self._known.get(signed)
        if owner is not None:
            check_owner_time(signed, self._node_id, now_ms)
            return owner
        self._checks.take(1)
        proof = check_owner_proof(signed, self._node_id, now_ms)
        owner = self._known[signed] = owner_hash_of(proof.owner_key)
        if len(self._known) > PROOFS_KEPT_MAX:
            self._known.popitem(last=False)
        return owner

    def locate(self, signed: bytes, piece: bytes) -> Row:
        """Return where a piece lies that its owner may read; the trash is no hindrance.

        Raises ``NOT_FOUND`` (another's pieces are none to him), ``DATA_LOST`` and what
        ``owner_of`` raises.
        """
        owner = self.owner_of(signed)
        row = self._store.volume.index.get(piece)
        if row is None or row.owner_hash != owner or row.state == State.DEAD:
            raise AtollError(Kind.NOT_FOUND, "read piece", "no such piece of yours is stored here")
        if row.state == State.LOST:
            raise AtollError(Kind.DATA_LOST, "read piece", "the piece was lost here")
        return row

    def charge(self, length: int) -> None:
        """Count bytes to be served. Raises ``OVERLOADED``."""
        self._bytes.take(length)

    async def _adopt(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an owner's pieces obey another coordinator, without the consent of the present one.

        Nothing else changes: bytes, records and retention stay as they are.
        """
        proof = order_of_header(http.header_of(scope, b"x-atoll-order"))
        owner = self.owner_of(proof)
        raw = await http.read_body(receive, ADOPT_BODY_BYTES_MAX, LIST_PATIENCE_S)
        signed: SignedAdoption = decode(raw, SignedAdoption)
        self._checks.take(1)
        check_adoption(proof, signed.body, signed.signature)
        request: AdoptPieces = decode(signed.body, AdoptPieces)
        if request.coordinator_key not in self.coordinators:
            raise AtollError(
                Kind.FORBIDDEN,
                "adopt pieces",
                "this node does not serve that coordinator",
                hint="its provider adds it to node.coordinator",
                about=request.coordinator_key.hex()[:10],
            )
        if len(request.pieces) > ADOPT_PIECES_MAX:
            raise AtollError(
                Kind.TOO_LARGE, "adopt pieces", f"at most {ADOPT_PIECES_MAX} pieces at a time"
            )
        if any(not 0 < one.segment_serial < 1 << 63 for one in request.pieces):
            raise AtollError(Kind.BAD_REQUEST, "adopt pieces", "a serial has 63 bits")
        issuer = issuer_of_key(request.coordinator_key)
        outcomes = await asyncio.gather(
            *(self._adopt_one(owner, issuer, one) for one in request.pieces)
        )
        await http.send_whole(send, 200, http.MSGPACK, encode(PiecesAdopted(outcomes=outcomes)))

    async def _adopt_one(self, owner: bytes, issuer: int, one: AdoptPiece) -> str:
        try:
            await adopt_piece(self._store.volume, one.piece, owner, issuer, one.segment_serial)
        except AtollError as error:
            return error.kind.value
        return ""

    async def _list(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = self.owner_of(order_of_header(http.header_of(scope, b"x-atoll-order")))
        body = await http.read_body(receive, LIST_BODY_BYTES_MAX, LIST_PATIENCE_S)
        request: ListOwned = decode(body, ListOwned)
        if len(request.tag) not in (0, SHORT_ID_BYTES):
            raise AtollError(
                Kind.BAD_REQUEST, "list pieces", f"a bucket tag has {SHORT_ID_BYTES} bytes"
            )
        self._pages.take(1)
        limit = max(1, min(request.limit, OWNED_PIECES_MAX))
        held = self._store.owned(owner, request.tag or None, request.after, limit)
        pieces = [
            OwnedPiece(
                piece=one.piece,
                segment=one.segment,
                index=one.index,
                segment_root=one.segment_root,
                tag=one.bucket_tag or b"",
                issuer=one.issuer,
                segment_serial=one.segment_serial,
                trash=one.state == State.TRASH,
            )
            for one in held
        ]
        answer = encode(OwnedPieces(pieces=pieces, more=len(held) == limit))
        await http.send_whole(send, 200, http.MSGPACK, answer)
