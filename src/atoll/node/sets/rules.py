"""Pure decisions of a comparison: what becomes of each piece of a range, counted or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from atoll.core.messages.sets import Tally
from atoll.core.sets import RANGE_SERIALS
from atoll.node.store.model import HeldPiece, State

LOW_BITS = RANGE_SERIALS - 1


@dataclass(frozen=True, slots=True)
class Terms:
    """By what a coordinator's answer is to be understood."""

    as_of_ms: int
    """The coordinator's clock when it looked at its set."""
    surplus_age_ms: int
    skew_ms: int
    """How far the clocks of both may differ."""


@dataclass(slots=True)
class Sum:
    """Pieces and the bytes of their data areas."""

    pieces: int = 0
    piece_bytes: int = 0

    def add(self, held: HeldPiece) -> None:
        """Count a piece."""
        self.pieces += 1
        self.piece_bytes += held.data_bytes

    def plus(self, other: "Sum") -> None:
        """Add another sum."""
        self.pieces += other.pieces
        self.piece_bytes += other.piece_bytes

    def tally(self) -> Tally:
        """Return the message form."""
        return Tally(pieces=self.pieces, piece_bytes=self.piece_bytes)


@dataclass(slots=True)
class Figures:
    """What a comparison found, of one range or of many together."""

    counted: Sum = field(default_factory=Sum)
    young: Sum = field(default_factory=Sum)
    kept: Sum = field(default_factory=Sum)
    retained: Sum = field(default_factory=Sum)
    surplus: Sum = field(default_factory=Sum)
    settling: int = 0
    missing: int = 0

    _SUMS = ("counted", "young", "kept", "retained", "surplus")

    def plus(self, other: "Figures") -> None:
        """Add another range's figures."""
        for name in self._SUMS:
            getattr(self, name).plus(getattr(other, name))
        self.settling += other.settling
        self.missing += other.missing

    def held(self) -> Sum:
        """Return all pieces in force."""
        total = Sum()
        for name in self._SUMS:
            total.plus(getattr(self, name))
        return total

    @property
    def settled(self) -> bool:
        """Whether all is as the coordinator counts: nothing to look at again until it changes."""
        beside = (self.young, self.kept, self.retained, self.surplus)
        return not (self.settling or self.missing or any(one.pieces for one in beside))


@dataclass(slots=True)
class Judgement:
    """What is to be done about the pieces of one range, and what was found."""

    number: int
    duty: Mapping[int, int]
    """Low bits of the serials that the coordinator counts to piece index."""
    kept: frozenset[int]
    """Low bits of serials not counted and to be kept."""
    terms: Terms
    figures: Figures = field(default_factory=Figures)
    surplus: list[HeldPiece] = field(default_factory=list)
    """To be moved to the trash."""
    revived: list[HeldPiece] = field(default_factory=list)
    """To be taken out of the trash."""
    _found: set[int] = field(default_factory=set)

    def see(self, held: HeldPiece) -> None:
        """Judge one piece that the node has, in force or in the trash; each once, in any order."""
        low = held.segment_serial & LOW_BITS
        counted = self.duty.get(low) == held.index
        if held.state == State.TRASH:
            if counted:
                self._found.add(low)
                # Deleted about when the coordinator looked: its next answer will know.
                if self.terms.as_of_ms > held.marked_ms + self.terms.skew_ms:
                    self.revived.append(held)
                else:
                    self.figures.settling += 1
        elif counted:
            self._found.add(low)
            self.figures.counted.add(held)
        elif low in self.kept:
            self.figures.kept.add(held)
        elif held.issued_ms > self.terms.as_of_ms - self.terms.surplus_age_ms:
            self.figures.young.add(held)
        else:
            self.surplus.append(held)

    def missing(self) -> list[tuple[int, int]]:
        """Return (serial, index) of what is counted and was not seen, when all was seen."""
        base = self.number * RANGE_SERIALS
        lost = [(base + low, i) for low, i in self.duty.items() if low not in self._found]
        self.figures.missing = len(lost)
        return lost
