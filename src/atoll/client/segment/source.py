"""A stream of plaintext of known length, read in the sizes that suit the reader."""

from collections.abc import AsyncIterator

from typing_extensions import Buffer

from atoll.core.errors import AtollError, Kind

_EMPTY = memoryview(b"")


class PlainSource:
    """Hands out an iterator's buffers piecemeal and checks their total.

    A buffer is looked at only until the next one is asked for; its owner may then reuse it.
    """

    def __init__(self, source: AsyncIterator[Buffer], size: int) -> None:
        """Expect exactly ``size`` bytes."""
        self._source = source
        self._size = size
        self._rest = _EMPTY
        self._received = 0

    async def view(self) -> memoryview:
        """Return the bytes not taken yet, at least one.

        Raises ``BAD_REQUEST`` where the stream ends early or is longer than stated.
        """
        while not self._rest:
            try:
                part = await anext(self._source)
            except StopAsyncIteration:
                raise AtollError(
                    Kind.BAD_REQUEST,
                    "read the body",
                    f"it ended after {self._received} of {self._size} bytes",
                ) from None
            self._accept(part)
        return self._rest

    def take(self, count: int) -> None:
        """Mark the first ``count`` bytes of the view as used."""
        self._rest = self._rest[count:] if count < len(self._rest) else _EMPTY

    async def finish(self) -> None:
        """Check that nothing follows. Raises ``BAD_REQUEST`` otherwise."""
        async for part in self._source:
            self._accept(part)
        if self._received != self._size or self._rest:
            raise AtollError(
                Kind.BAD_REQUEST,
                "read the body",
                f"it has {self._received} bytes, not {self._size}",
            )

    def _accept(self, part: Buffer) -> None:
        view = memoryview(part)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        self._received += len(view)
        if self._received > self._size:
            raise AtollError(
                Kind.BAD_REQUEST, "read the body", f"it is longer than the {self._size} bytes said"
            )
        self._rest = view
