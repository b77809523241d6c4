"""The operations by name: ``module:function`` of this package, imported when first asked for."""

import importlib

from atoll.core.errors import AtollError, Kind
from atoll.gateway.customer.call import CustomerHandler

OPERATIONS: dict[str, str] = {
    "whoami": "whoami:whoami",
    "bucket-mode": "manifests:bucket_mode",
    "durability": "durability:durability",
    "policy-set": "policy:set_policy",
    "policy-show": "policy:show_policy",
    "policy-check": "policy:check_policy",
    "trust": "policy:trust",
    "revocations-publish": "policy:publish_revocations",
    "object-explain": "explain:explain",
    "residency-attest": "attest:attest",
    "lock": "lock:lock",
    "proofs": "proofs:proofs",
    "prices": "prices:prices",
    "price-preview": "prices:preview",
    "receipt-explain": "receipt:explain",
    "bill": "bill:bill",
    "bill-budget": "bill:set_budget",
    "bill-address": "bill:address",
    "bill-address-set": "bill:set_address",
    "invoice-list": "bill:invoices",
    "invoice-show": "bill:invoice",
}
"""Name in the path to where its handler is."""


def handler_of(name: str) -> CustomerHandler:
    """Return the handler of an operation. Raises ``NOT_FOUND``."""
    place = OPERATIONS.get(name)
    if place is None:
        raise AtollError(
            Kind.NOT_FOUND, "answer request", f"there is no operation {name!r}", about=name
        )
    module, _, function = place.partition(":")
    handler: CustomerHandler = getattr(
        importlib.import_module(f"atoll.gateway.customer.{module}"), function
    )
    return handler
