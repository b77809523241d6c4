"""What the coordinator knows about customers' data: credentials, buckets, objects, segments."""
