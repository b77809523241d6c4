"""Where data lies and why: policies tried on the nodes of now, objects explained, lists signed."""
