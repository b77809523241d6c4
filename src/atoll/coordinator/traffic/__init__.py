"""Traffic: what customers read at nodes, by receipts that gateways and nodes signed."""
