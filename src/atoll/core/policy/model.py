"""What a policy is made of, and whether a party satisfies it.

Three-valued (Kleene): a fact that is not known makes a test neither true nor false, ``not`` keeps
it so, and only what is true is admitted. So "not in US" never admits a node of unknown country.

Normative text: ``docs/spec/policy.md``. Vectors: ``tests/golden/vectors/policy.json``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from atoll.core.countries import members

TIERS = ("edge", "home", "pro", "dc")
"""Kinds of place, the humblest first."""
SCOPES = ("data", "metadata", "gateway", "keys", "manifests", "relays")
"""What a policy may speak of. ``data``: pieces on nodes. ``metadata``: the coordinator and its
database. ``gateway``: who encrypts and serves. ``keys``: who holds the account's root key.
``manifests``: copies of the object list on nodes. ``relays``: who carries a node's traffic."""
DECRYPTERS = ("gateway", "owner")
"""Who can decrypt: the gateway that serves a managed bucket, or its owner alone (sealed)."""
SETS = ("country", "parent", "region", "operator", "certificate", "node")
"""Facts that are compared with lists."""
ORDERED = ("tier", "evidence")
"""Facts that have an order as well."""
FIELDS = (*SETS, *ORDERED)
NODE_HEX_MIN = 10
"""A node is named by at least so many hex digits of its id."""


class Evidence(IntEnum):
    """How well a location is known; never more is claimed than the class says."""

    DISPUTED = 0
    """What the party says and what its address says contradict each other."""
    DECLARED = 1
    """The party says so itself, under its signature. Nobody else does."""
    ADDRESS = 2
    """A local table of addresses agrees with what the party says."""
    CERTIFICATE = 3
    """An issuer that the coordinator trusts has signed it, for a time, and may revoke it."""

    @property
    def word(self) -> str:
        """The word of the language."""
        return self.name.lower()


EVIDENCES = tuple(evidence.word for evidence in Evidence)
_ORDERS = {"tier": TIERS, "evidence": EVIDENCES}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of a party: a node, a relay, a gateway, a coordinator. Empty: not known."""

    country: str = ""
    parent_country: str = ""
    """Country whose law binds the operator's parent; empty: as ``country``."""
    region: str = ""
    tier: str = ""
    operator: str = ""
    node_id: bytes = b""
    certificates: frozenset[str] = frozenset()
    """Labels of valid certificates, in lower case."""
    evidence: Evidence = Evidence.DECLARED
    """How well ``country`` is known."""


@dataclass(frozen=True, slots=True)
class Anywhere:
    """Admits every party."""


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison: ``comparison`` is ``in``, ``>=`` or ``<=``."""

    __test__ = False  # no test case, whatever its name makes collectors think

    field: str
    comparison: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True where the part is false."""

    part: "Expression"


@dataclass(frozen=True, slots=True)
class All:
    """True where all parts are: ``and``."""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Some:
    """True where at least one part is: ``or``."""

    parts: "tuple[Expression, ...]"


Expression = Anywhere | Test | Not | All | Some


def all_of(parts: Iterable[Expression]) -> Expression:
    """Return the conjunction in its one form: flat, and no conjunction of one."""
    flat: list[Expression] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, All) else (part,))
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def some_of(parts: Iterable[Expression]) -> Expression:
    """Return the disjunction in its one form: flat, and no disjunction of one."""
    flat: list[Expression] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Some) else (part,))
    return flat[0] if len(flat) == 1 else Some(tuple(flat))


def negation_of(part: Expression) -> Expression:
    """Return the negation in its one form: two of them cancel out."""
    return part.part if isinstance(part, Not) else Not(part)


# --- what is true --------------------------------------------------------------------------------


def truth(expression: Expression, subject: Subject) -> bool | None:
    """Return whether a party satisfies an expression; ``None`` where that is not known."""
    match expression:
        case Anywhere():
            return True
        case Test():
            return _tested(expression, subject)
        case Not(part):
            found = truth(part, subject)
            return None if found is None else not found
        case All(parts):
            return _least([truth(part, subject) for part in parts])
        case Some(parts):
            found = _least([_opposite(truth(part, subject)) for part in parts])
            return _opposite(found)


def _opposite(value: bool | None) -> bool | None:
    return None if value is None else not value


def _least(values: Iterable[bool | None]) -> bool | None:
    least: bool | None = True
    for value in values:
        if value is False:
            return False
        if value is None:
            least = None
    return least


@lru_cache(maxsize=4096)
def _countries(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(members(value) for value in values))


@lru_cache(maxsize=4096)
def _lowered(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(value.lower() for value in values)


def _tested(test: Test, subject: Subject) -> bool | None:
    if test.field == "certificate":
        return not subject.certificates.isdisjoint(_lowered(test.values))
    known = fact(test.field, subject)
    if not known:
        return None
    if test.field in _ORDERS:
        return _ranked(test, known)
    if test.field in ("country", "parent"):
        return known in _countries(test.values)
    if test.field == "node":
        return any(known.startswith(value.removeprefix("n-")) for value in _lowered(test.values))
    wanted = _lowered(test.values)
    known = known.lower()
    return known in wanted or any(
        value.endswith("*") and known.startswith(value[:-1]) for value in wanted
    )


def _ranked(test: Test, known: str) -> bool | None:
    order = _ORDERS[test.field]
    if known not in order:
        return None
    if test.comparison == "in":
        return known in test.values
    rank, bound = order.index(known), order.index(test.values[0])
    return rank >= bound if test.comparison == ">=" else rank <= bound


def fact(field: str, subject: Subject) -> str:
    """Return a party's fact by its word in the language; empty where it is not known."""
    match field:
        case "country":
            return subject.country
        case "parent":
            return subject.parent_country or subject.country
        case "region":
            return subject.region
        case "tier":
            return subject.tier
        case "operator":
            return subject.operator
        case "node":
            return subject.node_id.hex()
        case "evidence":
            return subject.evidence.word
        case _:
            return ", ".join(sorted(subject.certificates))


def lacking(expression: Expression, subject: Subject) -> tuple[Expression, ...]:
    """Return the parts that keep a party from being admitted, the smallest that say it."""
    if truth(expression, subject) is True:
        return ()
    if isinstance(expression, All):
        return tuple(part for whole in expression.parts for part in lacking(whole, subject))
    return (expression,)


# --- policies ------------------------------------------------------------------------------------

ANYWHERE = Anywhere()


@dataclass(frozen=True, slots=True)
class Rules:
    """A whole policy: an expression per scope, and who may be able to decrypt.

    ``scopes`` are in the order of ``SCOPES``; what is not named may be anywhere, but manifests,
    which tell the names of objects, may lie only where the data may.
    """

    scopes: tuple[tuple[str, Expression], ...] = ()
    decrypt: str = ""
    """One of ``DECRYPTERS``; empty: either."""

    def expression(self, scope: str) -> Expression:
        """Return what is asked of a scope's parties."""
        named = dict(self.scopes)
        if scope == "manifests":
            return named.get(scope, named.get("data", ANYWHERE))
        return named.get(scope, ANYWHERE)

    def admits(self, scope: str, subject: Subject) -> bool:
        """Say whether a party is known to satisfy a scope's expression."""
        return truth(self.expression(scope), subject) is True

    def lacking(self, scope: str, subject: Subject) -> tuple[Expression, ...]:
        """Return what a party lacks for a scope; empty where it is admitted."""
        return lacking(self.expression(scope), subject)


RULES_ANYWHERE = Rules()
"""The policy of buckets that have none: everything may be anywhere."""
