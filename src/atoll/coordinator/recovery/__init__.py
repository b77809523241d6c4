"""Manifests of what the coordinator knows, kept on nodes; buckets taken over from elsewhere."""
