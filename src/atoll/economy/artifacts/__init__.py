"""Compiled contracts, one JSON file each; ``atoll.economy.contracts.build`` makes them."""
