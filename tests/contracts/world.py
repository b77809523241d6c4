"""An EVM in this process, and contracts deployed into it from artifacts.

The EVM (py-evm by titanoboa) is imported when it is first needed: seconds that collecting tests
does not pay. ``ATOLL_CONTRACTS_ARTIFACTS`` names a folder whose artifacts replace the shipped ones;
that is how mutants run.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from atoll.economy.artifacts.load import Artifact, load

TOKEN = 10**18
EURO_MICRO = 10**6
START_S = 1_800_000_000
DAY_S = 86_400
CHAIN_ID = 31_337
ZERO = "0x" + "00" * 20
_ERROR_STRING = bytes.fromhex("08c379a0")


class RefusedError(Exception):
    """A contract reverted; ``str`` is the reason it gave, or the EVM's own words."""


@cache
def _library() -> Any:
    import boa

    _begin(boa.env)
    return boa


def _begin(env: Any) -> None:
    env.evm.patch.timestamp = START_S
    env.evm.patch.chain_id = CHAIN_ID


def environment() -> Any:
    """The EVM; tests share one and undo what they did by ``isolated``."""
    return _library().env


@contextlib.contextmanager
def new_chain() -> Iterator[None]:
    """A chain of its own, for tests of gas: there ``transaction`` can be used."""
    library = _library()
    with library.swap_env(library.Env()):
        _begin(library.env)
        yield


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Undo everything that happens inside on the chain, its clock included."""
    with environment().anchor():
        yield


@cache
def artifact(name: str) -> Artifact:
    """The artifact of a contract, or a mutant's."""
    folder = os.environ.get("ATOLL_CONTRACTS_ARTIFACTS")
    if folder and Path(folder, f"{name}.json").exists():
        return load(name, Path(folder))
    return load(name)


@cache
def account(role: str) -> str:
    """Address of an actor named by its role; the same in every run."""
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(account_key(role).public_key.to_canonical_address()))


@cache
def account_key(role: str) -> Any:
    """Private key (eth_keys) of an actor named by its role, for what is signed off chain."""
    from eth_keys.datatypes import PrivateKey
    from eth_utils.crypto import keccak

    return PrivateKey(keccak(text=f"atoll test {role}"))


@dataclass(frozen=True)
class Event:
    """One event: the contract it came from, its name, its values by name."""

    address: str
    name: str
    values: dict[str, Any]


class Function:
    """One function of one contract."""

    def __init__(self, contract: "Contract", entry: dict[str, Any]) -> None:
        from eth_utils.crypto import keccak

        self._contract = contract
        self.inputs = [type_of(one) for one in entry["inputs"]]
        self._outputs = [type_of(one) for one in entry["outputs"]]
        self._view = entry["stateMutability"] in ("view", "pure")
        self.selector = keccak(text=f"{entry['name']}({','.join(self.inputs)})")[:4]

    def data(self, *arguments: Any) -> bytes:
        """Call data."""
        from eth_abi.abi import encode

        return self.selector + encode(self.inputs, [_plain(one) for one in arguments])

    def __call__(self, *arguments: Any, sender: str = "", value: int = 0) -> Any:
        from eth_abi.abi import decode

        computation = environment().execute_code(
            to_address=self._contract.address,
            sender=sender or account("nobody"),
            data=self.data(*arguments),
            value=value,
            is_modifying=not self._view,
        )
        if computation.is_error:
            raise RefusedError(_reason(computation))
        if not self._view:
            self._contract.last = computation
        values = decode(self._outputs, computation.output)
        if len(values) == 1:
            return values[0]
        return values or None


class Contract:
    """A deployed contract; its functions are attributes (``sender=`` says who calls)."""

    def __init__(self, compiled: Artifact, address: str) -> None:
        self.artifact = compiled
        self.address = address
        self.last: Any = None

    @cached_property
    def _functions(self) -> dict[tuple[str, int], Function]:
        entries = [entry for entry in self.artifact.abi if entry["type"] == "function"]
        return {(entry["name"], len(entry["inputs"])): Function(self, entry) for entry in entries}

    def function(self, name: str, arguments: int) -> Function:
        """The function of this name that takes so many arguments."""
        return self._functions[name, arguments]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not any(name == known for known, _ in self._functions):
            raise AttributeError(f"{self.artifact.name} has no function {name}")
        return lambda *arguments, **options: self.function(name, len(arguments))(
            *arguments, **options
        )

    @cached_property
    def _event_entries(self) -> dict[bytes, dict[str, Any]]:
        from eth_utils.crypto import keccak

        result = {}
        for entry in self.artifact.abi:
            if entry["type"] == "event":
                types = ",".join(type_of(one) for one in entry["inputs"])
                result[keccak(text=f"{entry['name']}({types})")] = entry
        return result

    def events(self, name: str = "") -> list[Event]:
        """Events this contract emitted in its last call (by name, if given)."""
        from eth_abi.abi import decode

        found = []
        for emitter, topics, data in self.last.get_log_entries():
            entry = self._event_entries.get(topics[0].to_bytes(32, "big"))
            if "0x" + emitter.hex() != self.address.lower() or entry is None:
                continue
            indexed = [one for one in entry["inputs"] if one["indexed"]]
            rest = [one for one in entry["inputs"] if not one["indexed"]]
            values = {
                one["name"]: decode([type_of(one)], topic.to_bytes(32, "big"))[0]
                for one, topic in zip(indexed, topics[1:], strict=True)
            }
            decoded = decode([type_of(one) for one in rest], data)
            values |= {one["name"]: value for one, value in zip(rest, decoded, strict=True)}
            if name in ("", entry["name"]):
                found.append(Event(self.address, entry["name"], values))
        return found

    def gas_used(self) -> int:
        """Gas of the last call as a transaction of its own: base, call data, execution, refund."""
        return gas_of(self.last)


def gas_of(computation: Any, *, create: bool = False) -> int:
    """Gas a computation costs as a transaction (EIP-2028, EIP-3529; EIP-3860 for creation)."""
    data = bytes(computation.msg.code) if create else bytes(computation.msg.data)
    zeros = data.count(0)
    base = 21_000 + 4 * zeros + 16 * (len(data) - zeros)
    if create:
        base += 32_000 + 2 * ((len(data) + 31) // 32)
    used = base + int(computation.get_gas_used())
    return used - min(int(computation.get_gas_refund()), used // 5)


def transaction() -> None:
    """Begin a transaction of its own for gas: what was touched is cold again (EIP-2929, 2200).

    Only on a ``new_chain``: what ``isolated`` would undo is settled by it.
    """
    environment().evm.reset_access_counters()
    environment().evm.vm.state.lock_changes()


def deploy(name: str, *arguments: Any, sender: str = "") -> Contract:
    """Deploy a contract from its artifact; a constructor that refuses raises ``RefusedError``."""
    return deploy_artifact(artifact(name), *arguments, sender=sender)


def deploy_artifact(compiled: Artifact, *arguments: Any, sender: str = "") -> Contract:
    """Deploy a compiled contract."""
    from eth_abi.abi import encode

    types = [type_of(entry) for entry in compiled.constructor_inputs()]
    code = compiled.creation_code() + encode(types, [_plain(one) for one in arguments])
    address, computation = environment().deploy(bytecode=code, sender=sender or account("deployer"))
    if computation.is_error:
        raise RefusedError(_reason(computation))
    contract = Contract(compiled, str(address))
    contract.last = computation
    return contract


def deploy_text(name: str, source: str, *arguments: Any) -> Contract:
    """Compile and deploy a contract that exists in a test only: an attacker, an odd token."""
    return deploy_artifact(_compiled(name, source), *arguments)


@cache
def _compiled(name: str, source: str) -> Artifact:
    import tempfile

    from atoll.economy.contracts.build import compile_contract

    with tempfile.TemporaryDirectory(prefix="atoll-contract-") as folder:
        Path(folder, f"{name}.vy").write_text(source)
        return compile_contract(name, Path(folder))


@contextlib.contextmanager
def refused(words: str = "") -> Iterator[None]:
    """Expect a refusal whose reason contains ``words``."""
    said = None
    try:
        yield
    except RefusedError as error:
        said = str(error)
    assert said is not None, f"accepted, expected a refusal ({words})"
    assert words in said, f"refused with {said}, not with {words}"


def now_s() -> int:
    """The chain's time, seconds."""
    return int(environment().timestamp)


def pass_time(seconds: int) -> None:
    """Let time pass on the chain, one block at least."""
    patch = environment().evm.patch
    patch.timestamp += seconds
    patch.block_number += max(1, seconds // 2)


def type_of(entry: dict[str, Any]) -> str:
    """Type of an ABI entry as the encoder spells it."""
    kind: str = entry["type"]
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(type_of(part) for part in entry["components"])
    return f"({inner}){kind.removeprefix('tuple')}"


def _plain(value: Any) -> Any:
    """A contract as its address, inside lists and tuples too."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.address if isinstance(value, Contract) else value


def _reason(computation: Any) -> str:
    from eth_abi.abi import decode

    output = bytes(computation.output)
    if output[:4] == _ERROR_STRING:
        return str(decode(["string"], output[4:])[0])
    return f"{type(computation.error).__name__} {output.hex()}".strip()
