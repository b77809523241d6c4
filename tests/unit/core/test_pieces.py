"""The piece record: whole records pass in any cuts; every cut, flip or surplus is refused."""

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core import pieces
from atoll.core.errors import AtollError, Kind
from atoll.core.identity import Identity
from atoll.core.ids import SegmentId
from atoll.core.merkle import piece_root
from atoll.core.pieces import Header, RecordChecker, Tlv
from atoll.core.scheme import Layout

GATEWAY = Identity(b"g" * 32)
SEGMENT = SegmentId(bytes(range(16)))
TLVS = (Tlv(pieces.TlvType.BUCKET_TAG, b"tag"), Tlv(65535, b""), Tlv(4242, bytes(300)))


def header_of(index: int = 1, tlvs: tuple[Tlv, ...] = TLVS) -> Header:
    layout = Layout(plain_bytes=5000, k=2, n=4, unit_bytes=1024)
    return Header(
        SEGMENT, index, 2, 4, 1024, 5000, layout.piece_bytes, payer_tag=bytes(16), tlvs=tlvs
    )


def contents(header: Header) -> list[bytes]:
    return [hashlib.shake_128(bytes((i,))).digest(header.data_bytes) for i in range(header.n)]


def record_of(header: Header) -> bytes:
    data = contents(header)
    trailer = pieces.sign_trailer(GATEWAY, header, [piece_root(piece) for piece in data])
    before = pieces.encode_header(header) + data[header.index]
    return before + pieces.encode_trailer(header, trailer, pieces.crc32c(before))


def check(record: bytes, cut: int = 1 << 20, expected: Header | None = None) -> RecordChecker:
    checker = RecordChecker(expected)
    for start in range(0, len(record), cut):
        checker.feed(memoryview(record)[start : start + cut])
    checker.finish()
    return checker


def test_a_record_reads_as_it_was_written() -> None:
    header = header_of()
    record = record_of(header)
    assert len(record) == pieces.record_bytes(header)
    assert pieces.header_length(record) == header.head_bytes
    assert pieces.parse_header(record) == header
    trailer, _ = pieces.parse_trailer(header, record[-pieces.trailer_bytes(4) :])
    assert trailer.signer_key == GATEWAY.public_key
    pieces.check_trailer(header, trailer)
    checker = check(record, expected=header)
    assert checker.header == header
    assert checker.bytes_seen == len(record)


@given(st.integers(1, 5000), st.lists(st.builds(Tlv, st.integers(0, 65535), st.binary(max_size=9))))
def test_any_cut_of_a_record_passes(cut: int, tlvs: list[Tlv]) -> None:
    header = header_of(tlvs=tuple(tlvs))
    assert check(record_of(header), cut).header == header


def test_a_record_cut_at_any_byte_is_refused() -> None:
    record = record_of(header_of())
    for length in range(len(record)):
        with pytest.raises(AtollError) as refusal:
            check(record[:length])
        assert refusal.value.kind is Kind.CORRUPT


@settings(max_examples=400)
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(draw: st.DataObject) -> None:
    record = bytearray(record_of(header_of()))
    place = draw.draw(st.integers(0, len(record) - 1))
    record[place] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(AtollError) as refusal:
        check(bytes(record), draw.draw(st.sampled_from([1, 700, 1 << 20])))
    assert refusal.value.kind is Kind.CORRUPT


def test_every_byte_of_header_and_trailer_is_covered() -> None:
    header = header_of()
    record = record_of(header)
    tail_start = len(record) - pieces.trailer_bytes(header.n)
    for place in [*range(header.head_bytes), *range(tail_start, len(record))]:
        flipped = bytearray(record)
        flipped[place] ^= 0xFF
        with pytest.raises(AtollError) as refusal:
            check(bytes(flipped))
        assert refusal.value.kind is Kind.CORRUPT


def test_surplus_bytes_are_refused() -> None:
    with pytest.raises(AtollError) as refusal:
        check(record_of(header_of()) + b"\0", cut=100)
    assert refusal.value.kind is Kind.TOO_LARGE


def test_a_liar_who_repairs_the_crc_is_still_refused() -> None:
    header = header_of()
    data = contents(header)
    trailer = pieces.sign_trailer(GATEWAY, header, [piece_root(piece) for piece in data])
    forged = bytearray(data[1])
    forged[0] ^= 1
    before = pieces.encode_header(header) + forged
    with pytest.raises(AtollError, match="root"):
        check(before + pieces.encode_trailer(header, trailer, pieces.crc32c(before)))


def test_a_liar_who_commits_to_other_roots_is_refused() -> None:
    """Roots that fit the data, under a segment root that was signed for others."""
    header = header_of()
    data = contents(header)
    honest = pieces.sign_trailer(GATEWAY, header, [piece_root(piece) for piece in data])
    forged = pieces.Trailer(
        (*honest.piece_roots[:3], bytes(32)),
        honest.segment_root,
        honest.signer_key,
        honest.signature,
    )
    before = pieces.encode_header(header) + data[1]
    with pytest.raises(AtollError, match="segment root"):
        check(before + pieces.encode_trailer(header, forged, pieces.crc32c(before)))


def test_a_damaged_tlv_area_is_told_from_the_header_alone() -> None:
    head = bytearray(pieces.encode_header(header_of()))
    head[100] ^= 1
    with pytest.raises(AtollError, match="TLV area's CRC"):
        pieces.parse_header(head)
    with pytest.raises(AtollError, match="ends within its TLV"):
        pieces.parse_header(head[:-1])


def test_a_forged_signature_is_refused_where_it_matters() -> None:
    header = header_of()
    trailer = pieces.sign_trailer(GATEWAY, header, [piece_root(d) for d in contents(header)])
    stolen = pieces.Trailer(
        trailer.piece_roots, trailer.segment_root, Identity(b"a" * 32).public_key, trailer.signature
    )
    pieces.check_trailer(header, stolen, signature=False)
    with pytest.raises(AtollError, match="signature"):
        pieces.check_trailer(header, stolen)


def test_the_record_of_another_piece_is_refused() -> None:
    with pytest.raises(AtollError, match="another"):
        check(record_of(header_of(index=2)), expected=header_of(index=1))


def resealed(fixed: bytearray) -> bytes:
    return bytes(fixed[:92]) + pieces.crc32c(fixed[:92]).to_bytes(4, "big")


def test_a_newer_version_says_so() -> None:
    fixed = bytearray(pieces.encode_header(header_of(tlvs=())))
    fixed[4] = 2
    with pytest.raises(AtollError) as refusal:
        pieces.parse_header(resealed(fixed))
    assert refusal.value.kind is Kind.NEWER_FORMAT


@pytest.mark.parametrize("place", [5, 9, 10, 11, 84, 87])
def test_reserved_bits_must_be_zero(place: int) -> None:
    fixed = bytearray(pieces.encode_header(header_of(tlvs=())))
    fixed[place] = 1
    with pytest.raises(AtollError, match="reserved"):
        pieces.parse_header(resealed(fixed))


@pytest.mark.parametrize("place", [6, 7, 13, 21, 30, 40, 60])
def test_contradictory_fields_are_refused_even_with_a_right_crc(place: int) -> None:
    fixed = bytearray(pieces.encode_header(header_of(tlvs=())))
    fixed[place] ^= 0x08
    with pytest.raises(AtollError) as refusal:
        pieces.parse_header(resealed(fixed))
    assert refusal.value.kind is Kind.CORRUPT


def test_an_oversized_tlv_area_is_refused_by_writer_and_reader() -> None:
    with pytest.raises(AtollError) as refusal:
        pieces.encode_header(header_of(tlvs=(Tlv(9, bytes(65 << 10)),)))
    assert refusal.value.kind is Kind.TOO_LARGE
    fixed = bytearray(pieces.encode_header(header_of(tlvs=())))
    fixed[80:84] = (1 << 20).to_bytes(4, "big")
    with pytest.raises(AtollError) as refusal:
        pieces.header_length(resealed(fixed))
    assert refusal.value.kind is Kind.TOO_LARGE


def test_a_tlv_that_reaches_beyond_its_area_is_refused() -> None:
    fixed = bytearray(pieces.encode_header(header_of(tlvs=())))
    for area in (b"\0\1\0\0\0\5abc", b"\0\1\0"):
        fixed[80:84] = len(area).to_bytes(4, "big")
        fixed[88:92] = pieces.crc32c(area).to_bytes(4, "big")
        with pytest.raises(AtollError) as refusal:
            pieces.parse_header(resealed(fixed) + area)
        assert refusal.value.kind is Kind.CORRUPT


def test_a_writer_cannot_write_impossible_fields() -> None:
    good = header_of()
    for bad in (
        Header(SEGMENT, 4, 2, 4, 1024, 5000, good.data_bytes, bytes(16)),
        Header(SEGMENT, 1, 2, 4, 1024, 5000, good.data_bytes + 1, bytes(16)),
        Header(SEGMENT, 1, 2, 4, 1024, 5000, good.data_bytes, b"short"),
        Header(SegmentId(b""), 1, 2, 4, 1024, 5000, good.data_bytes, bytes(16)),
        Header(SEGMENT, 1, 5, 4, 1024, 5000, good.data_bytes, bytes(16)),
    ):
        with pytest.raises(AtollError) as refusal:
            pieces.encode_header(bad)
        assert refusal.value.kind is Kind.BAD_REQUEST


@given(st.binary(max_size=400), st.integers(1, 400))
def test_made_up_bytes_are_refused(body: bytes, cut: int) -> None:
    for made_up in (body, pieces.MAGIC + body):
        with pytest.raises(AtollError) as refusal:
            check(made_up, cut)
        assert refusal.value.kind is Kind.CORRUPT


@given(st.binary(min_size=88, max_size=88), st.binary(max_size=400))
def test_made_up_headers_with_a_right_crc_are_refused_or_consistent(
    fields: bytes, rest: bytes
) -> None:
    head = resealed(bytearray(pieces.MAGIC + fields))
    with contextlib.suppress(AtollError):
        header = pieces.parse_header(head + rest)
        assert pieces.encode_header(header) == head + rest[: header.tlv_bytes]


def test_the_signature_covers_the_tlvs_but_not_the_retention_record() -> None:
    """Whoever repairs may bring a newer retention record, and change nothing else."""
    retention, tag = Tlv(pieces.TlvType.RETENTION, b"until"), Tlv(pieces.TlvType.BUCKET_TAG, b"tag")
    header = header_of(tlvs=(tag, retention))
    trailer = pieces.sign_trailer(GATEWAY, header, [piece_root(d) for d in contents(header)])
    for same in [(tag,), (Tlv(pieces.TlvType.RETENTION, b"later"), tag)]:
        pieces.check_trailer(header_of(tlvs=same), trailer)
    for other in [(), (Tlv(tag.type, b"tog"),), (Tlv(5, b"tag"),), (tag, tag)]:
        pieces.check_trailer(header_of(tlvs=other), trailer, signature=False)
        with pytest.raises(AtollError, match="signature"):
            pieces.check_trailer(header_of(tlvs=other), trailer)
