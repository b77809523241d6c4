"""Calls of contracts as bytes, and bytes as what contracts say (the contract ABI)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from atoll.core.errors import AtollError, Kind
from atoll.economy.artifacts.load import Artifact
from atoll.economy.chain.model import ChainEvent
from atoll.economy.keccak import keccak_256

SELECTOR_BYTES: Final = 4


def type_of(entry: Mapping[str, Any]) -> str:
    """Return an argument's type as the ABI writes it in signatures; tuples by their members."""
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(type_of(member) for member in entry["components"])
    return f"({inner}){kind.removeprefix('tuple')}"


def _signature(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}({','.join(type_of(argument) for argument in entry['inputs'])})"


def encode(inputs: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> bytes:
    """Return arguments as bytes. Raises ``BAD_REQUEST`` for values that do not fit."""
    from eth_abi.abi import encode as encode_values
    from eth_abi.exceptions import EncodingError

    try:
        return bytes(encode_values([type_of(entry) for entry in inputs], list(values)))
    except (EncodingError, TypeError, ValueError) as cause:
        raise AtollError(Kind.BAD_REQUEST, "encode call", str(cause)[:200]) from cause


def decode(outputs: Sequence[Mapping[str, Any]], answer: bytes) -> tuple[Any, ...]:
    """Return what an answer holds; addresses as ``0x…`` texts. Raises ``CORRUPT``."""
    from eth_abi.abi import decode as decode_values
    from eth_abi.exceptions import DecodingError

    try:
        return tuple(decode_values([type_of(entry) for entry in outputs], answer))
    except (DecodingError, OverflowError, ValueError) as cause:
        raise AtollError(
            Kind.CORRUPT, "decode answer", f"the contract's answer is none: {str(cause)[:150]}"
        ) from cause


def function_of(artifact: Artifact, name: str, count: int | None = None) -> dict[str, Any]:
    """Return a function's ABI; of ``count`` arguments, where names are shared."""
    for entry in artifact.abi:
        if (entry["type"], entry.get("name")) != ("function", name):
            continue
        if count is None or len(entry["inputs"]) == count:
            return entry
    raise AtollError(
        Kind.NOT_FOUND, "call contract", f"{artifact.name} has no function {name}", about=name
    )


def call_data(artifact: Artifact, name: str, *values: Any) -> bytes:
    """Return the data of a call. Raises ``NOT_FOUND``, ``BAD_REQUEST``."""
    entry = function_of(artifact, name, len(values))
    selector = keccak_256(_signature(entry).encode())[:SELECTOR_BYTES]
    return selector + encode(entry["inputs"], values)


def read_answer(artifact: Artifact, name: str, answer: bytes, count: int | None = None) -> Any:
    """Return what a function answered: one value by itself, more as a tuple."""
    values = decode(function_of(artifact, name, count)["outputs"], answer)
    return values[0] if len(values) == 1 else values


def read_call(artifact: Artifact, name: str, call: bytes) -> tuple[Any, ...] | None:
    """Return the arguments of a call of a function; None for a call of another one.

    Raises ``CORRUPT`` where bytes do not fit the ABI.
    """
    entry = function_of(artifact, name)
    selector = keccak_256(_signature(entry).encode())[:SELECTOR_BYTES]
    if call[:SELECTOR_BYTES] != selector:
        return None
    return decode(entry["inputs"], call[SELECTOR_BYTES:])


def event_topic(artifact: Artifact, name: str) -> bytes:
    """Return the topic that names an event. Raises ``NOT_FOUND``."""
    for entry in artifact.abi:
        if (entry["type"], entry.get("name")) == ("event", name):
            return keccak_256(_signature(entry).encode())
    raise AtollError(
        Kind.NOT_FOUND, "read event", f"{artifact.name} has no event {name}", about=name
    )


def read_event(artifact: Artifact, event: ChainEvent) -> tuple[str, dict[str, Any]] | None:
    """Return an event's name and its values by name; None for one that the ABI does not know.

    Indexed texts and lists are on the chain as hashes only, and returned as such.
    Raises ``CORRUPT`` where bytes do not fit the ABI.
    """
    if not event.topics:
        return None
    for entry in artifact.abi:
        if entry["type"] != "event":
            continue
        if keccak_256(_signature(entry).encode()) != event.topics[0]:
            continue
        indexed = [argument for argument in entry["inputs"] if argument["indexed"]]
        plain = [argument for argument in entry["inputs"] if not argument["indexed"]]
        if len(indexed) != len(event.topics) - 1:
            continue
        found = dict(
            zip((argument["name"] for argument in plain), decode(plain, event.data), strict=True)
        )
        for argument, topic in zip(indexed, event.topics[1:], strict=True):
            plain_word = not argument["type"].endswith(("]", "string", "bytes")) and not argument[
                "type"
            ].startswith("tuple")
            found[argument["name"]] = decode([argument], topic)[0] if plain_word else topic
        return entry["name"], found
    return None
