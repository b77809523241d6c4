"""Providers leave, shrink and save what a failing disk holds: their nodes move the pieces."""
