"""Puts the contracts on a chain, once: every step is an intent of the outbox with a fixed key.

The order is fixed, each contract comes from an account used for nothing else, so that the same
plan gives the same addresses. What stands is never made again; a step that was cut off goes on; a
book that was lost is written anew from the account's transactions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainCall, Database
from atoll.economy.artifacts.load import Artifact, load, names
from atoll.economy.chain import abi, book
from atoll.economy.chain.model import (
    EMBEDDED_CHAIN_ID,
    Contract,
    Intent,
    IntentState,
    IntentStatus,
)
from atoll.economy.chain.outbox import Outbox
from atoll.economy.chain.signer import contract_address
from atoll.economy.keccak import keccak_256

ORDER: Final = (
    "TestStable",
    "Vesting",
    "Token",
    "Timelock",
    "Parameters",
    "Treasury",
    "NodeRegistry",
    "Escrow",
    "Bond",
    "SlashCourt",
    "EpochDistributor",
)
"""Each is built on those before it."""
TEST_STABLE: Final = "TestStable"
"""Anybody draws it from a tap: on an embedded chain only."""
CONNECT: Final = "connect"
"""The function that names, once, contracts that came later."""
ALIASES: Final[Mapping[str, str]] = {
    "stable": TEST_STABLE,
    "asset": "Token",
    "token": "Token",
    "vesting": "Vesting",
    "timelock": "Timelock",
    "parameters": "Parameters",
    "treasury": "Treasury",
    "registry": "NodeRegistry",
    "node_registry": "NodeRegistry",
    "escrow": "Escrow",
    "bond": "Bond",
    "court": "SlashCourt",
    "slash_court": "SlashCourt",
    "distributor": "EpochDistributor",
    "epoch_distributor": "EpochDistributor",
}
"""Arguments that name a contract."""
REFERENCE: Final = "@"
TRIES_MAX: Final = 16
"""How often one step is wanted anew after the chain refused it."""
NONCES_SEARCHED_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What is put on a chain, with what.

    ``values`` maps an argument, or ``Contract.argument``, to its value, in which ``@Name`` stands
    for the address of a contract or an account; ``accounts`` maps an argument that is an address
    of no contract to that address. ``stable``: the EUR stablecoin;
    empty on an embedded chain, which gets a test one.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    accounts: Mapping[str, bytes] = field(default_factory=dict)
    stable: bytes = b""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the deployment is."""

    done: bool
    waits_for: str
    """The step that is not in a block yet; empty for none."""
    contracts: Mapping[str, Contract]


class Deployer:
    """Carries a plan out. ``step`` is to be called until it is done."""

    def __init__(
        self, database: Database, chain_id: int, outbox: Outbox, account: bytes, plan: Plan
    ) -> None:
        """``account``: sends the transactions, and nothing else ever. Raises ``CONFIG``."""
        if not plan.stable and chain_id != EMBEDDED_CHAIN_ID:
            raise AtollError(
                Kind.CONFIG,
                "deploy contracts",
                "a public chain has a stablecoin of its own",
                hint="name its address: chain.stable",
            )
        self._database = database
        self._chain_id = chain_id
        self._outbox = outbox
        self._account = account
        self._plan = plan

    def order(self) -> list[str]:
        """Return the contracts that this version puts on this chain, in order."""
        shipped = set(names())
        return [
            name
            for name in ORDER
            if name in shipped and not (name == TEST_STABLE and self._plan.stable)
        ]

    async def step(self, chain: Chain, *, again: bool = False) -> Progress:
        """Want the next step that is not wanted yet, and write down what stands.

        ``again``: what the chain refused is wanted anew, with the plan as it is now. Raises
        ``PRECONDITION_FAILED`` for a refusal, ``CONFIG`` for a plan that lacks something,
        ``CORRUPT`` where the chain holds other code than was sent.
        """
        found = await self._contracts()
        if not found:
            found = await self._find_again(chain)
        for name in self.order():
            if name in found:
                continue
            artifact = load(name)
            key = f"deploy/{name}"
            status = await self._latest(key, again=again)
            if status is None:
                await self._want(key, b"", self._creation(artifact, found), again=again)
                return Progress(False, key, found)
            if not _stands(status):
                return Progress(False, key, found)
            contract = await self._standing(chain, artifact, status)
            if contract is None:
                return Progress(False, key, found)
            found = {**found, name: contract}
        return await self._connect(chain, found, again=again)

    async def _connect(
        self, chain: Chain, found: Mapping[str, Contract], *, again: bool
    ) -> Progress:
        for name in self.order():
            artifact = load(name)
            entries = [e for e in artifact.abi if e["type"] == "function" and e["name"] == CONNECT]
            if not entries or name not in found:
                continue
            key = f"connect/{name}"
            status = await self._latest(key, again=again)
            if status is None:
                values = self._values(name, entries[0]["inputs"], found)
                call = abi.call_data(artifact, CONNECT, *values)
                if not found[name].transaction and await self._is_refused(chain, found[name], call):
                    continue  # it was connected before the book was lost
                await self._want(key, found[name].address, call, again=again)
                return Progress(False, key, found)
            if not _stands(status):
                return Progress(False, key, found)
        return Progress(True, "", found)

    async def _is_refused(self, chain: Chain, contract: Contract, call: bytes) -> bool:
        try:
            await chain.call(ChainCall(contract.address, call, self._account))
        except AtollError as error:
            if error.kind is not Kind.PRECONDITION_FAILED:
                raise
            return True
        return False

    async def _contracts(self) -> dict[str, Contract]:
        return await self._database.read(lambda c: book.contracts(c, self._chain_id))

    async def _latest(self, key: str, *, again: bool) -> IntentStatus | None:
        """Return how the newest try of a step stands; None where it is to be wanted (again).

        Raises ``PRECONDITION_FAILED`` where it was refused and is not to be tried again.
        """
        last = None
        for number in range(1, TRIES_MAX + 1):
            status = await self._outbox.status(_key(key, number))
            if status is None:
                break
            last = status
        if last is None or not _refused(last):
            return last
        if again:
            return None
        raise AtollError(
            Kind.PRECONDITION_FAILED,
            "deploy contracts",
            f"{last.intent.key}: {last.problem}",
            hint="mend what it says, then run `atoll chain deploy`",
        )

    async def _want(self, key: str, to: bytes, data: bytes, *, again: bool) -> None:
        for number in range(1, TRIES_MAX + 1):
            status = await self._outbox.status(_key(key, number))
            if status is None:
                await self._outbox.submit(Intent(_key(key, number), self._account, to, data))
                return
            if not (again and _refused(status)):
                return
        raise AtollError(
            Kind.PRECONDITION_FAILED, "deploy contracts", f"{key} was refused {TRIES_MAX} times"
        )

    async def _standing(
        self, chain: Chain, artifact: Artifact, status: IntentStatus
    ) -> Contract | None:
        """Write a contract into the book that stands as it was sent; None while it does not."""
        code = await chain.code(status.contract)
        if not code:
            return None
        if not artifact.is_code_of(code):
            raise AtollError(
                Kind.CORRUPT,
                "deploy contracts",
                f"the chain holds other code than {artifact.name}",
                about="0x" + status.contract.hex(),
            )
        contract = Contract(
            name=artifact.name,
            address=status.contract,
            code_hash=keccak_256(code),
            source_sha256=artifact.source_sha256,
            transaction=status.transaction,
            block_number=status.block_number,
        )
        await self._database.write(lambda c: book.put_contract(c, self._chain_id, contract))
        return contract

    async def _find_again(self, chain: Chain) -> dict[str, Contract]:
        """Look for contracts that this account made before the book was lost."""
        if await self._outbox.status(_key(f"deploy/{self.order()[0]}", 1)) is not None:
            return {}
        count = min(await chain.nonce(self._account), NONCES_SEARCHED_MAX)
        wanted = {name: load(name) for name in self.order()} if count else {}
        found: dict[str, Contract] = {}
        for nonce in range(count):
            address = contract_address(self._account, nonce)
            code = await chain.code(address)
            for name, artifact in wanted.items():
                if name not in found and code and artifact.is_code_of(code):
                    found[name] = Contract(
                        name, address, keccak_256(code), artifact.source_sha256, b"", 0
                    )
        for contract in found.values():

            def put(connection: Any, contract: Contract = contract) -> None:
                book.put_contract(connection, self._chain_id, contract)

            await self._database.write(put)
        return found

    # --- arguments -------------------------------------------------------------------------------

    def _creation(self, artifact: Artifact, found: Mapping[str, Contract]) -> bytes:
        inputs = artifact.constructor_inputs()
        values = self._values(artifact.name, inputs, found)
        return artifact.creation_code() + abi.encode(inputs, values)

    def _values(
        self, name: str, inputs: Sequence[Mapping[str, Any]], found: Mapping[str, Contract]
    ) -> list[Any]:
        return [self._value(name, entry, found) for entry in inputs]

    def _value(self, name: str, entry: Mapping[str, Any], found: Mapping[str, Contract]) -> Any:
        argument = str(entry["name"]).strip("_").lower()
        for known in (f"{name}.{argument}", argument):
            if known in self._plan.values:
                return self._named(self._plan.values[known], found, known)
        if entry["type"] == "address":
            if ALIASES.get(argument) == TEST_STABLE and self._plan.stable:
                return self._plan.stable
            alias = ALIASES.get(argument)
            if alias is not None and alias in found:
                return found[alias].address
            if argument in self._plan.accounts:
                return self._plan.accounts[argument]
        raise _missing(f"{name} wants {entry['type']} {argument}", f"{name}.{argument}")

    def _named(self, value: Any, found: Mapping[str, Contract], about: str) -> Any:
        """Return a value with addresses where it names contracts and accounts."""
        if isinstance(value, list):
            return [self._named(entry, found, about) for entry in value]
        if not isinstance(value, str) or not value.startswith(REFERENCE):
            return value
        name = value.removeprefix(REFERENCE)
        if name in found:
            return found[name].address
        if name in self._plan.accounts:
            return self._plan.accounts[name]
        raise _missing(f"{about} names {name}", about)


def _missing(what: str, about: str) -> AtollError:
    return AtollError(
        Kind.CONFIG,
        "deploy contracts",
        f"{what}, and the plan does not say it",
        hint="give it in the file of --values",
        about=about,
    )


def _key(key: str, number: int) -> str:
    return key if number == 1 else f"{key}/{number}"


def _stands(status: IntentStatus) -> bool:
    return status.state in (IntentState.MINED, IntentState.FINAL) and status.succeeded


def _refused(status: IntentStatus) -> bool:
    return status.state in (IntentState.REFUSED, IntentState.FAILED)
