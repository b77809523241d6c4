"""Customers' prepaid euros on the chain: deposits, what epochs draw, funds of the distributor."""
