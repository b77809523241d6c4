"""The simulated world: the same ports, answered for a seed."""
