"""Watches what is proposed on the chain, by itself, and strikes down what is wrong.

It trusts nobody: it reads proposals from the chain, documents by their content hash from anybody,
and has a key and an outbox of its own. Half of a struck proposer's bond is its pay.
"""
