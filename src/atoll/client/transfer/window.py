"""The row groups of one upload in memory: who has passed which, what may be dropped."""

from collections.abc import Mapping

from atoll.client.segment.buffers import BufferPool
from atoll.client.segment.encode import RowGroup


class _Kept:
    """A row group that the pool may drop when it needs the room."""

    __slots__ = ("_group", "_window")

    def __init__(self, window: "GroupWindow", group: RowGroup) -> None:
        self._window = window
        self._group = group

    def shed(self) -> None:
        """Drop the group: from now on no piece of this segment can be sent from its start."""
        self._group.data = self._group.parity = None
        self._window.replayable = False


class GroupWindow:
    """Holds encoded groups until they are not needed, or nobody else needs their room.

    A group passed by as many pieces as a commit usually has is needed only by those behind and by
    replacements: it is lent to the pool. Parity that all have passed is dropped at once, since it
    can be computed again.
    """

    def __init__(self, buffers: BufferPool, commit: int) -> None:
        """``commit`` is the number of pieces that an upload usually ends with."""
        self._buffers = buffers
        self._commit = commit
        self.groups: list[RowGroup] = []
        """Row groups encoded so far, in order."""
        self.replayable = True
        """Whether all of them are still in memory."""
        self.pace = 0
        """Groups that the pieces that matter have passed."""
        self._reached: dict[int, int] = {}
        self._passes: list[int] = []
        self._kept: list[int] = []
        self._parity_dropped = 0

    def add(self, group: RowGroup) -> None:
        """Take the next encoded group."""
        self.groups.append(group)
        self._passes.append(0)

    def passed(self, index: int, count: int, pieces: int) -> bool:
        """Note that a piece, of so many, has passed ``count`` groups; say if the pace changed."""
        if self._reached.get(index, 0) >= count:
            return False  # another node is ahead with the same piece
        self._reached[index] = count
        self._passes[count - 1] += 1
        return self._let_go(pieces)

    def count_again(self, reached: Mapping[int, int], pieces: int) -> None:
        """Start from how far each piece is, after one was lost with its node."""
        self._reached = dict(reached)
        self._passes = [
            sum(count > group for count in reached.values()) for group in range(len(self.groups))
        ]
        self.pace = 0
        self._let_go(pieces)

    def _let_go(self, pieces: int) -> bool:
        groups, passes = self.groups, self._passes
        dropped = self._parity_dropped
        while dropped < len(groups) and passes[dropped] >= pieces:
            groups[dropped].parity = None
            dropped += 1
        self._parity_dropped = dropped
        matter = max(1, min(self._commit, pieces))
        pace = self.pace
        while pace < len(groups) and passes[pace] >= matter:
            pace += 1
        if pace == self.pace:
            return False
        self.pace = pace
        while len(self._kept) < pace:
            number = self._buffers.new_number()
            group = groups[len(self._kept)]
            length = 0 if group.data is None else len(group.data)
            self._kept.append(number)
            self._buffers.keep(number, _Kept(self, group), length)
        return True

    def drop(self, filling: RowGroup | None) -> None:
        """Drop all groups, and one that is not yet encoded.

        One by one: the frames of a failure's traceback may still hold the groups themselves.
        """
        for number in self._kept:
            self._buffers.forget(number)
        for group in self.groups:
            group.data = group.parity = None
        if filling is not None:
            filling.data = filling.parity = None
        self.groups.clear()
