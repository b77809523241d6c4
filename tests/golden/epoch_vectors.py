"""Vectors of epochs: two small ones, from inputs to bytes, and the numbers of big numbers."""

from typing import Any

import msgspec

from atoll.core.identity import Identity
from atoll.core.sealed import seal_for
from atoll.economy.settlement import document
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.details import seal_details
from atoll.economy.settlement.lines import line_amounts
from atoll.economy.settlement.model import (
    FIRST,
    Credit,
    CustomerTerms,
    Damage,
    EgressLine,
    EpochInputs,
    EpochTotals,
    NodeTerms,
    ProofLine,
    RepairLine,
    Slash,
    StorageLine,
    TakeParameters,
)
from atoll.economy.settlement.wire import encode_rows
from atoll.economy.tariff.model import ClassTariff, Tariff

COORDINATOR = Identity(b"c" * 32)
OWNER = Identity(b"o" * 32)
SECRET = b"e" * 32
HOUR_MS = 3_600_000
LINE_FIELDS = (
    "node",
    "payer",
    "fee_pico",
    "charge_pico",
    "refund_pico",
    "discount_pico",
    "earned_pico",
    "take_pico",
    "unfunded_pico",
)
NODES = [bytes((number,)) * 32 for number in (1, 2, 3)]
ACCOUNTS = [bytes((0xA0 + number,)) * 20 for number in (1, 2, 3)]
PAYERS = [bytes((0xC0 + number,)) * 16 for number in (1, 2)]
TARIFF = Tariff(
    [
        ClassTariff("dc", 200 * 10**6, 20_000 * 10**6, 2_000 * 10**6, 12_345, 5 * 10**9),
        ClassTariff("home", 130 * 10**6, 13_000 * 10**6, 1_300 * 10**6, 10_000, 5 * 10**9),
    ],
    4 * 10**9,
)


def _first() -> EpochInputs:
    evidence = b"\x11" * 32
    return EpochInputs(
        epoch=1,
        from_ms=1_800_000_000_000,
        until_ms=1_800_000_000_000 + HOUR_MS,
        nodes=[
            NodeTerms(NODES[0], ACCOUNTS[0], "home", 2_500, 10**12),
            NodeTerms(NODES[1], ACCOUNTS[1], "dc", 7_500, 10**9, 3_333),
            NodeTerms(NODES[2], ACCOUNTS[1], "home", 0, 0),
        ],
        customers=[CustomerTerms(PAYERS[0], 500), CustomerTerms(PAYERS[1], 0, 10**9)],
        storage=[
            StorageLine(NODES[0], PAYERS[0], 4 * 10**12 * HOUR_MS, 1_250 * 10**6, 0, evidence),
            StorageLine(NODES[1], PAYERS[0], 10**12 * HOUR_MS, 0, 2_500 * 10**6, evidence),
            StorageLine(NODES[1], PAYERS[1], 10**13 * HOUR_MS, 9_000 * 10**6, 0, evidence),
            StorageLine(NODES[2], PAYERS[1], 10**6 * 60_000, 1_300 * 10**6, 0, evidence),
        ],
        egress=[EgressLine(NODES[0], PAYERS[0], 123_456_789_012, b"\x22" * 32)],
        repairs=[],
        proofs=[
            ProofLine(NODES[0], 24, 0, 768, 0, b"\x33" * 32),
            ProofLine(NODES[1], 24, 3, 672, 7, b"\x33" * 32),
        ],
        slashes=[],
        credits=[],
        reserve_pico=10**9,
    )


def _second(after: EpochInputs) -> EpochInputs:
    return msgspec.structs.replace(
        after,
        epoch=2,
        from_ms=after.until_ms,
        until_ms=after.until_ms + HOUR_MS,
        nodes=[
            msgspec.structs.replace(after.nodes[0], hold_back_bps=0, ceiling_pico=0),
            *after.nodes[1:],
        ],
        repairs=[RepairLine(NODES[2], NODES[1], 10**9, b"\x44" * 32)],
        slashes=[
            Slash(
                NODES[0],
                10**9,
                2 * 10**8,
                [Damage(PAYERS[0], 3 * 10**8), Damage(PAYERS[1], 10**8)],
                ACCOUNTS[2],
                1_000,
                b"\x55" * 32,
            )
        ],
        credits=[Credit(PAYERS[1], 10**8, b"\x66" * 32)],
        reserve_pico=0,
        time_factor=2_592_000,
    )


def _epoch(
    before: EpochTotals, inputs: EpochInputs, previous: bytes
) -> tuple[dict[str, Any], EpochTotals, bytes]:
    known, names = document.with_pseudonyms(inputs, SECRET)
    parameters = TakeParameters()
    result = compute(before, known, TARIFF, parameters)
    lines = list(line_amounts(known, TARIFF, parameters))
    boxes = seal_details(known.epoch, lines, names, {PAYERS[0]: OWNER.public_key}, SECRET)
    content = document.content_of(before, known, TARIFF, parameters, result, boxes)
    made = document.publish(content, COORDINATOR.public_key, previous, chunk_bytes=400)
    index = document.read_index(made.index)
    row = {
        "before": _plain(before),
        "tariff": _plain(TARIFF),
        "parameters": _plain(parameters),
        "inputs": _plain(known),
        "lines": [{name: getattr(line, name) for name in LINE_FIELDS} for line in lines],
        "result": _plain(result),
        "root": index.root,
        "released_micro": index.released_micro,
        "held_micro": index.held_micro,
        "chunks": [
            {"section": entry.section, "sha256": entry.sha256, "body": body}
            for entry, body in zip(index.chunks, made.chunks, strict=True)
        ],
        "index": made.index,
        "content_hash": made.content_hash,
    }
    return row, result.totals, made.content_hash


def _plain(value: msgspec.Struct) -> Any:
    """Fields by name, so that the vectors can be read."""
    return {name: _deep(getattr(value, name)) for name in value.__struct_fields__}


def _deep(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_deep(one) for one in value]
    return value


def epochs() -> dict[str, Any]:
    first, after, name = _epoch(FIRST, _first(), document.NO_DOCUMENT)
    second, _, _ = _epoch(after, _second(_first()), name)
    numbers = [0, -1, 127, 2**63, 2**64 - 1, 2**64, 2**64 + 255, 10**24]
    box = seal_for(OWNER.public_key, b"test/1", b"a box", b"x" * 32)
    return {
        "numbers": [{"number": str(one), "encoded": encode_rows([one])} for one in numbers],
        "pseudonyms": [
            {
                "secret": SECRET,
                "epoch": epoch,
                "payer": payer,
                "pseudonym": document.pseudonym(SECRET, epoch, payer),
            }
            for epoch in (1, 2)
            for payer in PAYERS
        ],
        "sealed": {
            "seed": b"o" * 32,
            "public_key": OWNER.public_key,
            "purpose": b"test/1",
            "ephemeral_seed": b"x" * 32,
            "plain": b"a box",
            "box": box,
        },
        "epochs": [first, second],
    }
