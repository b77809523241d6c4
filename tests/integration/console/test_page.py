"""The live page in a real browser, over a real cloud."""

import http.client
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from atoll.cli.local_cloud import LocalCloud

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
WAIT_MS = 40_000
CONTRAST_MIN = 4.5
_CONTRAST = """
() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const curve = (v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const channel = (v) => curve(v / 255);
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(".hidden, .skip, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < MIN) poor.push(`${e.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}
""".replace("MIN", str(CONTRAST_MIN))

Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, cloud: LocalCloud) -> Any:
    contexts: list[Any] = []
    faults: list[str] = []

    def opened(width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on(
            "request",
            lambda r: faults.append(r.url) if not r.url.startswith(cloud.facts["page"]) else None,
        )
        page.goto(str(cloud.facts["page"]))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults, "no script error, no refused resource, nothing asked for outside"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (820, 1100), (1280, 900)])
def test_the_page_fits_and_reads_well(
    open_page: Open, width: int, height: int, scheme: str, tmp_path: Path
) -> None:
    page = open_page(width, height, scheme)
    page.wait_for_selector("#rows tr")
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(_CONTRAST) == []
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("h1").count() == 1
    names = page.evaluate(
        "[...document.querySelectorAll('button, a, img, svg[role=img]')].map("
        "e => e.getAttribute('aria-label') || e.textContent.trim() || e.getAttribute('alt'))"
    )
    assert all(name is not None for name in names)
    assert page.screenshot(path=str(tmp_path / "page.png"), full_page=True)


def test_it_says_what_the_cloud_says(open_page: Open, cloud: LocalCloud) -> None:
    page = open_page()
    assert page.locator("#rows tr").count() == 6
    assert "may die now" in page.inner_text("#headline")
    assert "no protection against its loss" in page.inner_text("#warning")
    assert cloud.endpoint in page.inner_text(".endpoint")
    assert page.locator("#facts").get_by_text("8", exact=True).count() >= 1


def test_it_stays_live(open_page: Open) -> None:
    page = open_page()
    first = page.inner_text("#time")
    page.wait_for_function("t => document.getElementById('time').innerText !== t", arg=first)
    assert page.inner_text("#live-word") == "live"
    points = "document.querySelector('.chart .put').getAttribute('points').split(' ').length"
    page.wait_for_function(f"{points} >= 3")


def test_euros_grow_between_two_words_of_the_coordinator(open_page: Open) -> None:
    page = open_page()
    page.wait_for_selector("#earned [data-pico]")
    # A euro a second, from now until the next fragment: nothing else is this fast.
    grown = page.evaluate(
        """() => new Promise((tell) => {
          const one = document.querySelector("#earned [data-pico]");
          const before = Number(one.textContent.replace(/,/g, ""));
          one.dataset.rate = "1000000000000";
          const look = () => {
            const now = Number(one.textContent.replace(/,/g, ""));
            if (now > before) tell(now - before); else setTimeout(look, 20);
          };
          look();
        })"""
    )
    assert 0 < grown < 10


def test_the_button_kills_a_node_and_starts_it_again(open_page: Open, cloud: LocalCloud) -> None:
    page = open_page()
    row = page.locator("#rows tr").nth(2)
    assert "operator-3" in row.inner_text()
    before = len(cloud.processes("node"))
    row.get_by_role("button", name=re.compile("Kill node")).click()
    row.locator(".state.suspect, .state.dead").wait_for()
    assert len(cloud.processes("node")) == before - 1
    row.locator(".state.dead").wait_for()
    assert page.locator(".reef .dead").count() == 1
    assert "5 of 6" in page.inner_text("#facts")
    row.get_by_role("button", name=re.compile("Start node")).click()
    row.locator(".state.alive").wait_for()
    assert len(cloud.processes("node")) == before


def _ask(cloud: LocalCloud, method: str, path: str, **headers: str) -> int:
    place = urlsplit(str(cloud.facts["page"]))
    line = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
    line.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        line.putheader(name.replace("_", "-"), value)
    if method == "POST":
        line.putheader("content-length", "2")
    line.endheaders(b"{}" if method == "POST" else None)
    status = line.getresponse().status
    line.close()
    return status


def test_a_rebound_name_and_a_foreign_page_get_nothing(cloud: LocalCloud) -> None:
    assert _ask(cloud, "GET", "/") == 200
    assert _ask(cloud, "GET", "/", Host="attacker.example") == 421
    assert _ask(cloud, "GET", "/status.json", Host="attacker.example:9002") == 421
    assert _ask(cloud, "POST", "/nodes/kill") == 403
    assert _ask(cloud, "POST", "/nodes/kill", Origin="http://attacker.example") == 421
