"""What the coordinator knows about nodes: who they are, what they offer, when they were seen."""
