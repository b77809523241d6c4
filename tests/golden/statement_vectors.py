"""Vectors of docs/spec/contracts.md: what verifiers sign over an epoch's root."""

from typing import Any

from atoll.economy.chain.signer import Signer
from atoll.economy.settlement.statement import (
    Court,
    RootStated,
    root_statement,
    split_signature,
    statement_digest,
    statement_key,
)
from atoll.economy.settlement.wire import encode_rows

COURT = Court(31_337, bytes([4]) * 20, bytes([5]) * 20)
STATED = (
    RootStated(1, 1, bytes([6]) * 32, bytes([7]) * 32),
    RootStated(300, 2, bytes(range(32)), bytes(range(32, 64))),
)
SEED = bytes([9]) * 32


def statements() -> dict[str, Any]:
    """Everything that another implementation must make of the same."""
    signer = Signer.derived(SEED, "verifier")
    found = []
    for stated in STATED:
        statement = root_statement(COURT, stated)
        digest = statement_digest(COURT, statement)
        v, r, s = split_signature(signer.sign_digest(digest))
        found.append(
            {
                "epoch": stated.epoch,
                "attempt": stated.attempt,
                "root": stated.root.hex(),
                "content": stated.content.hex(),
                "body": encode_rows([stated]).hex(),
                "kind": statement.kind,
                "subject": statement.subject.hex(),
                "stated": statement.stated.hex(),
                "key": statement_key(statement).hex(),
                "digest": digest.hex(),
                "signature": {"v": v, "r": f"{r:064x}", "s": f"{s:064x}"},
            }
        )
    return {
        "chain_id": COURT.chain_id,
        "court": COURT.address.hex(),
        "distributor": COURT.distributor.hex(),
        "seed": SEED.hex(),
        "account": signer.address.hex(),
        "roots": found,
    }
