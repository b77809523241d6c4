"""What holders do with ATOLL: what stands behind a node, what is theirs of it, what they may lose.

Reads ``Bond`` and ``NodeRegistry`` and makes the calls that change them; nothing here sends
anything. Amounts end in ``_wei`` (1e-18 ATOLL) or ``_micro`` (1e-6 EUR).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from atoll.core.errors import AtollError, Kind
from atoll.core.ports import Chain, ChainCall
from atoll.economy.artifacts.load import load
from atoll.economy.chain import abi
from atoll.economy.chain.model import ChainEvent, Contract
from atoll.economy.chain.signer import parse_address
from atoll.economy.settlement.slashes import BOND_BPS, entry_key

BOND: Final = "Bond"
REGISTRY: Final = "NodeRegistry"
TOKEN: Final = "Token"  # noqa: S105 - the name of a contract
BPS: Final = 10_000
LIABLE_BUCKETS: Final = 3
"""Buckets that cannot be withdrawn yet: this one and the two before it (``Bond.BUCKETS``)."""
BUCKETS_BACK: Final = 60
"""Buckets that are looked through for what left and was not withdrawn: over a year on a public
chain."""
GENERATIONS_BACK: Final = 8
LOGS_BLOCKS: Final = 10_000
LOGS_ASKED_MAX: Final = 2_000
_ENTRY = re.compile("0x[0-9a-fA-F]{64}")
_NODE = re.compile("(n-)?([0-9a-f]{6,64})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A node in the registry."""

    key: bytes
    node_id: bytes
    owner: bytes
    payout: bytes
    is_active: bool


@dataclass(frozen=True, slots=True)
class Leaving:
    """Something that was taken out of a bond and is still liable, or can be withdrawn."""

    generation: int
    """-1: of the own tranche."""
    bucket: int
    amount_wei: int
    """If nothing is slashed until it is withdrawn."""
    ready_s: int
    """When it can be withdrawn, by the chain's clock."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What stands behind a node, and what of it is one account's."""

    entry: Entry
    own_wei: int
    """Own tranche, what is leaving included: lost first."""
    delegated_wei: int
    """All delegations, what is leaving included: lost after it."""
    held_micro: int
    """Pay held back of the node's account, in euro."""
    own_active_wei: int
    generation: int
    shares: int
    """Of the account, in the pool that takes delegations now."""
    worth_wei: int
    leaving: tuple[Leaving, ...]
    """Of the account; the own tranche's only for the owner."""
    reward_micro: int
    """Rewards of the account's delegations, to be claimed."""
    operator_micro: int
    """Rewards of the own tranche, and commission; paid to the node's account."""
    commission_bps: int
    time_s: int
    """Of the chain, now."""
    unbonding_s: int

    @property
    def room_wei(self) -> int:
        """What can be delegated now: delegations are at most as much as the own tranche."""
        return max(0, self.own_active_wei - self.delegated_wei)


@dataclass(frozen=True, slots=True)
class Risk:
    """What one account can lose of what it has behind a node."""

    at_once_wei: int
    """By one verdict on lost data."""
    most_wei: int
    """By several, or where a verifier of the node contradicts itself: everything."""
    liable_s_min: int
    """So long it stays liable after it was unbonded, at least."""
    liable_s_max: int


def risk_of(
    own_wei: int, delegated_wei: int, mine_wei: int, *, is_own: bool, unbonding_s: int
) -> Risk:
    """Return what an account can lose; the figures are those after what it means to do."""
    taken = (own_wei + delegated_wei) * BOND_BPS // BPS
    from_own = min(taken, own_wei)
    if is_own:
        at_once = from_own * mine_wei // own_wei if own_wei else 0
    else:
        left = min(taken - from_own, delegated_wei)
        at_once = -(-left * mine_wei // delegated_wei) if delegated_wei else 0
    half = (unbonding_s + 1) // 2
    return Risk(at_once, mine_wei, 2 * half, LIABLE_BUCKETS * half)


class HolderBook:
    """The contracts that holders deal with."""

    def __init__(self, chain: Chain, contracts: Mapping[str, Contract]) -> None:
        """Raises ``CONFIG`` where a contract is not in the address book."""
        for name in (BOND, REGISTRY, TOKEN):
            if name not in contracts:
                raise AtollError(
                    Kind.CONFIG,
                    "open bond",
                    f"the address book has no {name}",
                    hint="`atoll chain status` shows what stands; is the deployment done?",
                )
        self._chain = chain
        self._contracts = contracts
        self._unbonding_s = 0

    async def ask(self, contract: str, function: str, *values: Any, sender: bytes = b"") -> Any:
        """Return what a function answers, or would answer. Raises as ``Chain.call``."""
        artifact = load(contract)
        data = abi.call_data(artifact, function, *values)
        call = ChainCall(self._contracts[contract].address, data, sender)
        return abi.read_answer(artifact, function, await self._chain.call(call), len(values))

    def call(self, contract: str, function: str, *values: Any) -> tuple[bytes, bytes]:
        """Return address and data of a transaction."""
        data = abi.call_data(load(contract), function, *values)
        return self._contracts[contract].address, data

    def address_of(self, contract: str) -> bytes:
        """Return where a contract stands."""
        return self._contracts[contract].address

    # --- nodes ------------------------------------------------------------------------------

    async def entry(self, node: str, owner: bytes = b"") -> Entry:
        """Find a node: ``0x`` and its key, or its id (or the beginning of it: ``n-…``).

        ``owner``: where an id was entered by several. Raises ``NOT_FOUND``, ``CONFLICT``,
        ``BAD_REQUEST``.
        """
        if _ENTRY.fullmatch(node):
            return await self._entry(bytes.fromhex(node[2:]))
        named = _NODE.fullmatch(node)
        if named is None:
            raise AtollError(
                Kind.BAD_REQUEST,
                "find node",
                f"{node[:80]!r} names no node",
                hint="give its id (`atoll node show`), or its key in the registry: 0x…",
            )
        digits = named[2]
        if owner and len(digits) == 64:
            return await self._entry(entry_key(bytes.fromhex(digits), owner))
        found = [
            key
            for key, node_id, by in await self._registered()
            if node_id.hex().startswith(digits) and owner in (b"", by)
        ]
        if not found:
            raise _unknown(node)
        if len(found) > 1:
            raise AtollError(
                Kind.CONFLICT,
                "find node",
                f"{len(found)} entries have an id that begins with {digits}",
                hint="give the whole id and --owner, or the key: 0x…",
            )
        return await self._entry(found[0])

    async def _entry(self, key: bytes) -> Entry:
        node_id, owner, payout, _, _, retired_s = await self.ask(REGISTRY, "nodes", key)
        if not int(owner, 16):
            raise _unknown("0x" + key.hex())
        return Entry(key, node_id, parse_address(owner), parse_address(payout), not retired_s)

    async def _registered(self) -> list[tuple[bytes, bytes, bytes]]:
        """Return (key, node id, owner) of every entry, as the registry's events say."""
        registry, artifact = self._contracts[REGISTRY], load(REGISTRY)
        head = await self._chain.block()
        last = head.number if head is not None else 0
        first, width = registry.block_number, LOGS_BLOCKS
        found: list[tuple[bytes, bytes, bytes]] = []
        for _ in range(LOGS_ASKED_MAX):
            if first > last:
                return found
            try:
                logs = await self._chain.logs(
                    first, min(last, first + width - 1), [registry.address]
                )
            except AtollError as error:
                if error.kind is not Kind.TOO_LARGE or width == 1:
                    raise
                width //= 2
                continue
            first += width
            for log in logs:
                event = ChainEvent(0, log.address, log.topics, log.data, log.transaction, 0, 0, b"")
                read = abi.read_event(artifact, event)
                if read is not None and read[0] == "Registered":
                    values = read[1]
                    found.append((values["key"], values["node_id"], parse_address(values["owner"])))
        raise AtollError(
            Kind.TOO_LARGE,
            "find node",
            "the registry is too old to be searched for ids",
            hint="give the node's key (0x…), or its whole id and --owner",
        )

    # --- bonds ------------------------------------------------------------------------------

    async def unbonding_s(self) -> int:
        """Return how long who leaves stays liable, at least."""
        if not self._unbonding_s:
            self._unbonding_s = int(await self.ask(BOND, "UNBONDING_S"))
        return self._unbonding_s

    async def holding(self, entry: Entry, account: bytes) -> Holding:
        """Return what stands behind a node and what of it is an account's."""
        key = entry.key
        own, delegated, held = await self.ask(BOND, "coverage", key)
        generation = int(await self.ask(BOND, "generation", key))
        shares = int(await self.ask(BOND, "shares_of", key, generation, account))
        commission = await self.ask(BOND, "commission", key)
        head = await self._chain.block()
        reward = 0
        for number in range(max(0, generation - GENERATIONS_BACK), generation + 1):
            if await self.ask(BOND, "shares_of", key, number, account) or number == generation:
                answer = await self.ask(BOND, "claim_reward", key, number, account, sender=account)
                reward = max(reward, int(answer))
        return Holding(
            entry=entry,
            own_wei=int(own),
            delegated_wei=int(delegated),
            held_micro=int(held),
            own_active_wei=int(await self.ask(BOND, "own", key)),
            generation=generation,
            shares=shares,
            worth_wei=int(await self.ask(BOND, "worth", key, generation, account)),
            leaving=tuple(await self._leaving(entry, generation, account)),
            reward_micro=reward,
            operator_micro=int(await self.ask(BOND, "claim_operator", key, sender=account)),
            commission_bps=int(commission[0]),
            time_s=head.time_s if head is not None else 0,
            unbonding_s=await self.unbonding_s(),
        )

    async def _leaving(self, entry: Entry, generation: int, account: bytes) -> list[Leaving]:
        half = (await self.unbonding_s() + 1) // 2
        now = int(await self.ask(BOND, "bucket_now"))
        is_owner = entry.owner == account
        found: list[Leaving] = []
        for bucket in range(max(0, now - BUCKETS_BACK), now + 1):
            ready_s = (bucket + LIABLE_BUCKETS) * half
            if is_owner:
                own = int(await self.ask(BOND, "own_leaving", entry.key, bucket))
                if own:
                    found.append(Leaving(-1, bucket, own, ready_s))
            for number in range(max(0, generation - GENERATIONS_BACK), generation + 1):
                amount = int(
                    await self.ask(BOND, "leaving_worth", entry.key, number, bucket, account)
                )
                if amount:
                    found.append(Leaving(number, bucket, amount, ready_s))
        return found


def _unknown(node: str) -> AtollError:
    return AtollError(
        Kind.NOT_FOUND,
        "find node",
        f"the registry has no node {node}",
        hint="nodes are entered once they have proven what they hold; give --owner with a whole id",
    )
