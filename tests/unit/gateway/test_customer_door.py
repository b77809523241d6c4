"""Questions beyond S3, signed like S3, over real HTTP."""

import urllib.error
import urllib.request

import pytest
from tests.unit.gateway.world import ACCESS, SECRET

from atoll.client import AsyncClient
from atoll.core.errors import AtollError, Kind


async def test_a_customer_is_told_who_he_is(endpoint: str) -> None:
    async with AsyncClient(endpoint, ACCESS, SECRET, "us-east-1") as client:
        said = await client.ask("whoami")
    assert said["access_key"] == ACCESS
    assert len(bytes.fromhex(said["account"])) == 16


async def test_failures_keep_their_kind(endpoint: str) -> None:
    async with AsyncClient(endpoint, ACCESS, SECRET, "us-east-1") as client:
        with pytest.raises(AtollError) as caught:
            await client.ask("no-such-operation")
    assert caught.value.kind is Kind.NOT_FOUND
    async with AsyncClient(endpoint, ACCESS, "not the secret", "us-east-1") as attacker:
        with pytest.raises(AtollError) as caught:
            await attacker.ask("whoami")
    assert caught.value.kind in (Kind.FORBIDDEN, Kind.UNAUTHENTICATED)


async def test_nothing_is_answered_unsigned(endpoint: str) -> None:
    import asyncio

    request = urllib.request.Request(f"{endpoint}/.atoll/v1/whoami", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.to_thread(urllib.request.urlopen, request)
    assert caught.value.code == 403
