"""The nouns of slashing: cases against nodes that lost data, and nodes' entries on the chain."""

from dataclasses import dataclass
from typing import Final

import msgspec

from atoll.core.proofs.loss import SLOTS_MAX

RESULTS_READ: Final = 4 * SLOTS_MAX
"""Latest results of a node among which evidence is looked for."""
AGAIN_MS: Final = 30_000
"""Where there is not enough evidence (yet) it is looked for again after so long."""
CASES_PAGE_MAX: Final = 1_000
LOOK_S: Final = 1.0
"""Between two looks for nodes that were disqualified."""


@dataclass(frozen=True, slots=True)
class Case:
    """One node that lost data. A node has at most one: it is disqualified for good."""

    evidence: bytes
    """SHA-256 of the loss file."""
    alias: int
    node_id: bytes
    owner: bytes
    """Account that the node is paid to and registered by; empty where it names none."""
    reporter: bytes
    """Account of a verifier that signed the first verdict; empty where none is known."""
    opened_ms: int
    first_slot: int
    last_slot: int
    samples: int
    failed: int
    epoch: int = 0
    """In which what was held was taken; 0: not yet."""
    taken_pico: int = 0
    """From what was held of it, repair of its pieces in that epoch included."""
    transaction: bytes = b""
    """That carried the verdict out on the chain; empty: not yet."""


class SlashFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """A case as ``/v1/slashes`` tells it. Amounts in pico-euro, as text: they may be long."""

    evidence: str
    node: str
    opened_ms: int
    first_slot: int
    last_slot: int
    samples: int
    failed: int
    state: str
    """``open``, ``settled`` (in its epoch) or ``carried out`` (on the chain, too)."""
    reporter: str = ""
    epoch: int = 0
    taken_pico: str = "0"
    transaction: str = ""


def state_of(case: Case) -> str:
    """Return how far a case is, in a word."""
    if case.transaction:
        return "carried out"
    return "settled" if case.epoch else "open"
