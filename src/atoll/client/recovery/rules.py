"""Decisions about recovery; pure."""

from collections.abc import Mapping, Sequence


def one_piece_each(holders: Mapping[int, Sequence[int]]) -> list[tuple[int, int]]:
    """Choose a holder for as many pieces of a segment as can be, no holder twice.

    ``holders`` are the aliases that claim each index, the preferred ones first. A coordinator
    counts one piece of a segment per node; a node may have several nevertheless, where one was
    replaced and its owner's lock keeps it. Returns (index, alias) by index: a maximum matching
    (augmenting paths, H. W. Kuhn 1955), so that no piece is given up for another's convenience.
    """
    taken: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        for alias in holders[index]:
            if alias in tried:
                continue
            tried.add(alias)
            if alias not in taken or place(taken[alias], tried):
                taken[alias] = index
                return True
        return False

    for index in holders:
        place(index, set())
    return sorted((index, alias) for alias, index in taken.items())
