"""Statements of banks (camt.053): read, and each movement judged."""
