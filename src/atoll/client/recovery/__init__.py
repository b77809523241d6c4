"""Bringing buckets back from nodes alone: labels on pieces, listing, manifests, restoring."""
