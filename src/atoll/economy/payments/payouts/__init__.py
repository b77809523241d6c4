"""Payouts by bank: the file that orders them (pain.001), and what became of each."""
