"""Which country an address belongs to, by a local table that an operator provides.

There is no free table that we could ship and vouch for. The file has lines ``CIDR,COUNTRY`` (as
``192.0.2.0/24,DE``), comments with ``#``; the longest prefix decides.
"""

import ipaddress

from atoll.core.countries import COUNTRIES
from atoll.core.errors import AtollError, Kind

LINES_MAX = 2_000_000
"""More than there are announced prefixes in the whole internet."""


class AddressTable:
    """Prefixes with their countries. Immutable once read."""

    __slots__ = ("_lengths", "_prefixes")

    def __init__(self, prefixes: dict[tuple[int, int, int], str]) -> None:
        """``prefixes``: (IP version, prefix length, network as a number) to country."""
        self._prefixes = prefixes
        self._lengths = {
            version: sorted({k[1] for k in prefixes if k[0] == version}, reverse=True)
            for version in (4, 6)
        }

    def __len__(self) -> int:
        return len(self._prefixes)

    def country_of(self, host: str) -> str:
        """Return an address's country; empty for a name or an address that is not in the table."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return ""
        number, bits = int(address), address.max_prefixlen
        for length in self._lengths[address.version]:
            network = number >> (bits - length) << (bits - length)
            found = self._prefixes.get((address.version, length, network))
            if found is not None:
                return found
        return ""


def read_table(text: str) -> AddressTable:
    """Read a table. Raises ``CONFIG`` naming the line that cannot be."""
    prefixes: dict[tuple[int, int, int], str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if number > LINES_MAX:
            raise _wrong(number, f"a table has at most {LINES_MAX} lines")
        bare = line.partition("#")[0].strip()
        if not bare:
            continue
        cidr, comma, country = (part.strip() for part in bare.partition(","))
        country = country.upper()
        if not comma or country not in COUNTRIES:
            raise _wrong(number, f"{bare!r} is not CIDR,COUNTRY")
        try:
            network = ipaddress.ip_network(cidr, strict=True)
        except ValueError as cause:
            raise _wrong(number, str(cause)) from cause
        key = (network.version, network.prefixlen, int(network.network_address))
        if prefixes.setdefault(key, country) != country:
            raise _wrong(number, f"{cidr} has two countries")
    return AddressTable(prefixes)


def _wrong(number: int, message: str) -> AtollError:
    return AtollError(
        Kind.CONFIG,
        "read address table",
        f"line {number}: {message}",
        hint="lines are CIDR,COUNTRY as 192.0.2.0/24,DE",
    )


NO_TABLE = AddressTable({})
"""Knows no address."""
