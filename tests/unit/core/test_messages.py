"""Messages: each one survives the wire, answers are complete, anything else is refused."""

import types
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import messages
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import ANSWERS, Message, decode, encode

REQUESTS = [
    *typing.get_args(messages.NodeRequest),
    *typing.get_args(messages.ControlRequest),
]
FAMILIES = typing.cast("list[type[Message]]", Message.__subclasses__())


def values_of(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of a field's type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return st.lists(values_of(inner[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values_of(inner[0]), values_of(inner[1]), max_size=3)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values_of(one) for one in inner])
    if origin is tuple:
        return st.tuples(*(values_of(one) for one in inner))
    plain: dict[typing.Any, st.SearchStrategy[typing.Any]] = {
        bool: st.booleans(),
        type(None): st.none(),
        float: st.floats(allow_nan=False),
        bytes: st.binary(max_size=40),
        int: st.integers(-(1 << 63), (1 << 64) - 1),
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    }
    return plain[kind] if kind in plain else messages_of(kind)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    hints = typing.get_type_hints(kind)
    fields = {field.name: values_of(hints[field.name]) for field in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", FAMILIES, ids=lambda kind: kind.__name__)
def test_every_message_survives_the_wire(kind: type[Message]) -> None:
    @given(messages_of(kind))
    def survives(message: Message) -> None:
        assert decode(encode(message), kind) == message

    survives()


def test_every_request_has_an_answer_and_nothing_else_has() -> None:
    assert set(ANSWERS) == set(REQUESTS)
    assert len(set(REQUESTS)) == len(REQUESTS)
    assert set(ANSWERS.values()) <= set(FAMILIES)


@given(st.sampled_from(REQUESTS), st.data())
def test_a_request_is_told_from_the_others_of_its_family(
    kind: type[Message], draw: st.DataObject
) -> None:
    message = draw.draw(messages_of(kind))
    for family in (messages.NodeRequest, messages.ControlRequest):
        if kind in typing.get_args(family):
            assert type(decode(encode(message), family)) is kind
        else:
            with pytest.raises(AtollError) as refusal:
                decode(encode(message), family)
            assert refusal.value.kind is Kind.BAD_REQUEST


@given(st.binary(max_size=200))
def test_made_up_bytes_are_a_bad_request(body: bytes) -> None:
    with pytest.raises(AtollError) as refusal:
        decode(body, messages.ControlRequest)
    assert refusal.value.kind is Kind.BAD_REQUEST


def test_a_message_cut_anywhere_is_a_bad_request() -> None:
    body = encode(messages.OrderSegment(bucket=b"b" * 16, plain_bytes=1, gateway_key=bytes(32)))
    for length in range(len(body)):
        with pytest.raises(AtollError) as refusal:
            decode(body[:length], messages.ControlRequest)
        assert refusal.value.kind is Kind.BAD_REQUEST


def test_fields_of_a_newer_version_are_ignored() -> None:
    body = msgspec.msgpack.encode({"type": "GetBucket", "name": "photos", "colour": "blue"})
    assert decode(body, messages.ControlRequest) == messages.GetBucket(name="photos")


def test_a_missing_or_mistyped_field_is_a_bad_request() -> None:
    for fields in ({"type": "GetBucket"}, {"type": "GetBucket", "name": 7}, {"type": "Nonsense"}):
        with pytest.raises(AtollError) as refusal:
            decode(msgspec.msgpack.encode(fields), messages.ControlRequest)
        assert refusal.value.kind is Kind.BAD_REQUEST


@pytest.mark.parametrize("kind", Kind)
def test_an_error_survives_the_wire(kind: Kind) -> None:
    error = AtollError(kind, "put piece", "no room", hint="free some", about="n-01")
    back = decode(encode(messages.failure_of(error)), messages.Failure).to_error()
    assert (back.kind, str(back)) == (kind, str(error))
