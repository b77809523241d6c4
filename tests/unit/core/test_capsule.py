"""What a piece tells its owner: tags that only he can undo, capsules that only he opens."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.capsule import (
    CAPSULE_BYTES_MAX,
    FIRST_MONTH,
    Capsule,
    Description,
    TagFamily,
    bucket_of_tag,
    month_of,
    months_until,
    open_capsule,
    owner_hash_of,
    seal_capsule,
    tag_of,
)
from atoll.core.errors import AtollError, Kind

KEY = b"k" * 32
SEGMENT = b"s" * 16
BUCKET = b"b" * 16
CAPSULE = Capsule(1, 0, 1_780_000_000_000, b"w" * 48, 0, 5, "photos/a.jpg")


@given(st.binary(min_size=16, max_size=16), st.sampled_from(TagFamily), st.integers(0, 3000))
def test_only_the_right_key_family_and_month_undo_a_tag(
    bucket: bytes, family: TagFamily, month: int
) -> None:
    tag = tag_of(KEY, family, bucket, month)
    assert bucket_of_tag(KEY, family, tag, month) == bucket
    assert bucket_of_tag(b"o" * 32, family, tag, month) != bucket
    assert bucket_of_tag(KEY, family, tag, month + 1) != bucket
    for other in TagFamily:
        if other is not family:
            assert bucket_of_tag(KEY, other, tag, month) != bucket


def test_months_go_back_to_the_first() -> None:
    assert month_of(0) == 197001
    assert month_of(1_798_761_599_999) == 202612
    assert month_of(1_798_761_600_000) == 202701
    months = list(months_until(202702))
    assert months[:3] == [202702, 202701, 202612]
    assert months[-1] == FIRST_MONTH
    assert len(months) == 14
    assert list(months_until(FIRST_MONTH - 1)) == []


def test_a_capsule_opens_for_its_segment_and_key_alone() -> None:
    sealed = seal_capsule(KEY, SEGMENT, CAPSULE)
    assert open_capsule(KEY, SEGMENT, sealed) == CAPSULE
    for key, segment, body in [
        (b"o" * 32, SEGMENT, sealed),
        (KEY, b"t" * 16, sealed),
        (KEY, SEGMENT, sealed[:-1]),
        (KEY, SEGMENT, b""),
    ]:
        with pytest.raises(AtollError) as refused:
            open_capsule(key, segment, body)
        assert refused.value.kind is Kind.CORRUPT


def test_a_later_version_is_told_from_damage() -> None:
    later = msgspec.structs.replace(CAPSULE, version=2)
    with pytest.raises(AtollError) as refused:
        open_capsule(KEY, SEGMENT, seal_capsule(KEY, SEGMENT, later))
    assert refused.value.kind is Kind.NEWER_FORMAT


def test_a_capsule_stays_small() -> None:
    """A tiny object has four copies of its capsule."""
    assert len(seal_capsule(KEY, SEGMENT, CAPSULE)) <= 110
    described = msgspec.structs.replace(
        CAPSULE, description=Description("text/plain", {}, {"colour": "red"})
    )
    assert open_capsule(KEY, SEGMENT, seal_capsule(KEY, SEGMENT, described)) == described
    verbose = msgspec.structs.replace(
        CAPSULE, description=Description(user_metadata={"long": "x" * CAPSULE_BYTES_MAX})
    )
    assert open_capsule(KEY, SEGMENT, seal_capsule(KEY, SEGMENT, verbose)) == CAPSULE
    with pytest.raises(AtollError) as refused:
        seal_capsule(KEY, SEGMENT, msgspec.structs.replace(CAPSULE, name="x" * 5000))
    assert refused.value.kind is Kind.TOO_LARGE


def test_owner_hashes_are_of_keys() -> None:
    assert len(owner_hash_of(b"p" * 32)) == 32
    with pytest.raises(ValueError, match="32 bytes"):
        owner_hash_of(b"p" * 31)
