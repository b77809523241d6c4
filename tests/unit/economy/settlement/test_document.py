"""What is published can be computed again by a stranger, and no byte of it can be changed."""

import hashlib
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.epochs import PARAMETERS, Life, payer_id

from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.economy.settlement import document, recompute
from atoll.economy.settlement.compute import compute
from atoll.economy.settlement.details import find_details, seal_details
from atoll.economy.settlement.document import Document, Published
from atoll.economy.settlement.lines import line_amounts
from atoll.economy.settlement.model import FIRST, EpochTotals
from atoll.economy.settlement.wire import decode_rows, encode_rows

COORDINATOR = Identity(b"c" * 32).public_key
SECRET = b"s" * 32
SEEDS = {payer_id(number): bytes((number + 1,)) * 32 for number in range(5)}
KEYS = {payer: Identity(seed).public_key for payer, seed in SEEDS.items()}


def published(
    epochs: int = 1, seed: int = 3, nodes: int = 12, chunk_bytes: int = 2_000
) -> list[Published]:
    """A few epochs of random life, one after the other."""
    life = Life(seed, nodes=nodes, payers=5)
    totals: EpochTotals = FIRST
    found: list[Published] = []
    for _ in range(epochs):
        inputs, names = document.with_pseudonyms(life.next(), SECRET)
        result = compute(totals, inputs, life.tariff, PARAMETERS)
        lines = line_amounts(inputs, life.tariff, PARAMETERS)
        boxes = seal_details(inputs.epoch, lines, names, KEYS, SECRET)
        content = document.content_of(totals, inputs, life.tariff, PARAMETERS, result, boxes)
        before = found[-1].content_hash if found else document.NO_DOCUMENT
        found.append(document.publish(content, COORDINATOR, before, chunk_bytes))
        totals = result.totals
    return found


def read(one: Published) -> Document:
    return document.read(one.index, one.chunks, one.content_hash)


def test_a_stranger_computes_the_same() -> None:
    one, two, three = (read(epoch) for epoch in published(3))
    assert len(one.index.chunks) > 10
    assert recompute.recompute(one) == []
    assert recompute.recompute(two, one) == []
    assert recompute.recompute(three, two) == []
    assert three.index.released_micro > 0
    assert three.content_hash == published(3)[2].content_hash, "the same life, the same bytes"


def test_an_epoch_begins_where_the_one_before_ended() -> None:
    one, two, three = (read(epoch) for epoch in published(3))
    differences = recompute.recompute(three, one)
    assert {"index.previous", "before.epoch"} <= {found.where for found in differences}
    moved = Document(msgspec.structs.replace(two.index, previous=document.NO_DOCUMENT), two.content)
    assert [found.where for found in recompute.recompute(moved, one)] == ["index.previous"]


def test_every_altered_byte_is_noticed() -> None:
    (one,) = published()
    rng = random.Random(1)
    for _ in range(60):
        place = rng.randrange(len(one.chunks))
        body = bytearray(one.chunks[place])
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        chunks = [*one.chunks[:place], bytes(body), *one.chunks[place + 1 :]]
        with pytest.raises(AtollError) as caught:
            document.read(one.index, chunks, one.content_hash)
        assert caught.value.kind is Kind.CORRUPT
    for place in range(0, len(one.index), 7):
        index = bytearray(one.index)
        index[place] ^= 1
        with pytest.raises(AtollError) as caught:
            document.read(bytes(index), one.chunks, one.content_hash)
        assert caught.value.kind is Kind.CORRUPT


LIES = [
    ("result.nodes", "released_pico"),
    ("result.nodes", "held_pico"),
    ("result.customers", "charge_pico"),
    ("result.customers", "refund_pico"),
    ("storage", "byte_ms"),
    ("storage", "price_pico"),
    ("egress", "byte_count"),
    ("proofs", "slots_missed"),
    ("after.accounts", "released_pico"),
    ("leaves", "released_micro"),
    ("result", "take_pico"),
    ("before", "insurance_pico"),
]


@pytest.mark.parametrize(("section", "field"), LIES, ids=str)
def test_a_coordinator_that_signs_another_figure_is_told(section: str, field: str) -> None:
    """All hashes hold: the liar made them. The figures do not."""
    good = published(2)[1]
    content = read(good)
    assert recompute.recompute(content) == []
    kinds = dict(document.SECTIONS)
    index = content.index
    place = [chunk.section for chunk in index.chunks].index(section)
    rows = decode_rows(good.chunks[place], kinds[section])
    for at in range(len(rows)):
        said = getattr(rows[at], field)
        lie = {"byte_ms": said + 10**24, "price_pico": 1, "slots_missed": 24}.get(
            field, said + 10**6
        )
        lies = [*rows[:at], msgspec.structs.replace(rows[at], **{field: lie}), *rows[at + 1 :]]
        body = encode_rows(lies)
        entry = document.ChunkEntry(section, len(rows), len(body), hashlib.sha256(body).digest())
        chunks = [*good.chunks[:place], body, *good.chunks[place + 1 :]]
        entries = [*index.chunks[:place], entry, *index.chunks[place + 1 :]]
        lying = document.encode_index(msgspec.structs.replace(index, chunks=entries))
        found = recompute.recompute(document.read(lying, chunks))
        assert all(difference.published != difference.computed for difference in found)
        if found:
            # Not every line matters: a dear price is cut anyway, a node may hold nothing.
            return
    raise AssertionError("nobody noticed")


def test_a_root_over_other_leaves_is_told() -> None:
    one = read(published()[0])
    for change in ({"root": b"r" * 32}, {"released_micro": 1}, {"leaf_count": 1}, {"epoch": 9}):
        lying = Document(msgspec.structs.replace(one.index, **change), one.content)
        wheres = [found.where for found in recompute.recompute(lying)]
        assert f"index.{next(iter(change))}" in wheres


def test_customers_have_another_name_in_every_epoch() -> None:
    one, two = (read(epoch) for epoch in published(2))
    first = {line.payer for line in one.content.inputs.storage}
    second = {line.payer for line in two.content.inputs.storage}
    assert first
    assert second
    assert not first & second
    everything = b"".join(published(2)[1].chunks)
    assert not any(payer in everything for payer in SEEDS)
    assert document.pseudonym(b"t" * 32, 1, payer_id(0)) not in first


def test_lines_stand_in_an_order_that_tells_nothing() -> None:
    content = read(published()[0]).content
    for rows in (content.inputs.storage, content.inputs.egress, content.inputs.customers):
        assert [msgspec.structs.astuple(row) for row in rows] == sorted(
            msgspec.structs.astuple(row) for row in rows
        )


def test_a_customer_finds_his_own_lines_and_nobody_elses() -> None:
    (one,) = published()
    content = read(one).content
    seen = 0
    for payer, seed in SEEDS.items():
        details = find_details(content.sealed, seed)
        if details is None:
            continue
        assert details.payer == payer
        mine = next(c for c in content.result.customers if c.payer == details.pseudonym)
        assert sum(line.charge_pico for line in details.lines) == mine.charge_pico
        assert sum(line.refund_pico for line in details.lines) == mine.refund_pico
        seen += len(details.lines)
    assert seen == len(content.inputs.storage) + len(content.inputs.egress)
    assert find_details(content.sealed, b"z" * 32) is None


def test_another_body_is_sealed_with_another_key() -> None:
    seeds = {document.seal_seed(SECRET, payer_id(0), body) for body in (b"a", b"b")}
    assert len(seeds) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"coordinator_key": b"k"},
        {"chunks": []},
    ],
    ids=str,
)
def test_an_index_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    (one,) = published()
    index = msgspec.structs.replace(read(one).index, **change)
    with pytest.raises(AtollError) as caught:
        document.read(document.encode_index(index), one.chunks)
    assert caught.value.kind in (Kind.CORRUPT, Kind.NEWER_FORMAT)


def swapped(one: Published, section: str, body: bytes, rows: int) -> Published:
    """The same document with another chunk, its hash made right."""
    index = read(one).index
    place = [chunk.section for chunk in index.chunks].index(section)
    entry = document.ChunkEntry(section, rows, len(body), hashlib.sha256(body).digest())
    entries = [*index.chunks[:place], entry, *index.chunks[place + 1 :]]
    encoded = document.encode_index(msgspec.structs.replace(index, chunks=entries))
    chunks = (*one.chunks[:place], body, *one.chunks[place + 1 :])
    return Published(encoded, chunks, document.content_hash(encoded))


def test_a_chunk_in_another_form_is_refused() -> None:
    """The same values in longer MessagePack would be a second document with the same figures."""
    (one,) = published()
    frame = one.chunks[[c.section for c in read(one).index.chunks].index("frame")]
    assert frame[:3] == bytes.fromhex("919501")
    longer = bytes.fromhex("9195cc01") + frame[3:]
    assert decode_rows(longer, document.Frame) == decode_rows(frame, document.Frame)
    assert read(swapped(one, "frame", frame, 1)).content == read(one).content
    for body, rows in ((longer, 1), (frame, 2)):
        with pytest.raises(AtollError, match="one form"):
            read(swapped(one, "frame", body, rows))


def test_sections_out_of_order_or_missing_are_refused() -> None:
    (one,) = published()
    index = read(one).index
    turned = msgspec.structs.replace(index, chunks=index.chunks[::-1])
    with pytest.raises(AtollError, match="order"):
        document.read(document.encode_index(turned), one.chunks[::-1])
    less = msgspec.structs.replace(index, chunks=index.chunks[1:])
    with pytest.raises(AtollError, match="section tariff has one row"):
        document.read(document.encode_index(less), one.chunks[1:])


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400))
def test_bytes_of_anybody_are_no_document(body: bytes) -> None:
    with pytest.raises(AtollError) as caught:
        document.read(body, [])
    assert caught.value.kind in (Kind.CORRUPT, Kind.NEWER_FORMAT)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**62), 2**250), max_size=8))
def test_numbers_of_any_size_are_written_in_one_way(numbers: list[int]) -> None:
    body = encode_rows(numbers)
    assert decode_rows(body, int) == numbers
    assert encode_rows(decode_rows(body, int)) == body


@pytest.mark.parametrize(
    "body", ["91c70901000000000000000001", "91c7080100000000000000ff", "91d4020a", "91c70901", "01"]
)
def test_numbers_written_otherwise_are_refused(body: str) -> None:
    with pytest.raises(AtollError) as caught:
        decode_rows(bytes.fromhex(body), int)
    assert caught.value.kind is Kind.CORRUPT


def test_chunks_end_where_the_rows_say() -> None:
    (one,) = published(nodes=60, chunk_bytes=1_000)
    (other,) = published(nodes=60, chunk_bytes=1_000)
    assert one == other
    assert max(len(chunk) for chunk in one.chunks) < 2_000
    assert len(one.chunks) > 40
    (whole,) = published(nodes=60, chunk_bytes=10**7)
    assert read(whole).content == read(one).content
