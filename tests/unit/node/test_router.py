"""Asking a router for a port: right answers are taken, others are not believed."""

import asyncio
import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core import port_mapping
from atoll.core.errors import AtollError, Kind
from atoll.node.reach import MappedPort
from atoll.node.router import RouterMapper
from atoll.runtime.lan import default_router
from atoll.runtime.rng import SystemRng

ROUTER, OWN, PORT, PUBLIC = "192.168.1.1", "192.168.1.20", 9003, "8.8.4.4"
DESCRIPTION = """<?xml version="1.0"?><root><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<controlURL>/wrong</controlURL></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>/ctl/IPConn</controlURL></service></serviceList></device></root>"""


class Router:
    """A home router that speaks some of the three protocols."""

    def __init__(self, speaks: str, public: str = PUBLIC, location: str = ROUTER) -> None:
        self.speaks = speaks
        self.public = public
        self.location = location
        self.calls: list[str] = []

    def router(self) -> tuple[str, str] | None:
        return (ROUTER, OWN) if self.speaks else None

    async def ask(self, host: str, port: int, question: bytes, timeout_s: float) -> bytes:
        packed = bytes(map(int, self.public.split(".")))
        if port == 1900 and self.speaks == "upnp":
            return (
                f"HTTP/1.1 200 OK\r\nLOCATION: http://{self.location}:5000/d.xml\r\n\r\n".encode()
            )
        if host != ROUTER or port != port_mapping.PCP_PORT:
            raise AtollError(Kind.TIMEOUT, "ask", "silence")
        if question[0] == 2 and self.speaks == "pcp":
            body = question[24:36] + question[36:40] + struct.pack(">HH", PORT, 40_000)
            head = struct.pack(">BBBBII12x", 2, 0x81, 0, 0, 600, 1)
            return head + body + bytes(10) + b"\xff\xff" + packed
        if question[0] == 0 and self.speaks == "pmp":
            if question == port_mapping.PMP_ADDRESS_REQUEST:
                return struct.pack(">BBHI4s", 0, 128, 0, 1, packed)
            return struct.pack(">BBHIHHI", 0, 130, 0, 1, PORT, 40_000, 600)
        raise AtollError(Kind.TIMEOUT, "ask", "silence")

    async def http(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        self.calls.append(f"{method} {url}")
        if url.endswith("d.xml"):
            return 200, DESCRIPTION.encode()
        if b"AddPortMapping" in body:
            assert OWN.encode() in body
            return 200, b"<ok/>"
        return 200, f"<NewExternalIPAddress>{self.public}</NewExternalIPAddress>".encode()


def mapped(router: Router) -> MappedPort | None:
    return asyncio.run(RouterMapper(router, SystemRng()).map_port(PORT))


@pytest.mark.parametrize(("speaks", "port"), [("pcp", 40_000), ("pmp", 40_000), ("upnp", PORT)])
def test_a_router_that_passes_a_port_on_is_used(speaks: str, port: int) -> None:
    assert mapped(Router(speaks)) == MappedPort(PUBLIC, port)


def test_upnp_talks_to_the_right_service_on_the_router() -> None:
    router = Router("upnp")
    assert mapped(router) is not None
    assert router.calls[1] == f"POST http://{ROUTER}:5000/ctl/IPConn"


@pytest.mark.parametrize("speaks", ["pcp", "pmp", "upnp"])
def test_a_router_behind_a_router_is_of_no_use(speaks: str) -> None:
    assert mapped(Router(speaks, public="100.64.3.9")) is None


def test_a_device_that_points_elsewhere_is_not_followed() -> None:
    router = Router("upnp", location="203.0.113.9")
    assert mapped(router) is None
    assert not router.calls


def test_without_a_router_nothing_is_asked() -> None:
    assert mapped(Router("")) is None


@given(st.binary(max_size=80))
def test_nonsense_is_refused_by_kind(answer: bytes) -> None:
    for call in (
        lambda: port_mapping.parse_pcp(answer, PORT, bytes(12)),
        lambda: port_mapping.parse_pmp(answer, answer, PORT),
        lambda: port_mapping.parse_ssdp(answer, ROUTER),
        lambda: port_mapping.parse_description(answer, f"http://{ROUTER}/", ROUTER),
        lambda: port_mapping.parse_external_host(answer),
    ):
        with pytest.raises(AtollError) as refused:
            call()
        assert refused.value.kind is Kind.BAD_REQUEST


def test_the_default_route_names_the_router(tmp_path: object) -> None:
    table = tmp_path / "route"  # type: ignore[operator]
    table.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
    )
    assert default_router(table) == ROUTER
    assert default_router(table.with_name("none")) is None
