"""A small ephemeral cloud and a real browser."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll.cli.local_cloud import LocalCloud

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud("--ephemeral", "--nodes", "6", "--port", "0") as running:
        s3 = running.boto3_client()
        s3.create_bucket(Bucket="attic")
        for number in range(8):
            s3.put_object(Bucket="attic", Key=f"object-{number}", Body=os.urandom(300_000))
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip(f"there is no {CHROMIUM}: apt install chromium")
    from playwright.sync_api import sync_playwright

    # Module scope: the browser driver keeps a running loop, under which no other async test could.
    with sync_playwright() as play:
        chromium = play.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()
