"""The way from the coordinator's books to the chain, kept open while service goes on without it."""
