"""Certificates that a party carries: ``certificates/*.cert`` of its data folder."""

from pathlib import Path

from atoll.core.addresses import NO_TABLE, AddressTable, read_table
from atoll.core.certificates import CERTIFICATES_MAX, from_text, read_certificate
from atoll.core.errors import AtollError, Kind

FOLDER = "certificates"
SUFFIX = ".cert"
FILE_BYTES_MAX = 64 << 10
TABLE_BYTES_MAX = 256 << 20


def carried(folder: Path) -> tuple[bytes, ...]:
    """Return the certificates in a data folder, as encoded. Raises ``CONFIG`` naming a bad file."""
    found: list[bytes] = []
    for path in sorted((folder / FOLDER).glob(f"*{SUFFIX}")):
        try:
            raws = from_text(path.read_text("ascii", "replace")[:FILE_BYTES_MAX])
            for raw in raws:
                read_certificate(raw)
        except (OSError, AtollError) as cause:
            raise AtollError(
                Kind.CONFIG,
                "read certificates",
                f"{path} cannot be read: {cause}",
                hint="correct or remove it",
            ) from cause
        found += raws
    if len(found) > CERTIFICATES_MAX:
        raise AtollError(
            Kind.CONFIG,
            "read certificates",
            f"{folder / FOLDER} holds {len(found)} certificates, allowed: {CERTIFICATES_MAX}",
            hint="remove those that have expired",
        )
    return tuple(found)


def address_table(path: str) -> AddressTable:
    """Return the table of addresses that an operator named; empty for none. Raises ``CONFIG``."""
    if not path:
        return NO_TABLE
    try:
        with Path(path).expanduser().open(encoding="utf-8", errors="replace") as file:
            return read_table(file.read(TABLE_BYTES_MAX))
    except OSError as cause:
        raise AtollError(
            Kind.CONFIG,
            "read address table",
            f"{path}: {cause.strerror}",
            hint="check coordinator.addresses",
        ) from cause
