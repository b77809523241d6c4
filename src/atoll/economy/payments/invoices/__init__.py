"""Invoices: one frozen model, and how it reads as text, as a page and as JSON."""
