"""Audit: freezes what each node holds, runs the beacon, and makes verdicts count."""
