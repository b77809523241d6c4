"""What is wrong with where a segment's pieces lie, by the facts of now.

Claims change, certificates expire or are revoked, policies get new versions: the piece then lies
where it may not, and repair moves it. The same list tells a customer why.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from atoll.coordinator.placement.model import Candidate, Policy
from atoll.coordinator.placement.rules import asn_cap_of, beyond_relays
from atoll.core.messages import StoredPiece

DOMAINS = ("operator", "network", "site")
"""Failure domains of which a segment has one piece each."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One piece that lies where it should not."""

    piece: StoredPiece
    rule: str
    """``policy``, ``operator``, ``network``, ``site``, ``relays`` or ``asn``."""
    hard: bool
    """Whether the piece must move; a soft cap only shows."""
    text: str


def violations(
    pieces: Sequence[StoredPiece], nodes: Mapping[int, Candidate], policy: Policy
) -> list[Violation]:
    """Return what the policy and the caps have against where a segment's pieces lie.

    Pieces of unknown nodes are left out: they are lost, not misplaced. Of pieces that share a
    domain, all but the one with the fewest rivals are named.
    """
    there = [(piece, nodes[piece.alias]) for piece in pieces if piece.alias in nodes]
    found: list[Violation] = []
    placed: list[tuple[StoredPiece, Candidate]] = []
    for piece, node in there:
        if policy.admits(node):
            placed.append((piece, node))
        else:
            found.append(Violation(piece, "policy", True, "; ".join(policy.lacks(node))))
    found += _clumped(placed)
    crowd = beyond_relays((piece for piece, _ in placed), nodes, len(there))
    text = "too many of the segment's pieces lie behind relays"
    found += [Violation(piece, "relays", True, text) for piece in crowd]
    found += _crowded(placed, len(there))
    return found


def _clumped(placed: Sequence[tuple[StoredPiece, Candidate]]) -> list[Violation]:
    rivals = Counter(domain for _, node in placed for domain in _domains(node))
    order = sorted(
        placed, key=lambda pair: (sum(rivals[d] for d in _domains(pair[1])), pair[0].alias)
    )
    taken: set[tuple[str, str]] = set()
    found = []
    for piece, node in order:
        domains = _domains(node)
        shared = next((domain for domain in domains if domain in taken), None)
        if shared is None:
            taken.update(domains)
        else:
            text = f"another piece of the segment lies with the same {shared[0]} {shared[1]!r}"
            found.append(Violation(piece, shared[0], True, text))
    return found


def _domains(node: Candidate) -> list[tuple[str, str]]:
    return [(fact, getattr(node, fact)) for fact in DOMAINS]


def _crowded(placed: Iterable[tuple[StoredPiece, Candidate]], count: int) -> list[Violation]:
    cap = asn_cap_of(count)
    held: Counter[int] = Counter()
    found = []
    for piece, node in placed:
        if not node.asn:
            continue
        held[node.asn] += 1
        if held[node.asn] > cap:
            text = f"autonomous system {node.asn} has more than {cap} of the segment's pieces"
            found.append(Violation(piece, "asn", False, text))
    return found
