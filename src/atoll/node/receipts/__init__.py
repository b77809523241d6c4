"""Receipts: what gateways sign for reads, what they owe, and what is claimed for it."""
