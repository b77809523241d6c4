"""Whatever a server answers, it is read, or refused with a typed error."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import AtollError, Kind
from atoll.economy.chain import decode

json_drawn = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=80)
    | st.from_regex(r"0x[0-9a-f]{0,70}", fullmatch=True),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "number",
                    "hash",
                    "parentHash",
                    "timestamp",
                    "topics",
                    "address",
                    "data",
                    "logs",
                    "blockNumber",
                    "blockHash",
                    "transactionHash",
                    "logIndex",
                    "status",
                    "gasUsed",
                    "input",
                    "from",
                    "to",
                    "value",
                ]
            ),
            inner,
            max_size=14,
        )
    ),
    max_leaves=20,
)
READERS: dict[str, Callable[[Any], object]] = {
    "quantity": decode.quantity,
    "data": decode.data,
    "block": decode.block,
    "log": decode.log,
    "logs": decode.logs,
    "receipt": lambda value: decode.receipt(value, b"\x01" * 32),
    "sent": lambda value: decode.sent(value, b"\x01" * 32),
}
WORD = "0x" + "01" * 32
LOG = {
    "address": "0x" + "02" * 20,
    "topics": [WORD],
    "data": "0x1234",
    "blockNumber": "0x5",
    "blockHash": WORD,
    "transactionHash": WORD,
    "logIndex": "0x0",
}
RECEIPT = {
    "transactionHash": WORD,
    "blockNumber": "0x5",
    "blockHash": WORD,
    "status": "0x1",
    "gasUsed": "0x5208",
    "contractAddress": None,
    "logs": [LOG],
}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=40)
@given(value=json_drawn)
def test_nothing_but_typed_errors(name: str, value: Any) -> None:
    with contextlib.suppress(AtollError):
        READERS[name](value)


@pytest.mark.parametrize(
    "value", ["0x", "12", "0x-1", "0x1_0", "0x 1", "0xg", "0x" + "1" * 65, "0x١", 5, None, True]
)
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(AtollError):
        decode.quantity(value)


def test_numbers_keep_their_range() -> None:
    assert decode.quantity("0xff", 8) == 255
    with pytest.raises(AtollError):
        decode.quantity("0x100", 8)


@pytest.mark.parametrize("value", ["0x1", "0x 12", "0x1 2", "0xzz", "1234", None, 5])
def test_what_are_no_bytes(value: Any) -> None:
    with pytest.raises(AtollError):
        decode.data(value)


def test_a_receipt_is_read() -> None:
    found = decode.receipt(RECEIPT, b"\x01" * 32)
    assert found is not None
    assert found.succeeded
    assert found.gas_used == 21_000
    assert found.logs[0].data == b"\x12\x34"


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("transactionHash", "0x" + "09" * 32),
        ("status", "0x2"),
        ("status", None),
        ("gasUsed", "lots"),
        ("contractAddress", "0x12"),
        ("logs", None),
        ("logs", [LOG | {"transactionHash": "0x" + "09" * 32}]),
        ("logs", [LOG | {"blockHash": "0x" + "09" * 32}]),
        ("logs", [LOG, LOG]),
        ("logs", [LOG | {"removed": True}]),
        ("logs", [LOG | {"topics": [WORD] * 5}]),
    ],
)
def test_a_lying_receipt_is_refused(field: str, lie: Any) -> None:
    with pytest.raises(AtollError) as error:
        decode.receipt(RECEIPT | {field: lie}, b"\x01" * 32)
    assert error.value.kind is Kind.CORRUPT


def test_a_receipt_without_a_block_is_none_yet() -> None:
    assert decode.receipt(RECEIPT | {"blockHash": None}, b"\x01" * 32) is None


SENT = {
    "hash": WORD,
    "blockHash": WORD,
    "from": "0x" + "03" * 20,
    "to": "0x" + "02" * 20,
    "input": "0x1234",
    "value": "0x0",
}


def test_what_a_transaction_asked_is_read() -> None:
    found = decode.sent(SENT, b"\x01" * 32)
    assert found is not None
    assert (found.to, found.data, found.sender) == (b"\x02" * 20, b"\x12\x34", b"\x03" * 20)
    made = decode.sent(SENT | {"to": None}, b"\x01" * 32)
    assert made is not None
    assert made.to == b"", "it makes a contract"
    for waiting in (None, SENT | {"blockHash": None}):
        assert decode.sent(waiting, b"\x01" * 32) is None


@pytest.mark.parametrize(
    ("field", "lie"),
    [("hash", "0x" + "09" * 32), ("to", "0x12"), ("input", None), ("from", None), ("value", -1)],
)
def test_a_lie_about_a_transaction_is_refused(field: str, lie: Any) -> None:
    with pytest.raises(AtollError) as error:
        decode.sent(SENT | {field: lie}, b"\x01" * 32)
    assert error.value.kind is Kind.CORRUPT


def test_logs_that_nobody_asked_for_are_refused() -> None:
    found = decode.logs([LOG])
    decode.check_logs(found, 5, 5, [b"\x02" * 20])
    for first, last, address in ((6, 9, b"\x02"), (0, 4, b"\x02"), (5, 5, b"\x03")):
        with pytest.raises(AtollError):
            decode.check_logs(found, first, last, [address * 20])


def test_reasons_are_words() -> None:
    text = b"too early".ljust(32, b"\0")
    said = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (9).to_bytes(32, "big") + text
    assert decode.revert_reason(said) == "too early"
    panic = bytes.fromhex("4e487b71") + (0x11).to_bytes(32, "big")
    assert decode.revert_reason(panic) == "panic 0x11"
    assert decode.revert_reason(b"") == "no reason given"
    assert decode.revert_reason(b"\x12\x34\x56\x78") == "error 12345678"
    endless = said[:4] + (32).to_bytes(32, "big") + b"\xff" * 32 + b"\x1b[31m" * 100
    assert len(decode.revert_reason(endless)) <= decode.REASON_CHARACTERS_MAX
    assert "\x1b" not in decode.revert_reason(endless)
