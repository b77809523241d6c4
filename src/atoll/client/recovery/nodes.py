"""Nodes as an owner asks them, without any coordinator: lists of pieces, heads, read grants."""

import asyncio
import base64
from collections.abc import Callable, Sequence

from atoll.client.recovery.model import NodeOutcome, NodePlace
from atoll.client.retention import newest_records
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId, piece_id_of
from atoll.core.messages import (
    Answer,
    Done,
    GrantList,
    GrantReads,
    Message,
    PieceGrant,
    ReportLiar,
    decode,
    encode,
)
from atoll.core.messages.recovery import ListOwned, OwnedPiece, OwnedPieces
from atoll.core.owner import sign_owner_proof
from atoll.core.piece_http import ORDER_HEADER, accepted
from atoll.core.pieces import Header, parse_header
from atoll.core.ports import Clock, PiecePart, PieceTransport

LIST_PATH = "/v1/owned/list"
PROOF_LIFE_S = 30.0
"""A proof is signed anew so often; nodes take it for much longer."""
LIST_TIMEOUT_S = 15.0
LIST_TRIES = 4
LIST_PAUSE_S = 0.5
NODES_AT_ONCE = 64
HEAD_TIMEOUT_S = 8.0
PAGES_MAX = 100_000
"""A node that lists more than this many pages is not believed any further."""


class OwnerNodes:
    """All nodes of a recovery; the alias of each is its place in the list, from 1."""

    def __init__(
        self, places: Sequence[NodePlace], owner: Identity, transport: PieceTransport, clock: Clock
    ) -> None:
        """``owner`` is the account owner's key."""
        self.outcomes = [NodeOutcome(place) for place in places]
        self._owner = owner
        self._transport = transport
        self._clock = clock
        self._proofs: dict[int, tuple[float, bytes]] = {}

    def proof(self, alias: int) -> bytes:
        """Return a fresh proof for a node."""
        now_s = self._clock.monotonic()
        kept = self._proofs.get(alias)
        if kept is None or now_s - kept[0] > PROOF_LIFE_S:
            node_id = bytes.fromhex(self.outcomes[alias - 1].place.node_id)
            kept = (now_s, sign_owner_proof(self._owner, node_id, self._clock.now_ms()))
            self._proofs[alias] = kept
        return kept[1]

    def grant(self, alias: int, index: int) -> PieceGrant:
        """Return what stands in for a coordinator's grant to read a piece."""
        place = self.outcomes[alias - 1].place
        address = place.address
        return PieceGrant(
            index=index,
            alias=alias,
            node_id=bytes.fromhex(place.node_id),
            host=address.host,
            port=address.port,
            fingerprint=address.fingerprint,
            order=self.proof(alias),
        )

    async def survey(
        self, found: Callable[[int, list[OwnedPiece]], None], tags: Sequence[bytes] = ()
    ) -> None:
        """Ask every node for the owner's pieces (of these tags, or all); ``found`` takes pages.

        Faults stay in ``outcomes``: dead, slow and lying nodes hold nobody up.
        """
        turns = asyncio.Semaphore(NODES_AT_ONCE)

        async def one(alias: int) -> None:
            async with turns:
                try:
                    for tag in tags or (b"",):
                        await self._list(alias, tag, found)
                except AtollError as fault:
                    self.outcomes[alias - 1].fault = str(fault)

        await asyncio.gather(*(one(alias) for alias in range(1, len(self.outcomes) + 1)))

    async def _list(
        self, alias: int, tag: bytes, found: Callable[[int, list[OwnedPiece]], None]
    ) -> None:
        after = b""
        for _ in range(PAGES_MAX):
            page = await self._page(alias, ListOwned(tag=tag, after=after))
            if any(one.piece <= after for one in page.pieces):
                raise AtollError(Kind.CORRUPT, "list pieces", "the node lists in circles")
            good = [one for one in page.pieces if _sound(one)]
            self.outcomes[alias - 1].pieces += len(good)
            self.outcomes[alias - 1].lies += len(page.pieces) - len(good)
            found(alias, good)
            if not page.more or not page.pieces:
                return
            after = page.pieces[-1].piece

    async def _page(self, alias: int, question: ListOwned) -> OwnedPieces:
        place = self.outcomes[alias - 1].place
        for attempt in range(LIST_TRIES):
            try:
                reply = await self._transport.call(
                    place.address,
                    "POST",
                    LIST_PATH,
                    {ORDER_HEADER: base64.b64encode(self.proof(alias)).decode()},
                    encode(question),
                    LIST_TIMEOUT_S,
                )
                body = accepted(reply.status, reply.body, place.address)
                answer: OwnedPieces = decode(body, OwnedPieces)
            except AtollError as fault:
                final = fault.kind in (Kind.FORBIDDEN, Kind.UNAUTHENTICATED, Kind.NOT_FOUND)
                if final or attempt + 1 == LIST_TRIES:
                    raise
                await self._clock.sleep(LIST_PAUSE_S * 2**attempt)
            else:
                return answer
        raise AssertionError

    async def records(self, alias: int, pieces: Sequence[bytes]) -> list[bytes]:
        """Return the retention records that a node keeps for pieces (at most 1,000), unchecked.

        Empty where it keeps none. Raises ``AtollError``.
        """
        address = self.outcomes[alias - 1].place.address
        return await newest_records(self._transport, address, pieces, LIST_TIMEOUT_S)

    async def head(self, alias: int, segment: bytes, index: int) -> Header:
        """Return the head of a piece, as its node serves it. Raises ``AtollError``."""
        place = self.outcomes[alias - 1].place
        data = await self._transport.get_piece(
            place.address,
            piece_id_of(SegmentId(segment), index),
            self.proof(alias),
            PiecePart.HEAD,
            0,
            0,
            HEAD_TIMEOUT_S,
        )
        header = parse_header(data)
        if header.segment_id != segment or header.index != index:
            raise AtollError(Kind.CORRUPT, "read piece", "the node served another piece's head")
        return header


def _sound(one: OwnedPiece) -> bool:
    """Say whether a listed piece can exist."""
    if not 0 <= one.index < 255 or len(one.segment) != 16 or len(one.segment_root) != 32:
        return False
    return piece_id_of(SegmentId(one.segment), one.index) == one.piece


class OwnerControl:
    """Answers what downloads ask of a coordinator: grants are the owner's own proofs."""

    def __init__(self, nodes: OwnerNodes) -> None:
        self._nodes = nodes

    async def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Answer ``GrantReads`` and ``ReportLiar``. Raises ``NOT_IMPLEMENTED``."""
        result: Message
        if isinstance(request, GrantReads):
            grants = [self._nodes.grant(piece.alias, piece.index) for piece in request.pieces]
            result = GrantList(grants=grants)
        elif isinstance(request, ReportLiar):
            self._nodes.outcomes[request.alias - 1].lies += 1
            result = Done()
        else:
            raise AtollError(
                Kind.NOT_IMPLEMENTED, "ask coordinator", "there is no coordinator in a recovery"
            )
        assert isinstance(result, answer)
        return result
