"""What a verifier's own verdicts say about the proof lines of an epoch: pure decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atoll.core.ids import show_node
from atoll.economy.settlement.model import ProofLine

OBJECTIONS_MAX = 20
"""More are not listed: one is enough."""


@dataclass(frozen=True, slots=True)
class OwnVerdict:
    """What this verifier found in one slot of one node."""

    slot: int
    samples: int
    failed: int


def objections(lines: Sequence[ProofLine], own: Mapping[bytes, Sequence[OwnVerdict]]) -> list[str]:
    """Return where proof lines contradict what this verifier saw itself; empty if nowhere.

    A slot that the coordinator calls missed is worse for the node than anything found in it (and
    two thirds of its committee may not have been heard in time), so as many slots as are called
    missed are left out, those first that would object most. All others stand in the line:
    what failed there failed, what was judged there counts.
    """
    found: list[str] = []
    for line in lines:
        verdicts = own.get(line.node, ())
        if not verdicts:
            continue
        shown = show_node(line.node)
        failed = sum(sorted((one.failed for one in verdicts), reverse=True)[line.slots_missed :])
        if failed > line.failed:
            found.append(f"{shown}: {failed} samples failed before us, not {line.failed}")
        samples = sum(sorted((one.samples for one in verdicts), reverse=True)[line.slots_missed :])
        if samples > line.samples:
            found.append(f"{shown}: we judged {samples} samples, not {line.samples}")
        if len(found) >= OBJECTIONS_MAX:
            break
    return found
