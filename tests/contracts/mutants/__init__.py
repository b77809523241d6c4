"""Declared faults of the contracts; see ``tests/contracts/mutate.py``."""
