"""Vectors of docs/spec/slashes.md: a loss file, a verdict's statement, a node's entry."""

from typing import Any

from tests.unit.core.proofs.losses import loss_by

from atoll.core.identity import Identity
from atoll.core.proofs.loss import check_loss
from atoll.economy.chain.registry import Entry, describe, description_hash
from atoll.economy.settlement.slashes import LossStated, loss_statement
from atoll.economy.settlement.statement import Court, statement_digest
from atoll.economy.settlement.wire import encode_rows

COORDINATOR, NODE = Identity(b"c" * 32), Identity(b"p" * 32)
VERIFIERS = tuple(Identity(bytes([n]) * 32) for n in (11, 12, 13))
OWNER, CUSTOMER, REPORTER = (bytes([n]) * 20 for n in (1, 2, 3))
COURT = Court(31_337, bytes([4]) * 20, bytes([5]) * 20)
REGISTRY = bytes([6]) * 20


def slashes() -> dict[str, Any]:
    """Everything that another implementation must make of the same."""
    body = loss_by(COORDINATOR, VERIFIERS, NODE, 70)
    loss = check_loss(body, [one.public_key for one in VERIFIERS])
    stated = LossStated(NODE.node_id, OWNER, loss.evidence, 3, CUSTOMER, REPORTER)
    statement = loss_statement(stated)
    description = describe(NODE, OWNER, COURT.chain_id, REGISTRY)
    entry = Entry(
        COURT.chain_id,
        REGISTRY,
        NODE.node_id,
        OWNER,
        OWNER,
        description_hash(description),
        2,
        1_800_000_000,
    )
    return {
        "loss": {
            "node_key": NODE.public_key.hex(),
            "verifiers": [one.public_key.hex() for one in VERIFIERS],
            "file": body.hex(),
            "evidence": loss.evidence.hex(),
            "score": loss.score,
        },
        "verdict": {
            "chain_id": COURT.chain_id,
            "court": COURT.address.hex(),
            "node_id": NODE.node_id.hex(),
            "owner": OWNER.hex(),
            "epoch": 3,
            "customer_account": CUSTOMER.hex(),
            "reporter": REPORTER.hex(),
            "node": stated.node_key.hex(),
            "subject": statement.subject.hex(),
            "stated": statement.stated.hex(),
            "digest": statement_digest(COURT, statement).hex(),
            "body": encode_rows([stated]).hex(),
        },
        "entry": {
            "registry": REGISTRY.hex(),
            "nonce": 2,
            "deadline_s": 1_800_000_000,
            "description": description.hex(),
            "description_hash": description_hash(description).hex(),
            "digest": entry.digest().hex(),
        },
    }
