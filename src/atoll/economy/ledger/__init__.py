"""The double-entry ledger: every movement of money, in picos, with its evidence."""
