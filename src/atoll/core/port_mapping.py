"""How a router is asked to pass a port on: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP IGD.

The pure part: what is sent and what the answers say. Routers are not trusted: an answer is only a
proposal, which a coordinator tries before anybody relies on it.
"""

import ipaddress
import re
import struct
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from xml.sax.saxutils import escape

from atoll.core.errors import AtollError, Kind

PCP_PORT = 5351
SSDP_GROUP, SSDP_PORT = "239.255.255.250", 1900
LEASE_S = 3600
ANSWER_BYTES_MAX = 64 << 10
NONCE_BYTES = 12
TCP = 6
_PCP_MAP = struct.Struct(">BBHI16s12sB3xHH16s")
_PMP_MAP = struct.Struct(">BBHHHI")
_PMP_MAPPED = struct.Struct(">BBHIHHI")
_PMP_ADDRESS = struct.Struct(">BBHI4s")
_SERVICES = ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
_SERVICE_PREFIX = "urn:schemas-upnp-org:service:"


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a router says it passes on."""

    host: str
    port: int
    lease_s: int


def _bad(message: str) -> AtollError:
    return AtollError(Kind.BAD_REQUEST, "ask router", message)


def _public(host: str) -> str:
    """Return an address that others may reach. Raises ``BAD_REQUEST`` for any other."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise _bad("the router states no address") from None
    if not address.is_global:
        raise _bad(f"the router's own address {host} is not public: it stands behind another one")
    return host


# --- PCP -----------------------------------------------------------------------------------------


def _mapped_v4(host: str) -> bytes:
    return bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(host).packed


def pcp_request(own_host: str, port: int, nonce: bytes) -> bytes:
    """Return a MAP request for a TCP port, the same outside if it is free."""
    any_v4 = _mapped_v4("0.0.0.0")  # noqa: S104 - a field of the request, nothing is bound
    return _PCP_MAP.pack(2, 1, 0, LEASE_S, _mapped_v4(own_host), nonce, TCP, port, port, any_v4)


def parse_pcp(answer: bytes, port: int, nonce: bytes) -> Mapping:
    """Read the answer to a MAP request. Raises ``BAD_REQUEST``."""
    if len(answer) < _PCP_MAP.size or answer[0] != 2 or answer[1] != 0x81:
        raise _bad("this is no answer of PCP")
    if answer[3]:
        raise _bad(f"PCP: the router refuses (result {answer[3]})")
    (lease_s,) = struct.unpack_from(">I", answer, 4)
    said_nonce, protocol, inner, outer, host = struct.unpack_from(">12sB3xHH16s", answer, 24)
    if (said_nonce, protocol, inner) != (nonce, TCP, port):
        raise _bad("PCP: the answer is to another request")
    address = ipaddress.IPv6Address(host)
    shown = str(address.ipv4_mapped or address)
    return Mapping(_public(shown), outer, min(lease_s, LEASE_S))


# --- NAT-PMP -------------------------------------------------------------------------------------

PMP_ADDRESS_REQUEST = b"\0\0"


def pmp_request(port: int) -> bytes:
    """Return a request to map a TCP port."""
    return _PMP_MAP.pack(0, 2, 0, port, port, LEASE_S)


def parse_pmp(address: bytes, mapped: bytes, port: int) -> Mapping:
    """Read the answers to the two requests. Raises ``BAD_REQUEST``."""
    if len(address) != _PMP_ADDRESS.size or len(mapped) != _PMP_MAPPED.size:
        raise _bad("these are no answers of NAT-PMP")
    version, opcode, result, _, host = _PMP_ADDRESS.unpack(address)
    version_, opcode_, result_, _, inner, outer, lease_s = _PMP_MAPPED.unpack(mapped)
    if (version, opcode, version_, opcode_) != (0, 128, 0, 130) or inner != port:
        raise _bad("NAT-PMP: the answer is to another request")
    if result or result_:
        raise _bad(f"NAT-PMP: the router refuses (result {result or result_})")
    shown = str(ipaddress.IPv4Address(host))
    return Mapping(_public(shown), outer, min(lease_s, LEASE_S))


# --- UPnP ----------------------------------------------------------------------------------------


def ssdp_request() -> bytes:
    """Return the search for an internet gateway device."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {SSDP_GROUP}:{SSDP_PORT}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def parse_ssdp(answer: bytes, router_host: str) -> str:
    """Return where the device describes itself: on the router, and nowhere else.

    Raises ``BAD_REQUEST``.
    """
    found = re.search(rb"^location:[ \t]*(\S+)", answer, re.IGNORECASE | re.MULTILINE)
    if found is None or not answer.startswith(b"HTTP/1.1 200"):
        raise _bad("UPnP: no device answers")
    return _on_router(found.group(1).decode("latin-1"), router_host)


def _on_router(url: str, router_host: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname != router_host:
        raise _bad("UPnP: the device points to another machine than the router")
    return url


def parse_description(answer: bytes, url: str, router_host: str) -> tuple[str, str]:
    """Return service type and control URL of a device's description. Raises ``BAD_REQUEST``."""
    if len(answer) > ANSWER_BYTES_MAX or b"<!" in answer:
        raise _bad("UPnP: the description is none")
    text = answer.decode("utf-8", "replace")
    for service in _SERVICES:
        kind = re.escape(_SERVICE_PREFIX + service)
        block = re.search(
            rf"<service>(?:(?!</service>).)*<serviceType>\s*{kind}\s*</serviceType>"
            r"(?:(?!</service>).)*</service>",
            text,
            re.DOTALL,
        )
        control = block and re.search(r"<controlURL>\s*([^<\s]+)\s*</controlURL>", block.group())
        if control:
            return _SERVICE_PREFIX + service, _on_router(urljoin(url, control[1]), router_host)
    raise _bad("UPnP: the device maps no ports")


def soap_request(service: str, action: str, fields: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a call."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    body = (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service}">{inner}</u:{action}></s:Body></s:Envelope>'
    )
    headers = {"content-type": 'text/xml; charset="utf-8"', "soapaction": f'"{service}#{action}"'}
    return headers, body.encode()


def add_mapping_fields(own_host: str, port: int) -> dict[str, str]:
    """Return what AddPortMapping asks for."""
    return {
        "NewRemoteHost": "",
        "NewExternalPort": str(port),
        "NewProtocol": "TCP",
        "NewInternalPort": str(port),
        "NewInternalClient": own_host,
        "NewEnabled": "1",
        "NewPortMappingDescription": "atoll",
        "NewLeaseDuration": str(LEASE_S),
    }


def parse_external_host(answer: bytes) -> str:
    """Return the address that GetExternalIPAddress tells. Raises ``BAD_REQUEST``."""
    found = re.search(rb"<NewExternalIPAddress>\s*([0-9.]{7,15})\s*<", answer[:ANSWER_BYTES_MAX])
    if found is None:
        raise _bad("UPnP: the router tells no address")
    return _public(found.group(1).decode())
