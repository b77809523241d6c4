"""Prices: what providers ask, what customers see, what follows for both. Pure."""
