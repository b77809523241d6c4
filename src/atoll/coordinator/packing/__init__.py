"""What is worth packing, and the swap of places when a pack lies on nodes."""
