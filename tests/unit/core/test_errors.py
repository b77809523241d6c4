"""The errors table: complete, and with values that HTTP, S3 and a shell can use."""

import http

import pytest

from atoll.core import errors
from atoll.core.errors import AtollError, Kind, kind_named, meaning_of

CLIENT_CLOSED_REQUEST = 499
"""Not an IANA status; never sent, since there is nobody left to read it."""


def test_every_kind_has_a_meaning_and_nothing_else_has() -> None:
    assert set(errors._MEANINGS) == set(Kind)


@pytest.mark.parametrize("kind", Kind)
def test_a_meaning_is_usable(kind: Kind) -> None:
    meaning = meaning_of(kind)
    if meaning.http_status != CLIENT_CLOSED_REQUEST:
        assert 400 <= http.HTTPStatus(meaning.http_status) <= 599
    assert 1 <= meaning.exit_code <= 255
    assert meaning.s3_code == "" or meaning.s3_code.isalnum()


@pytest.mark.parametrize("kind", Kind)
def test_what_is_transient_is_no_fault_of_the_caller(kind: Kind) -> None:
    """A client retries 5xx and 409; a transient 4xx would never be tried again."""
    meaning = meaning_of(kind)
    if meaning.transient:
        assert meaning.http_status >= 500 or meaning.http_status == 409


@pytest.mark.parametrize("kind", Kind)
def test_kinds_cross_the_wire_by_name(kind: Kind) -> None:
    assert kind_named(kind.value) is kind
    assert kind.value == kind.name.lower()


def test_a_kind_of_a_newer_version_is_internal() -> None:
    assert kind_named("eaten_by_a_shark") is Kind.INTERNAL


def test_an_error_tells_where_what_and_what_to_do() -> None:
    error = AtollError(
        Kind.PORT_TAKEN, "start gateway", "the port is taken", hint="use --port", about="9000"
    )
    assert str(error) == "start gateway: the port is taken (9000) — use --port"
    assert error.meaning == meaning_of(Kind.PORT_TAKEN)
    assert str(AtollError(Kind.INTERNAL, "sum", "wrong")) == "sum: wrong"
