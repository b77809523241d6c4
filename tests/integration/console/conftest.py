"""A small ephemeral cloud and a real browser."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll.cli.local_cloud import LocalCloud

CHROMIUM = Path("/usr/bin/chromium")
LAUNCHES_MAX = 3


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud("--ephemeral", "--nodes", "6", "--port", "0") as running:
        s3 = running.boto3_client()
        s3.create_bucket(Bucket="attic")
        for number in range(8):
            s3.put_object(Bucket="attic", Key=f"object-{number}", Body=os.urandom(300_000))
        yield running


class Browsers:
    """One browser for a module, started anew when its process has died meanwhile."""

    def __init__(self, play: Any) -> None:
        self._play = play
        self._running: Any = None
        self._left = LAUNCHES_MAX

    def get(self) -> Any:
        if self._running is None or not self._running.is_connected():
            assert self._left, f"the browser died {LAUNCHES_MAX} times"
            self._left -= 1
            self._running = self._play.chromium.launch(
                executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
        return self._running

    def close(self) -> None:
        if self._running is not None:
            self._running.close()


@pytest.fixture(scope="module")
def browsers(cloud: LocalCloud) -> Iterator[Browsers]:
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip(f"there is no {CHROMIUM}: apt install chromium")
    from playwright.sync_api import sync_playwright

    # Module scope: the browser driver keeps a running loop, under which no other async test could.
    with sync_playwright() as play:
        running = Browsers(play)
        yield running
        running.close()


@pytest.fixture
def browser(browsers: Browsers) -> Any:
    return browsers.get()
