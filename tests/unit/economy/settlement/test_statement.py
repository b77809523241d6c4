"""Statements as the court reads them; against the contract itself in tests/integration."""

import msgspec
import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.signer import ORDER, Signer, recover_account
from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.statement import (
    Court,
    RootStated,
    Statement,
    quorum_of,
    root_statement,
    split_signature,
    statement_digest,
)

COURT = Court(31337, b"c" * 20, b"d" * 20)
STATED = RootStated(7, 3, b"r" * 32, b"t" * 32)
SIGNER = Signer.derived(b"s" * 32, "verifier")


def digest_of(court: Court = COURT, **changes: object) -> bytes:
    return statement_digest(
        court, root_statement(court, msgspec.structs.replace(STATED, **changes))
    )


def test_every_part_of_it_is_signed() -> None:
    others = [
        digest_of(epoch=8),
        digest_of(attempt=4),
        digest_of(root=b"x" * 32),
        digest_of(content=b"x" * 32),
        digest_of(Court(1, COURT.address, COURT.distributor)),
        digest_of(Court(31337, b"x" * 20, COURT.distributor)),
        digest_of(Court(31337, COURT.address, b"x" * 20)),
    ]
    assert len({digest_of(), *others}) == 1 + len(others)


def test_it_is_the_digest_of_eip_712_as_others_compute_it() -> None:
    statement = root_statement(COURT, STATED)
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "Statement": [
                {"name": "kind", "type": "uint256"},
                {"name": "subject", "type": "bytes32"},
                {"name": "epoch", "type": "uint256"},
                {"name": "stated", "type": "bytes32"},
            ],
        },
        "primaryType": "Statement",
        "domain": {
            "name": "Atoll SlashCourt",
            "version": "1",
            "chainId": COURT.chain_id,
            "verifyingContract": "0x" + COURT.address.hex(),
        },
        "message": msgspec.structs.asdict(statement),
    }
    message = encode_typed_data(full_message=typed)
    digest = keccak_256(b"\x19" + message.version + message.header + message.body)
    assert digest == statement_digest(COURT, statement)


@given(st.binary(min_size=32, max_size=32))
def test_a_signature_names_its_key_and_has_one_form(digest: bytes) -> None:
    signature = SIGNER.sign_digest(digest)
    assert recover_account(digest, signature) == SIGNER.address
    v, r, s = split_signature(signature)
    twin = r.to_bytes(32, "big") + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    assert recover_account(digest, twin) == SIGNER.address, "it is a signature as well"
    with pytest.raises(AtollError):
        split_signature(twin)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        bytes(65),
        b"\x01" * 64 + b"\x00",
        b"\x01" * 64 + b"\x1d",
        b"\xff" * 64 + b"\x1b",
        b"\x01" * 66,
    ],
)
def test_what_is_none_is_refused(signature: bytes) -> None:
    with pytest.raises(AtollError) as refused:
        split_signature(signature)
    assert refused.value.kind is Kind.BAD_REQUEST


@pytest.mark.parametrize("signature", [b"", bytes(65), b"\x01" * 64 + b"\x00", b"\xff" * 65])
def test_nobody_signed_what_is_no_signature(signature: bytes) -> None:
    with pytest.raises(AtollError) as refused:
        recover_account(b"d" * 32, signature)
    assert refused.value.kind is Kind.BAD_REQUEST


def test_a_quorum_is_two_thirds_and_never_nobody() -> None:
    for verifiers in range(65):
        quorum = quorum_of(verifiers)
        assert 3 * quorum >= 2 * verifiers
        assert quorum == 1 or 3 * (quorum - 1) < 2 * verifiers


@pytest.mark.parametrize(
    "statement",
    [
        Statement(1, b"short", 1, b"s" * 32),
        Statement(1, b"s" * 32, 1, b"s" * 31),
        Statement(0, b"s" * 32, 1, b"s" * 32),
        Statement(1, b"s" * 32, 1 << 40, b"s" * 32),
        Statement(1, b"s" * 32, -1, b"s" * 32),
    ],
)
def test_what_cannot_be_stated_is_refused(statement: Statement) -> None:
    with pytest.raises(AtollError) as refused:
        statement_digest(COURT, statement)
    assert refused.value.kind is Kind.BAD_REQUEST
