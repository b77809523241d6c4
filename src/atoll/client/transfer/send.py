"""One piece on its way to one node: what the transport asks for, part by part."""

import asyncio
from typing import Protocol

from typing_extensions import Buffer

from atoll.client.segment.encode import SegmentEncoder, rebuild_column
from atoll.client.transfer.signal import Signal
from atoll.client.transfer.window import GroupWindow
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import PieceGrant


class PieceSource(Protocol):
    """The upload as its pieces see it."""

    encoder: SegmentEncoder
    window: GroupWindow
    trailers: list[bytes]
    """The encoded trailer of each piece, once all groups are encoded."""
    published: Signal
    """News of a further group or the trailers."""

    def whole_record(self, index: int) -> bytes | None:
        """Return the whole record of a small piece, ready in one buffer; ``None`` for others."""

    def advanced(self, send: "PieceSend") -> None:
        """Note that a piece has passed a group."""


class PieceSend:
    """One piece on its way to one node; the body that the transport asks for part by part."""

    __slots__ = ("_begun", "_ended", "_sending", "_upload", "grant", "index", "next_group", "task")

    def __init__(self, upload: PieceSource, index: int, grant: PieceGrant) -> None:
        self._upload = upload
        self.index = index
        self.grant = grant
        self.next_group = 0
        """The row groups before this one have left for the node."""
        self._begun = False
        self._sending = False
        self._ended = False
        self.task: asyncio.Task[None] | None = None

    def __aiter__(self) -> "PieceSend":
        return self

    async def __anext__(self) -> Buffer:
        upload = self._upload
        if not self._begun:
            self._begun = True
            whole = upload.whole_record(self.index)
            if whole is not None:
                self._ended = True
                return whole
            return upload.encoder.heads[self.index]
        if self._ended:
            raise StopAsyncIteration
        if self._sending:
            self._sending = False
            self.next_group += 1
            upload.advanced(self)
        while self.next_group == len(upload.window.groups):
            if upload.trailers:
                self._ended = True
                return upload.trailers[self.index]
            await upload.published.wait()
        group = upload.window.groups[self.next_group]
        layout = upload.encoder.layout
        part = rebuild_column(group, self.index, layout.k, layout.n)
        if part is None:
            raise AtollError(
                Kind.TIMEOUT, "send piece", "too slow: its part is no longer in memory"
            )
        self._sending = True
        return part
