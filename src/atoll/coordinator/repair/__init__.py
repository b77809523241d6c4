"""Repair: what is missing, what is urgent, and how it is rebuilt without trusting anybody."""
