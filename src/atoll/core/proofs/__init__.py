"""Possession proofs, the pure part: sum trees, heads, beacon, samples, verdicts, evidence.

A coordinator and a node agree on what the node holds (a Merkle-sum tree whose head both sign); a
beacon that nobody knows beforehand draws leaves; the node shows them with their way to the head;
verifiers say what they saw. Everything here can be recomputed by anyone.

Normative text: ``docs/spec/proofs.md``. Vectors: ``tests/golden/vectors/proofs.json``.
"""
