"""Money: contracts of the settlement chain, the chain itself, tariff, ledger, settlement, payments.

``contracts`` holds the Vyper sources and their build, ``artifacts`` what the build made and how it
is loaded. The rest of the house reaches chains through ports only.
"""
