"""Billing: epochs from what was metered to a document that everybody can compute again."""
