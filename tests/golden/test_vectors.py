"""The formats are what the vectors say; the vectors are enough to read what we write."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from atoll.core import crypto, erasure, messages, orders, pieces
from atoll.core.identity import Identity, signature_holds

HERE = Path(__file__).parent


def module_beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_vectors = module_beside("make_vectors")
message_tables = module_beside("message_tables")


def stored(name: str) -> Any:
    return json.loads((HERE / "vectors" / f"{name}.json").read_text(encoding="utf-8"))


FIXED = sorted(set(make_vectors.VECTORS) - {"messages"})
"""Messages may grow: see ``test_stored_messages_are_still_understood``."""


@pytest.mark.parametrize("name", FIXED)
def test_the_formats_have_not_changed(name: str) -> None:
    text = (HERE / "vectors" / f"{name}.json").read_text(encoding="utf-8")
    assert text == make_vectors.text_of(name), "a format changed: that needs a new version"


def test_every_vector_file_has_a_maker() -> None:
    assert {path.stem for path in (HERE / "vectors").iterdir()} == set(make_vectors.VECTORS)


def test_a_stored_piece_still_opens() -> None:
    """From the bytes of the file alone: record, trailer, then the plaintext."""
    tiny = stored("piece")["tiny"]
    record = bytes.fromhex(tiny["record"])
    checker = pieces.RecordChecker()
    checker.feed(record)
    trailer = checker.finish()
    header = checker.header
    assert header is not None
    assert trailer.signer_key == Identity(b"g" * 32).public_key
    data = record[header.head_bytes :][: header.data_bytes]
    out = memoryview(bytearray(header.plain_bytes))
    cipher = crypto.SegmentCipher(bytes.fromhex(tiny["content_key"]), header.segment_id)
    cipher.decrypt_chunk(0, True, data, out)
    assert bytes(out).hex() == tiny["plain"]


def test_no_signature_holds_under_a_key_of_nobody() -> None:
    for key in map(bytes.fromhex, stored("identifiers")["keys_of_nobody"]):
        for number in range(16):
            assert not signature_holds(key, b"p", bytes((number,)), bytes(64))
            assert not signature_holds(key, b"p", bytes((number,)), key + bytes(32))


def test_stored_orders_still_check() -> None:
    vectors = stored("orders")
    trusted = {Identity(bytes.fromhex(vectors["coordinator_seed"])).public_key}
    for batch in vectors["batches"]:
        for one in batch:
            limit = orders.check_order(
                bytes.fromhex(one["signed"]), trusted, one["limit"]["issued_ms"], 0
            )
            assert limit.serial.hex() == one["limit"]["serial"]
    orders.check_receipt(bytes.fromhex(vectors["receipt"]["signed"]))


@pytest.mark.parametrize("name", ["python", *erasure.BACKENDS[:2]])
def test_every_backend_makes_the_stored_parity(name: str) -> None:
    kernel = erasure.kernel_named(name)
    if kernel is None:
        pytest.skip(f"{name} is not on this machine")
    for code in stored("erasure")["codes"]:
        columns = [make_vectors.pattern(37, seed) for seed in range(code["k"])]
        parity = [bytearray(37) for _ in code["parity"]]
        erasure.Codec(code["k"], code["n"], kernel).encode(columns, parity, 37)
        assert [bytes(piece).hex() for piece in parity] == code["parity"]


def test_stored_messages_are_still_understood() -> None:
    """Messages may gain fields with defaults; what an older party says must mean the same."""
    for name, vector in stored("messages").items():
        body = bytes.fromhex(vector["encoded"])
        said_again = messages.encode(messages.decode(body, message_tables.KINDS[name]))
        assert contains(msgspec.msgpack.decode(said_again), msgspec.msgpack.decode(body)), name


def contains(new: Any, old: Any) -> bool:
    if isinstance(old, dict):
        return all(key in new and contains(new[key], value) for key, value in old.items())
    if isinstance(old, list):
        return len(new) == len(old) and all(map(contains, new, old))
    return bool(new == old)


def test_the_page_of_messages_is_up_to_date() -> None:
    page = message_tables.PAGE.read_text(encoding="utf-8")
    assert page == message_tables.page(), "run: python -m tests.golden.make_vectors"
