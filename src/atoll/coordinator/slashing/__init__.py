"""From lost data to what it costs: evidence, the epoch's slash, the bond on the chain."""
