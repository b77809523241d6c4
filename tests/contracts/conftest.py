"""Each test of the contracts has the chain for itself, and all run in one worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.world import isolated, new_chain


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One worker imports the EVM; it takes seconds.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("contracts"))


@pytest.fixture(autouse=True)
def _chain() -> Iterator[None]:
    with isolated():
        yield


@pytest.fixture
def gas_chain() -> Iterator[None]:
    """Give the test a chain on which each call can be a transaction of its own."""
    with new_chain():
        yield
