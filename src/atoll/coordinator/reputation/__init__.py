"""What is thought of a node, and why: axes, standings, amnesty, the public page."""
