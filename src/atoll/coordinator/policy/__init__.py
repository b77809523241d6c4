"""Policies of buckets by version, whom to believe about nodes, what that makes of a party."""
