"""Asks the router for a port: PCP, NAT-PMP, UPnP, in this order, each for two seconds at most."""

import logging
from collections.abc import Awaitable, Callable

from atoll.core.errors import AtollError, Kind
from atoll.core.port_mapping import (
    NONCE_BYTES,
    PCP_PORT,
    PMP_ADDRESS_REQUEST,
    SSDP_GROUP,
    SSDP_PORT,
    Mapping,
    add_mapping_fields,
    parse_description,
    parse_external_host,
    parse_pcp,
    parse_pmp,
    parse_ssdp,
    pcp_request,
    pmp_request,
    soap_request,
    ssdp_request,
)
from atoll.core.ports import Lan, Rng
from atoll.node.reach import MappedPort, PortMapper

_LOG = logging.getLogger(__name__)
ASK_S_MAX = 2.0


class RouterMapper(PortMapper):
    """Speaks to the router of the local network; nothing is asked beyond it."""

    def __init__(self, lan: Lan, rng: Rng, pcp_port: int = PCP_PORT) -> None:
        """``pcp_port`` is where routers listen for PCP and NAT-PMP."""
        self._lan = lan
        self._rng = rng
        self._pcp_port = pcp_port

    async def map_port(self, port: int) -> MappedPort | None:
        """Have the router pass a port on; None where none does."""
        place = self._lan.router()
        if place is None:
            return None
        router, own = place
        ways: tuple[tuple[str, Callable[[str, str, int], Awaitable[Mapping]]], ...] = (
            ("PCP", self._by_pcp),
            ("NAT-PMP", self._by_pmp),
            ("UPnP", self._by_upnp),
        )
        for name, way in ways:
            try:
                found = await way(router, own, port)
            except AtollError as cause:
                _LOG.info("%s: %s", name, cause.message)
                continue
            _LOG.info("%s: the router passes %s:%d on to here", name, found.host, found.port)
            return MappedPort(found.host, found.port)
        return None

    async def _udp(self, host: str, port: int, question: bytes) -> bytes:
        return await self._lan.ask(host, port, question, ASK_S_MAX)

    async def _by_pcp(self, router: str, own: str, port: int) -> Mapping:
        nonce = self._rng.bytes(NONCE_BYTES)
        answer = await self._udp(router, self._pcp_port, pcp_request(own, port, nonce))
        return parse_pcp(answer, port, nonce)

    async def _by_pmp(self, router: str, _: str, port: int) -> Mapping:
        address = await self._udp(router, self._pcp_port, PMP_ADDRESS_REQUEST)
        mapped = await self._udp(router, self._pcp_port, pmp_request(port))
        return parse_pmp(address, mapped, port)

    async def _by_upnp(self, router: str, own: str, port: int) -> Mapping:
        found = await self._udp(SSDP_GROUP, SSDP_PORT, ssdp_request())
        url = parse_ssdp(found, router)
        status, described = await self._lan.http("GET", url, {}, b"", ASK_S_MAX)
        if status != 200:
            raise AtollError(Kind.BAD_REQUEST, "ask router", "UPnP: the device tells nothing")
        service, control = parse_description(described, url, router)
        headers, body = soap_request(service, "AddPortMapping", add_mapping_fields(own, port))
        status, _said = await self._lan.http("POST", control, headers, body, ASK_S_MAX)
        if status != 200:
            raise AtollError(Kind.BAD_REQUEST, "ask router", f"UPnP: it refuses ({status})")
        headers, body = soap_request(service, "GetExternalIPAddress", {})
        _status, told = await self._lan.http("POST", control, headers, body, ASK_S_MAX)
        return Mapping(parse_external_host(told), port, 0)
