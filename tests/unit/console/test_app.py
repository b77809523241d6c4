"""The live page's app: what it shows, and whom it lets in."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from tests.unit.console.test_rules import a_node, a_status

from atoll.console.app import About, Console
from atoll.console.feed import VIEWERS_MAX, StatusFeed
from atoll.core.errors import AtollError, Kind
from atoll.core.messages import CloudStatus
from atoll.core.messages.payouts import AllEarnings
from atoll.runtime.clock import SystemClock


class Coordinator:
    """Answers with a fixed status: the page is what is tested here."""

    def __init__(self) -> None:
        self.status = a_status()
        self.earnings: AllEarnings | None = None

    async def ask(self, request: Any, answer: Any) -> Any:
        if answer is AllEarnings:
            if self.earnings is None:
                raise AtollError(Kind.NOT_IMPLEMENTED, "ask coordinator", "no answer to that")
            return self.earnings
        assert answer is CloudStatus
        return self.status


@dataclass
class Drill:
    orders: list[tuple[str, str]] = field(default_factory=list)

    async def kill(self, address: str) -> None:
        if address != "127.0.3.1:9003":
            raise AtollError(Kind.NOT_FOUND, "kill node", "there is no such node")
        self.orders.append(("kill", address))

    async def start(self, address: str) -> None:
        self.orders.append(("start", address))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Page:
    def __init__(self, drill: Drill | None) -> None:
        self.coordinator = Coordinator()
        self.feed = StatusFeed(self.coordinator, SystemClock())
        self.drill = drill
        self.app = Console(self.feed, About("1.2.3", "http://127.0.0.1:9000"), "secret", drill).app

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        host: str = "127.0.0.1:9002",
        **headers: str,
    ) -> Answer:
        sent: list[Any] = []
        names = {"host": host, "content-length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in names.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 9002),
            "state": {},
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        await self.app(scope, receive, send)
        start = sent[0]
        got = {k.decode(): v.decode() for k, v in start["headers"]}
        return Answer(start["status"], got, b"".join(e.get("body", b"") for e in sent[1:]))


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    page = Page(Drill())
    yield page
    await page.feed.stop()


async def test_the_page_says_what_may_die_and_warns_of_one_machine(page: Page) -> None:
    answer = await page.ask("GET", "/")
    text = answer.body.decode()
    assert answer.status == 200
    assert "Any 4 of 12 nodes may die now; the 5th would take 3 objects" in text
    assert "One machine:" in text
    assert "default-src &#39;none&#39;" not in text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


async def test_what_nodes_say_about_themselves_is_never_markup(page: Page) -> None:
    evil = msgspec.structs.replace(a_node(1), operator="<script>alert(1)</script>")
    page.coordinator.status = a_status(nodes=[evil])
    text = (await page.ask("GET", "/")).body.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("host", ["localhost:9002", "127.0.0.1", "[::1]:9002", "LOCALHOST:1"])
async def test_loopback_names_are_let_in(page: Page, host: str) -> None:
    assert (await page.ask("GET", "/status.json", host=host)).status == 200


@pytest.mark.parametrize("host", ["attacker.example:9002", "", "127.0.0.1.example", "10.0.0.1"])
async def test_other_names_are_refused(page: Page, host: str) -> None:
    answer = await page.ask("GET", "/", host=host)
    assert answer.status == 421
    assert b"nodes" not in answer.body


async def test_status_json_is_the_whole_status(page: Page) -> None:
    facts = json.loads((await page.ask("GET", "/status.json")).body)
    assert facts["survival"]["any_nodes"] == 4
    assert len(facts["nodes"]) == 12


async def test_the_button_reaches_the_drill(page: Page) -> None:
    body = b'{"address":"127.0.3.1:9003"}'
    answer = await page.ask("POST", "/nodes/kill", body, x_atoll_token="secret")
    assert answer.status == 200
    assert page.drill is not None
    assert page.drill.orders == [("kill", "127.0.3.1:9003")]
    unknown = await page.ask("POST", "/nodes/kill", b'{"address":"x"}', x_atoll_token="secret")
    assert unknown.status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_atoll_token": "wrong"},
        {"x_atoll_token": ""},
        {"x_atoll_token": "secret", "origin": "http://attacker.example"},
        {"x_atoll_token": "secret", "origin": "null"},
    ],
)
async def test_an_order_from_elsewhere_is_refused(page: Page, headers: dict[str, str]) -> None:
    answer = await page.ask("POST", "/nodes/kill", b'{"address":"127.0.3.1:9003"}', **headers)
    assert answer.status in (403, 421)
    assert page.drill is not None
    assert not page.drill.orders


@pytest.mark.parametrize("body", [b"", b"[]", b'{"address":1}', b"x" * 9000])
async def test_a_malformed_order_is_refused(page: Page, body: bytes) -> None:
    answer = await page.ask("POST", "/nodes/kill", body, x_atoll_token="secret")
    assert 400 <= answer.status < 500


async def test_without_a_drill_nothing_can_be_killed() -> None:
    page = Page(None)
    assert b"data-order" not in (await page.ask("GET", "/")).body
    order = await page.ask("POST", "/nodes/kill", b'{"address":"a"}', x_atoll_token="")
    assert order.status == 403


@pytest.mark.parametrize("name", ["page.css", "page.js", "mark.svg"])
async def test_assets_come_from_the_package(page: Page, name: str) -> None:
    answer = await page.ask("GET", f"/static/{name}")
    assert answer.status == 200
    assert answer.body
    assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "nothing.css"])
async def test_no_other_file_is_served(page: Page, name: str) -> None:
    assert (await page.ask("GET", f"/static/{name}")).status == 404


async def test_viewers_share_one_feed_and_have_a_limit(page: Page) -> None:
    watches = [page.feed.watch() for _ in range(VIEWERS_MAX)]
    views = await asyncio.gather(*(anext(watch) for watch in watches))
    assert len({id(view) for view in views}) == 1
    with pytest.raises(AtollError) as refused:
        await anext(page.feed.watch())
    assert refused.value.kind is Kind.OVERLOADED
    await page.feed.stop()
    assert [await anext(watch, None) for watch in watches] == [None] * VIEWERS_MAX
