"""Customers' money: what they owe, what happens when nothing is left, invoices, transfers."""
