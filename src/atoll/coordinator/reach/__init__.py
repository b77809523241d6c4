"""Whether nodes can be called."""
