"""Load a compiled contract: interface, creation code, run-time code, and where they came from."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import msgspec

from atoll.core.errors import AtollError, Kind

FORMAT = 1
ARTIFACT_BYTES_MAX = 1 << 20
# EIP-170 and EIP-3860: longest code of a contract, and longest creation code.
RUNTIME_BYTES_MAX = 24_576
CREATION_BYTES_MAX = 49_152


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One compiled contract.

    ``bytecode`` is creation code (constructor arguments are appended to it), ``runtime`` what
    stands on the chain before its ``immutables_bytes`` bytes of values fixed by the constructor.
    ``source_sha256`` is the compiler's integrity sum over the source and everything it imports;
    ``sources`` names those files with their own SHA-256. Code is hexadecimal without ``0x``.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    runtime: str
    immutables_bytes: int
    compiler: str
    compiler_settings: dict[str, str]
    source_sha256: str
    sources: dict[str, str]
    licence: str = "AGPL-3.0-only"
    format: int = FORMAT

    def creation_code(self) -> bytes:
        """Creation code, to which the encoded constructor arguments are appended."""
        return bytes.fromhex(self.bytecode)

    def is_code_of(self, code: bytes) -> bool:
        """Tell whether ``code``, read from a chain, is this contract, whatever its immutables."""
        runtime = bytes.fromhex(self.runtime)
        return len(code) == len(runtime) + self.immutables_bytes and code.startswith(runtime)

    def constructor_inputs(self) -> list[dict[str, Any]]:
        """ABI of the constructor's arguments, in order; empty if it takes none."""
        for entry in self.abi:
            if entry["type"] == "constructor":
                inputs: list[dict[str, Any]] = entry["inputs"]
                return inputs
        return []


def _folder(folder: Path | None) -> Traversable:
    return folder if folder is not None else resources.files("atoll.economy.artifacts")


def names(folder: Path | None = None) -> tuple[str, ...]:
    """Names of all compiled contracts, sorted. ``folder`` replaces the ones shipped."""
    found = (entry.name for entry in _folder(folder).iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in found if name.endswith(".json")))


def load(name: str, folder: Path | None = None) -> Artifact:
    """Return the compiled contract ``name``.

    Raises:
        AtollError: ``NOT_FOUND`` if there is no such contract, ``CORRUPT`` if its file is not
            what the build writes, ``NEWER_FORMAT`` if a later build wrote it.
    """
    operation = "contracts.load"
    if name not in names(folder):
        raise AtollError(
            Kind.NOT_FOUND,
            operation,
            "no such contract",
            about=name,
            hint=f"there are {', '.join(names(folder)) or 'none'}",
        )
    raw = _folder(folder).joinpath(f"{name}.json").read_bytes()
    if len(raw) > ARTIFACT_BYTES_MAX:
        raise AtollError(Kind.CORRUPT, operation, "the compiled contract is too long", about=name)
    try:
        head = msgspec.json.decode(raw, type=dict[str, Any])
        if isinstance(head.get("format"), int) and head["format"] > FORMAT:
            raise AtollError(
                Kind.NEWER_FORMAT,
                operation,
                "the compiled contract was written by a newer build",
                about=name,
            )
        artifact = msgspec.convert(head, Artifact)
        sizes = (len(artifact.creation_code()), len(bytes.fromhex(artifact.runtime)))
    except (msgspec.MsgspecError, ValueError) as error:
        raise AtollError(
            Kind.CORRUPT,
            operation,
            f"not a compiled contract: {error}",
            about=name,
            hint="install Atoll again, or run python -m atoll.economy.contracts.build",
        ) from error
    if artifact.name != name or not all(sizes) or artifact.immutables_bytes < 0:
        raise AtollError(Kind.CORRUPT, operation, "not the contract of this name", about=name)
    if sizes[0] > CREATION_BYTES_MAX or sizes[1] + artifact.immutables_bytes > RUNTIME_BYTES_MAX:
        raise AtollError(Kind.CORRUPT, operation, "longer than a chain takes", about=name)
    return artifact
