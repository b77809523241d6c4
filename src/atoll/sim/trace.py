"""What happened in a world, as a hash: two runs of a seed must agree on it."""

import hashlib
from collections import Counter, deque
from collections.abc import Callable

LINES_KEPT = 400
"""The last lines are kept to be shown with a failure."""


class Trace:
    """A running hash over all events in order, with counts by kind."""

    def __init__(self, now: Callable[[], float], show: Callable[[str], None] | None = None) -> None:
        """Take times from ``now``; with ``show`` also tell every line."""
        self._now = now
        self._show = show
        self._hash = hashlib.sha256()
        self.counts: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=LINES_KEPT)

    def note(self, kind: str, what: str) -> None:
        """Add an event."""
        line = f"{self._now():.6f} {kind} {what}"
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        self.counts[kind] += 1
        self.recent.append(line)
        if self._show is not None:
            self._show(line)

    def digest(self) -> str:
        """Return the hash so far as 16 hex digits."""
        return self._hash.hexdigest()[:16]
