"""Segments of narrow schemes copied into wider ones as a network grows (docs/repair.md)."""
