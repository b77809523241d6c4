"""Pure decisions: how a policy does with nodes, what segments survive, what is only stated."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from atoll.coordinator.placement.drift import DOMAINS, violations
from atoll.coordinator.placement.model import Candidate, NodeState, Policy
from atoll.coordinator.placement.rules import asn_cap_of, independent, refused_by
from atoll.coordinator.residency.store import Lying
from atoll.core.messages import StoredPiece
from atoll.core.messages.policy import (
    PlaceExplained,
    PolicyFit,
    Refusal,
    SchemeFit,
    SegmentExplained,
)
from atoll.core.policy.model import All as Conjunction
from atoll.core.policy.model import Expression, Not, Rules, Some, Test
from atoll.core.policy.text import show
from atoll.core.scheme import SEGMENT_PLAIN_BYTES_MAX, TINY_PLAIN_BYTES_MAX, scheme_for

SIZES = (TINY_PLAIN_BYTES_MAX, 1 << 20, SEGMENT_PLAIN_BYTES_MAX)
"""Sizes of segments that a policy is tried on."""
_THERE = frozenset((NodeState.ALIVE, NodeState.SUSPECT, NodeState.AWAY))


def fit_of(policy: Policy, nodes: Iterable[Candidate], objections: Sequence[str]) -> PolicyFit:
    """Return how a policy does with the nodes of now."""
    alive = [node for node in nodes if node.state is NodeState.ALIVE]
    admitted = [node for node in alive if policy.admits(node)]
    found = independent(admitted)
    schemes = []
    for plain_bytes in SIZES:
        scheme = scheme_for(plain_bytes, found)
        schemes.append(
            SchemeFit(
                plain_bytes=plain_bytes,
                scheme=scheme.name,
                needed=scheme.durable,
                full=scheme.n,
                found=found,
                fits=found >= scheme.durable,
            )
        )
    return PolicyFit(
        text=show(policy.rules),
        nodes_alive=len(alive),
        nodes_admitted=len(admitted),
        independent=found,
        refusals=[Refusal(part=p, nodes=count) for p, count in refused_by(policy, alive)],
        schemes=schemes,
        networks_crowded=crowded_networks(admitted, schemes[-1].full),
        objections=list(objections),
        stated=stated(policy.rules),
    )


def crowded_networks(admitted: Sequence[Candidate], count: int) -> list[str]:
    """Return the autonomous systems whose soft cap a segment of ``count`` pieces must exceed."""
    cap = asn_cap_of(count)
    held = Counter(node.asn for node in admitted)
    room = held.pop(0, 0) + sum(min(cap, number) for number in held.values())
    if room >= min(count, len(admitted)):
        return []
    return [f"AS{asn}" for asn, number in sorted(held.items()) if number > cap]


def stated(rules: Rules) -> list[str]:
    """Say what a policy asks that is only stated: nothing here could enforce or prove it."""
    found = []
    scopes = dict(rules.scopes)
    located = any(_asks(e, ("country", "parent", "region")) for e in scopes.values())
    proven = any(_asks(expression, ("evidence",)) for expression in scopes.values())
    if located and not proven:
        found.append(
            "locations count as nodes declare them where no certificate or address says more; "
            "`evidence >= certificate` asks for more"
        )
    if "gateway" in scopes or "keys" in scopes:
        found.append(
            "a gateway refuses by itself what the policy keeps from it: an altered one would not"
        )
    if "metadata" in scopes:
        found.append("where coordinator and database run is what their operator declares")
    if "manifests" in scopes:
        found.append("manifests follow `data` where the two differ: one placement serves both")
    if _asks(scopes.get("relays", Conjunction(())), ("country", "parent", "region", "tier")):
        found.append("of a relay only operator and id are known: asking for more admits no relay")
    if rules.decrypt == "gateway":
        found.append("the operator of the gateway can read the data while it serves")
    return found


def _asks(expression: Expression, fields: tuple[str, ...]) -> bool:
    match expression:
        case Test(field, _, _):
            return field in fields
        case Not(part):
            return _asks(part, fields)
        case Conjunction(parts) | Some(parts):
            return any(_asks(part, fields) for part in parts)
        case _:
            return False


# --- one segment ---------------------------------------------------------------------------------


def explained(
    lying: Lying,
    nodes: Mapping[int, Candidate],
    policy: Policy,
    proven_ms: Mapping[int, int],
) -> SegmentExplained:
    """Return where a segment's pieces are, why, and what it survives."""
    against = violations(lying.pieces, nodes, policy)
    hard = {one.piece.index: one.text for one in against if one.hard}
    soft = {one.piece.index: one.text for one in against if not one.hard}
    places = [_place(piece, nodes, hard, soft, proven_ms) for piece in lying.pieces]
    there = {
        piece.index: nodes[piece.alias]
        for piece in lying.pieces
        if piece.alias in nodes
        and nodes[piece.alias].state in _THERE
        and not nodes[piece.alias].forfeit
    }
    domain, most = worst_domain(there.values())
    healthy = len(there)
    return SegmentExplained(
        segment=lying.segment,
        serial=lying.serial,
        plain_bytes=lying.plain_bytes,
        k=lying.k,
        n=lying.n,
        policy=lying.policy,
        places=places,
        healthy=healthy,
        survives_nodes=max(-1, healthy - lying.k),
        worst_domain=domain,
        worst_domain_pieces=most,
        survives_domain=healthy - most >= lying.k,
        packed=lying.packed,
    )


def worst_domain(nodes: Iterable[Candidate]) -> tuple[str, int]:
    """Return the operator, network or site with the most of some nodes, and how many it has."""
    held = Counter((fact, getattr(node, fact)) for node in nodes for fact in DOMAINS)
    if not held:
        return "", 0
    (fact, name), most = max(held.items(), key=lambda item: (item[1], item[0]))
    return f"{fact} {name}", most


def _place(
    piece: StoredPiece,
    nodes: Mapping[int, Candidate],
    hard: Mapping[int, str],
    soft: Mapping[int, str],
    proven_ms: Mapping[int, int],
) -> PlaceExplained:
    node = nodes.get(piece.alias)
    if node is None:
        return PlaceExplained(
            index=piece.index,
            alias=piece.alias,
            node_id=b"",
            operator="",
            site="",
            region="",
            country="",
            declared_country="",
            parent_country="",
            tier="",
            evidence="",
            network="",
            asn=0,
            relays=[],
            state="unknown",
            violation="its node is not known here",
        )
    subject = node.subject
    return PlaceExplained(
        index=piece.index,
        alias=piece.alias,
        node_id=node.node_id,
        operator=node.operator,
        site=node.site,
        region=subject.region,
        country=subject.country,
        declared_country=node.country,
        parent_country=subject.parent_country or subject.country,
        tier=subject.tier,
        evidence=subject.evidence.word,
        network=node.network,
        asn=node.asn,
        relays=[relay.operator for relay in node.relays],
        state=node.state.value,
        standing=node.standing.value,
        proven_ms=proven_ms.get(piece.alias, 0),
        violation=hard.get(piece.index, ""),
        soft=soft.get(piece.index, ""),
        labels=sorted(subject.certificates),
    )
