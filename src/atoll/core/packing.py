"""The geometry of packs: where a small segment's chunks lie inside a pack.

A packed segment's chunks (ciphertext and tag each) follow each other without padding from its
offset in the pack's plaintext. So its chunk ``c`` begins at ``offset + c * unit_bytes``, and only
the last one is shorter than a unit.

Normative text: ``docs/spec/pack.md``. Vectors: ``tests/golden/vectors/pack.json``.
"""

from dataclasses import dataclass

from atoll.core.scheme import TAG_BYTES, Layout

SMALL_PLAIN_BYTES_MAX = 1 << 20
"""Segments up to this size are worth packing; larger ones waste little."""
PACK_ITEMS_MAX = 8192
"""Segments in one pack."""


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """A small segment inside a pack. All sizes in bytes."""

    plain_bytes: int
    unit_bytes: int

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self._layout.chunks

    @property
    def stored_bytes(self) -> int:
        """Length in the pack."""
        return self.plain_bytes + self.chunks * TAG_BYTES

    @property
    def _layout(self) -> Layout:
        return Layout(self.plain_bytes, 1, 1, self.unit_bytes)

    def chunk_plain_bytes(self, chunk: int) -> int:
        """Plaintext bytes of one chunk."""
        return self._layout.chunk_plain_bytes(chunk)

    def chunks_of_range(self, start: int, end: int) -> tuple[int, int]:
        """Return the first chunk and one past the last that hold plaintext bytes start..end-1.

        Raises ``ValueError`` for a range that is empty or outside.
        """
        return self._layout.chunks_of_range(start, end)

    def span(self, first: int, end: int) -> tuple[int, int]:
        """Return where chunks first..end-1 begin and end, counted from the segment's offset."""
        return first * self.unit_bytes, min(end * self.unit_bytes, self.stored_bytes)
