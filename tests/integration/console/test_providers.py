"""Providers' public pages in a real browser, and `atoll node health` beside them."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.console.test_page import _CONTRAST, WAIT_MS

from atoll.cli.local_cloud import LocalCloud

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
PROOFS_S_MAX = 120.0


def atoll(*words: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "atoll", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    faults: list[str] = []
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    yield page
    context.close()
    assert not faults, "nothing is refused by the pages' own policy"


def test_the_live_page_leads_to_each_providers_page(cloud: LocalCloud, page: Any) -> None:
    page.goto(str(cloud.facts["page"]))
    page.wait_for_selector("#rows tr")
    assert "vetted" in page.inner_text("#rows")
    page.click("#rows a.name >> nth=0")
    page.wait_for_selector(".hero h1")
    assert page.url.startswith(f"{cloud.facts['coordinator']}/providers/")
    assert "Possession" in page.inner_text("main")
    page.click("text=All providers")
    page.wait_for_selector("tbody tr")
    assert page.locator("tbody tr").count() == 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1280])
def test_the_pages_fit_and_read_well(
    cloud: LocalCloud, page: Any, width: int, scheme: str, tmp_path: Path
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    listed = json.loads(fetched(f"{cloud.facts['coordinator']}/v1/providers"))
    node_id = listed["nodes"][0]["node_id"]
    for path in ("/providers", f"/providers/{node_id}"):
        page.goto(f"{cloud.facts['coordinator']}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(_CONTRAST) == []


def test_health_for_the_provider_and_for_the_clouds_owner(cloud: LocalCloud) -> None:
    folder = Path(str(cloud.facts["data"]))
    listing = atoll("node", "health", "--all", "--data", folder, "--json")
    assert {node["standing"] for node in listing["nodes"]} == {"vetted"}
    own = atoll("node", "health", "--data", folder / "nodes" / "1", "--json")
    named = atoll("node", "health", own["operator"], "--data", folder, "--json")
    assert own["node_id"] == named["node_id"]
    axes = {axis["axis"]: axis for axis in own["axes"]}
    assert {"possession", "answers", "availability", "retrieval", "capacity", "speed"} <= set(axes)
    assert all(axis["rule"] and axis["threshold"] for axis in axes.values())
    text = atoll("node", "health", "--data", folder / "nodes" / "1")
    assert "\x1b" not in text  # plain where nobody looks at a terminal
    assert "threshold +13.81" in text


def test_proofs_reach_the_standing(cloud: LocalCloud) -> None:
    url = f"{cloud.facts['coordinator']}/v1/providers"
    until = time.monotonic() + PROOFS_S_MAX
    while time.monotonic() < until:
        nodes = json.loads(fetched(url))["nodes"]
        if all(node["samples_passed"] for node in nodes):
            break
        time.sleep(1)
    assert all(node["samples_passed"] and node["possession"] < 0 for node in nodes)
    assert not any(node["samples_failed"] for node in nodes)


def test_strangers_learn_nothing_but_providers(cloud: LocalCloud) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(f"{cloud.facts['coordinator']}/providers/{'0' * 64}")
    assert caught.value.code == 404
    body = fetched(f"{cloud.facts['coordinator']}/v1/providers").decode()
    assert "127.0." not in body
