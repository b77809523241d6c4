"""Proofs of what this node holds: agrees on tree heads, shows drawn leaves, pushes them out."""
