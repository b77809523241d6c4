"""What a stranger reads of the money: epochs at the coordinator's door, balances on the chain.

Nothing here knows the cloud's database: all is asked over HTTP and JSON-RPC, as anybody can.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from atoll.cli.settling import book_name
from atoll.coordinator.billing.model import EpochFacts
from atoll.core.errors import AtollError, Kind
from atoll.economy.chain.model import EMBEDDED_CHAIN_ID
from atoll.economy.settlement.document import INDEX_BYTES_MAX, Document, read, read_index

TIMEOUT_S = 5.0
WORD_BYTES = 32
_BALANCE_OF = bytes.fromhex("70a08231")
"""``balanceOf(address)`` of every ERC-20 token."""


@dataclass(slots=True)
class Settled:
    """What the cloud says of its epochs, and what its chain has."""

    door: str
    """The coordinator's URL."""
    chain: str
    """The chain's URL; empty for none."""
    folder: Path
    """Where the address book lies."""
    _documents: dict[str, Document] = field(default_factory=dict)

    def epochs(self) -> list[EpochFacts]:
        """Return the newest epochs, newest first."""
        return msgspec.json.decode(self._get("/v1/epochs"), type=list[EpochFacts])

    def document(self, facts: EpochFacts) -> Document:
        """Read a published epoch; every hash in it holds."""
        known = self._documents.get(facts.content)
        if known is None:
            index = self._get(f"/v1/epochs/{facts.epoch}/index")
            chunks = [
                self._get(f"/v1/epochs/chunks/{entry.sha256.hex()}")
                for entry in read_index(index).chunks
            ]
            known = self._documents[facts.content] = read(
                index, chunks, bytes.fromhex(facts.content)
            )
        return known

    def balances(self, accounts: list[bytes]) -> dict[bytes, int]:
        """Return what accounts have of the stablecoin, in its units (1e-6 EUR), at one block."""
        book = json.loads((self.folder / book_name(EMBEDDED_CHAIN_ID)).read_bytes())
        coin = book["contracts"]["TestStable"]["address"]
        block = self._ask("eth_blockNumber", [])
        found = {}
        for account in accounts:
            call = {
                "to": coin,
                "data": "0x" + (_BALANCE_OF + account.rjust(WORD_BYTES, b"\0")).hex(),
            }
            found[account] = int(self._ask("eth_call", [call, block]), 16)
        return found

    def _ask(self, method: str, parameters: list[Any]) -> str:
        """Ask the chain by JSON-RPC."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = json.loads(self._call(self.chain, msgspec.json.encode(body)))
        if "result" not in answer:
            raise AtollError(Kind.CORRUPT, "ask chain", f"{method}: {answer.get('error')}")
        return str(answer["result"])

    def _get(self, path: str) -> bytes:
        return self._call(self.door + path, None)

    def _call(self, url: str, body: bytes | None) -> bytes:
        # Both URLs are those of the demo's own cloud, on loopback.
        request = urllib.request.Request(  # noqa: S310
            url, body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                found: bytes = answer.read(INDEX_BYTES_MAX)
        except (OSError, urllib.error.URLError) as cause:
            raise AtollError(Kind.UNREACHABLE, "ask cloud", f"{url}: {cause}") from cause
        return found


def settlement_state(facts: EpochFacts) -> str:
    """Return how far an epoch is: on its way to the document, then on the chain."""
    return facts.settlement.state if facts.settlement is not None else facts.state


@dataclass(frozen=True, slots=True)
class SlashParts:
    """Whom a slash went to, in this order. Pico-euro."""

    taken_pico: int
    repair_pico: int
    customers_pico: int
    reporter_pico: int
    insurance_pico: int

    @property
    def whole(self) -> bool:
        """Whether the parts make up what was taken."""
        parts = (self.repair_pico, self.customers_pico, self.reporter_pico, self.insurance_pico)
        return sum(parts) == self.taken_pico


def slash_of(document: Document, node: bytes) -> SlashParts | None:
    """Return what was taken of a node in an epoch; None where nothing was.

    By the order of ``docs/spec/epochs.md``: what is held of the node pays the workers that rebuilt
    its pieces, then the slash is divided.
    """
    content = document.content
    held = next((one.held_pico for one in content.before.nodes if one.node == node), 0)
    for line in content.inputs.repairs:
        if line.failed == node:
            held -= min(held, line.byte_count * content.tariff.repair_pico // 10**9)
    for slash in content.inputs.slashes:
        if slash.node != node:
            continue
        taken = min(slash.amount_pico, held)
        repair = min(taken, slash.repair_pico)
        customers = min(taken - repair, sum(one.amount_pico for one in slash.customers))
        left = taken - repair - customers
        reporter = min(left, taken * slash.reporter_bps // 10_000) if slash.reporter else 0
        return SlashParts(taken, repair, customers, reporter, left - reporter)
    return None


def earned_of(document: Document) -> Mapping[bytes, int]:
    """Return what each node earned in an epoch, pico-euro."""
    return {one.node: one.earned_pico for one in document.content.result.nodes}
