"""Sources of the settlement contracts (Vyper, AGPL-3.0-only) and how they are compiled.

The sources are not needed at run time: a running cloud deploys from ``atoll.economy.artifacts``.
They are shipped so that anyone can compile them again and compare.
"""
