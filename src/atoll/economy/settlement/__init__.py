"""Settlement: what an epoch comes to, the document that shows it, the tree that commits it."""
