"""Metering: which bytes of whom lay where for how long, at which price, and what was proven."""
