"""Benchmarks: CPU per byte and operations per second of the whole product."""
