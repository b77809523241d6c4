"""Vectors of possession proofs: tree, head, beacon, samples, verdict, proof file."""

import hashlib
from typing import Any

import msgspec
from tests.unit.core.proofs.world import (
    COORDINATOR,
    PROVIDER,
    SLOT_MS,
    VERIFIERS,
    beacon_of,
    chain_of,
    reveal_of,
    small_holder,
    verdict_of,
)

from atoll.core.proofs.beacon import check_beacon, draw_committee, quorum
from atoll.core.proofs.bundle import Bundle, ProofFile, write_proof_file
from atoll.core.proofs.samples import first_seed, next_seed, position_of, shown_hash
from atoll.core.proofs.signed import encode_statement
from atoll.core.proofs.sums import TopTree
from atoll.core.proofs.verdicts import judge_proof

SLOT = 9


def proofs() -> dict[str, Any]:
    holder = small_holder()
    beacon = beacon_of(SLOT)
    value = check_beacon(beacon).value
    seed = first_seed(holder.head, value, SLOT)
    draws = []
    for _ in range(4):
        position = position_of(seed, holder.head.leaves)
        sample = holder.sample(position)
        draws.append({"seed": seed, "position": position, "sample": encode_statement(sample)})
        seed = next_seed(seed, shown_hash(sample.leaf))
    return {
        "seeds": {
            "coordinator": (b"c" * 32).hex(),
            "node": (b"p" * 32).hex(),
            "verifiers": [(bytes([n]) * 32).hex() for n in (11, 12, 13)],
        },
        "slot_ms": SLOT_MS,
        "entries": [
            msgspec.to_builtins(
                {
                    "serial": piece.serial,
                    "segment": piece.segment.hex(),
                    "index": piece.index,
                    "k": piece.layout.k,
                    "n": piece.layout.n,
                    "unit_bytes": piece.layout.unit_bytes,
                    "plain_bytes": piece.layout.plain_bytes,
                    "segment_root": piece.root.hex(),
                    "leaves": piece.entry().leaves,
                    "data": {"pattern_seed": piece.serial},
                }
            )
            for piece in holder.pieces
        ],
        "ranges": [
            {
                "range": one.top.range,
                "entries": one.top.entries,
                "leaves": one.top.leaves,
                "digest": one.top.digest,
            }
            for one in holder.ranges
        ],
        "root": holder.top.root,
        "root_of_nothing": TopTree([]).root,
        "head": holder.signed.body,
        "coordinator_signature": holder.signed.coordinator_signature,
        "node_signature": holder.signed.node_signature,
        "chains": [encode_statement(chain_of(one)) for one in VERIFIERS],
        "reveals": [encode_statement(reveal_of(one, SLOT)) for one in VERIFIERS],
        "beacon": encode_statement(beacon),
        "beacon_value": value,
        "draws": draws,
        **_judged(),
    }


def _judged() -> dict[str, Any]:
    holder = small_holder()
    holder.pieces[2].data = None
    beacon = beacon_of(SLOT)
    value = check_beacon(beacon).value
    proof = holder.proof(beacon, SLOT, 6)
    verdict = verdict_of(proof)
    chains = [chain_of(one) for one in VERIFIERS]
    file = write_proof_file(ProofFile("a node", [Bundle(encode_statement(proof), verdict, chains)]))
    keys = sorted(bytes([n]) * 32 for n in range(20))
    return {
        "proof_with_a_lost_piece": {
            "sha256": hashlib.sha256(encode_statement(proof)).hexdigest(),
            "digest": judge_proof(proof).verdict.proof,
        },
        "verdict": verdict.body,
        "signatures": [[one.key, one.signature] for one in verdict.signatures],
        "proof_file": {"bytes": len(file), "sha256": hashlib.sha256(file).hexdigest()},
        "committees": [
            {
                "beacon": value,
                "node_id": PROVIDER.node_id,
                "verifiers": keys,
                "committee": draw_committee(value, PROVIDER.node_id, keys),
            }
        ],
        "quorums": {str(members): quorum(members) for members in range(1, 16)},
        "coordinator_key": COORDINATOR.public_key,
    }
