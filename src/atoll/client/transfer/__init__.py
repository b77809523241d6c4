"""One segment on its way: pieces to nodes and back, with replacements, cut-offs and hedges."""
