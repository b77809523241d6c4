"""Locks of objects: who asks for them, and how the holders of pieces learn of them."""
