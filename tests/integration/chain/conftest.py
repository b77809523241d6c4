"""A real anvil, a database and keys; everything dies in these tests but what must not."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.fixtures.chain import LocalChain, new_folder, open_chain, open_database, start_anvil

from atoll.economy.chain.rpc import RpcChain
from atoll.economy.chain.signer import Signer
from atoll.runtime.database import SqlDatabase


@pytest.fixture
def folder() -> Iterator[Path]:
    found = new_folder()
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture
def server(folder: Path) -> Iterator[LocalChain]:
    running = start_anvil(folder, state_interval_s=1)
    yield running
    running.kill()


@pytest.fixture
async def chain(server: LocalChain) -> AsyncIterator[RpcChain]:
    opened = await open_chain(server.url)
    yield opened
    await opened.close()


@pytest.fixture
async def money(folder: Path) -> AsyncIterator[SqlDatabase]:
    opened = open_database(folder)
    yield opened
    await opened.close()


@pytest.fixture
def operator() -> Signer:
    return Signer.derived(b"o" * 32, "operator")


@pytest.fixture
def deployer() -> Signer:
    return Signer.derived(b"o" * 32, "deployer")
