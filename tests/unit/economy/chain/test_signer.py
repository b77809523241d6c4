"""Keys and signatures, against the library that wallets use."""

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.signer import (
    ORDER,
    Signer,
    Unsigned,
    checksum_address,
    contract_address,
    parse_address,
)
from atoll.economy.keccak import keccak_256

SEED = b"k" * 32


def test_a_role_has_its_own_key_and_always_the_same() -> None:
    first, again = Signer.derived(SEED, "operator"), Signer.derived(SEED, "operator")
    assert first.address == again.address
    assert first.address != Signer.derived(SEED, "deployer").address
    assert first.address != Signer.derived(b"l" * 32, "operator").address
    # Golden: addresses must never change under anybody's money.
    assert checksum_address(first.address) == "0x780318Be8C9d769dB274d05467725D57540E619c"


def test_a_key_is_not_printed() -> None:
    signer = Signer(b"\x01" * 32)
    assert "01" * 16 not in repr(signer)


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, ORDER.to_bytes(32, "big"), b"x" * 33])
def test_what_is_no_key_is_refused(secret: bytes) -> None:
    with pytest.raises(AtollError) as error:
        Signer(secret)
    assert error.value.kind is Kind.CONFIG


@given(
    chain_id=st.integers(1, 2**40),
    nonce=st.integers(0, 2**40),
    to=st.sampled_from([b"", b"\x11" * 20, b"\0" * 20]),
    data=st.binary(max_size=100),
    value=st.integers(0, 2**200),
    fees=st.tuples(st.integers(0, 2**60), st.integers(0, 2**60)),
)
def test_transactions_are_signed_as_wallets_do(
    chain_id: int, nonce: int, to: bytes, data: bytes, value: int, fees: tuple[int, int]
) -> None:
    signer = Signer.derived(SEED, "operator")
    limit, tip = max(fees), min(fees)
    signed = signer.sign(Unsigned(chain_id, nonce, to, data, value, 21_000, limit, tip))
    wanted = Account.sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": to,
            "data": data,
            "value": value,
            "gas": 21_000,
            "maxFeePerGas": limit,
            "maxPriorityFeePerGas": tip,
        },
        signer._secret,
    )
    assert signed.raw == bytes(wanted.raw_transaction)
    assert signed.hash == bytes(wanted.hash)


def test_a_digest_is_signed_so_that_contracts_find_the_signer() -> None:
    signer = Signer.derived(SEED, "operator")
    message = encode_defunct(b"an epoch's root")
    digest = keccak_256(b"\x19" + message.version + message.header + message.body)
    signature = signer.sign_digest(digest)
    assert Account.recover_message(message, signature=signature) == checksum_address(signer.address)
    with pytest.raises(ValueError, match="32 bytes"):
        signer.sign_digest(b"short")


@given(st.binary(min_size=20, max_size=20))
def test_addresses_read_back(address: bytes) -> None:
    written = checksum_address(address)
    assert parse_address(written) == parse_address(written.lower()) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "0x1234",
        "hello",
        "0x" + "g" * 40,
        # EIP-55's first example, one letter's case turned.
        "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    ],
)
def test_mistyped_addresses_are_refused(text: str) -> None:
    with pytest.raises(AtollError) as error:
        parse_address(text)
    assert error.value.kind is Kind.BAD_REQUEST


def test_a_contract_stands_where_the_yellow_paper_says() -> None:
    # A well-known one: the first contracts of this account on the main net.
    sender = bytes.fromhex("6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0")
    assert contract_address(sender, 0).hex() == "cd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert contract_address(sender, 1).hex() == "343c43a37d37dff08ae8c4a11544c718abb4fcf8"
