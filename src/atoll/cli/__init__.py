"""The door: commands, and the only place that wires a world to the rooms."""
