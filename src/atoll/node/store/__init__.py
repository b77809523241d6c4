"""Where a node keeps its pieces: append-only logs, an index that is a cache, and their upkeep."""
