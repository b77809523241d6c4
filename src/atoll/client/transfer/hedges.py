"""How much may be asked of a second node only because the first one is slow.

Whoever doubles all that is late doubles the load just when there is too much of it, and what was a
short delay does not end ("The Tail at Scale", Dean and Barroso, 2013). So a worker pays for each
hedge with what it has asked in the ordinary way.
"""

HEDGE_SHARE = 0.1
HEDGE_BURST = 20.0


class HedgeBudget:
    """Tokens: ten ordinary requests pay for one hedge, up to a small reserve."""

    def __init__(self, burst: float = HEDGE_BURST) -> None:
        """Start with the whole reserve of ``burst`` hedges."""
        self._burst = burst
        self._tokens = burst

    def asked(self) -> None:
        """Note a request that was not a hedge."""
        self._tokens = min(self._tokens + HEDGE_SHARE, self._burst)

    def take(self) -> bool:
        """Say whether one more request beside a late one is affordable, and take it."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
