"""The node's tree is made of everything that it holds, over as many pages as that takes."""

import asyncio

import pytest
from tests.unit.node.machine import Machine, Piece, admission_of, make_piece, put, serial_of

from atoll.node.prover.tree import Holdings
from atoll.node.store.store import HELD_PIECES_MAX

ISSUER = 7
PIECES = HELD_PIECES_MAX + 200
AT_ONCE = 100
PIECE_BYTES = 64


async def store(machine: Machine, piece: Piece, name: str) -> None:
    await put(machine.store, piece, admission_of(piece, name, machine.now_ms, issuer=ISSUER))


def test_a_node_of_more_pieces_than_a_page_finds_all_of_them(machine: Machine) -> None:
    pieces = [make_piece(f"p{number}", PIECE_BYTES) for number in range(PIECES)]

    async def fill_and_look() -> Holdings:
        for start in range(0, PIECES, AT_ONCE):
            await asyncio.gather(
                *(
                    put(
                        machine.store,
                        piece,
                        admission_of(piece, f"{start}/{at}", machine.now_ms, issuer=ISSUER),
                    )
                    for at, piece in enumerate(pieces[start : start + AT_ONCE])
                )
            )
        found = Holdings()
        await found.refresh(machine.store, ISSUER, machine.clock)
        return found

    found = machine.run(fill_and_look())
    held = {serial for tree in found.ranges.values() for serial in tree.serials}
    assert held == {serial_of(piece.header.segment_id) for piece in pieces}


@pytest.mark.parametrize("limit", [0, -1, HELD_PIECES_MAX + 1])
def test_a_page_that_cannot_be_given_whole_is_refused(machine: Machine, limit: int) -> None:
    with pytest.raises(ValueError, match="a page has"):
        machine.store.held(ISSUER, 0, limit)
    with pytest.raises(ValueError, match="a page has"):
        machine.store.owned(bytes(32), None, b"", limit)
