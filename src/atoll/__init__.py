"""Atoll: a decentralised cloud on independent providers."""

__version__ = "0.1.0"
