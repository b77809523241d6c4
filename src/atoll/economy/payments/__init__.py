"""Euros by bank: references, QR codes, invoices, statements, payout files. No I/O, no clock.

Each module is one format of ``docs/billing.md``: it turns bytes into frozen models and models into
bytes. Money that banks name is whole cents (``_cents``), ours is pico-euro (``_pico``).
"""
