"""Sets: which pieces each coordinator counts here, and what follows for those it does not."""
