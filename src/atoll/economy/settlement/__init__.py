"""Settlement: what an epoch comes to, the document that proves it, the tree that commits it. Pure."""
