"""Relays: reachability for nodes behind a NAT. A relay carries bytes that it cannot read."""
