"""The policy language: one canonical form, and the meaning a plain evaluator gives it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.countries import COUNTRIES, GROUPS
from atoll.core.errors import AtollError
from atoll.core.policy.model import (
    ANYWHERE,
    EVIDENCES,
    SCOPES,
    TIERS,
    All,
    Anywhere,
    Evidence,
    Expression,
    Not,
    Rules,
    Some,
    Subject,
    Test,
    all_of,
    lacking,
    negation_of,
    some_of,
    truth,
)
from atoll.core.policy.text import TEXT_CHARACTERS_MAX, lack_words, parse, show

LANDS = ("DE", "AT", "US", "CH", "FR")
NAMES = ("acme", "Harbour Ltd", 'a "b" \\ c', "and", "ISO27001", "x-*")


def lists_of(field: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[Expression]:
    many = st.lists(values, min_size=1, max_size=3, unique=True).map(tuple)
    return st.builds(Test, st.just(field), st.just("in"), many)


def ordered(field: str, words: tuple[str, ...]) -> st.SearchStrategy[Expression]:
    one = st.sampled_from(words).map(lambda word: (word,))
    return st.builds(Test, st.just(field), st.sampled_from((">=", "<=")), one)


LEAVES = st.one_of(
    lists_of("country", st.sampled_from((*LANDS, "EU", "DACH"))),
    lists_of("parent", st.sampled_from(LANDS)),
    lists_of("region", st.sampled_from(("eu-central", "eu-*", "us-1"))),
    lists_of("operator", st.sampled_from(NAMES)),
    lists_of("certificate", st.sampled_from(NAMES)),
    lists_of("node", st.sampled_from(("0123456789", "ff" * 32))),
    lists_of("tier", st.sampled_from(TIERS)),
    ordered("tier", TIERS),
    ordered("evidence", EVIDENCES),
    st.just(ANYWHERE),
)
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(negation_of),
        st.lists(inner, min_size=1, max_size=3).map(all_of),
        st.lists(inner, min_size=1, max_size=3).map(some_of),
    ),
    max_leaves=12,
)
SUBJECTS = st.builds(
    Subject,
    country=st.sampled_from(("", *LANDS)),
    parent_country=st.sampled_from(("", *LANDS)),
    region=st.sampled_from(("", "eu-central", "eu-west", "us-1", "EU-CENTRAL")),
    tier=st.sampled_from(("", *TIERS)),
    operator=st.sampled_from(("", "ACME", *NAMES, "x-ray")),
    node_id=st.sampled_from((b"", bytes.fromhex("0123456789" + "00" * 27), b"\xff" * 32)),
    certificates=st.frozensets(st.sampled_from([name.lower() for name in NAMES]), max_size=3),
    evidence=st.sampled_from(Evidence),
)


def brute(expression: Expression, subject: Subject) -> float:
    """Kleene's logic as minimum and maximum of 0, ½ and 1, facts looked up by hand."""
    match expression:
        case Anywhere():
            return 1
        case Not(part):
            return 1 - brute(part, subject)
        case All(parts):
            return min(brute(part, subject) for part in parts)
        case Some(parts):
            return max(brute(part, subject) for part in parts)
        case Test(field, comparison, values):
            return brute_test(field, comparison, values, subject)


def brute_test(field: str, comparison: str, values: tuple[str, ...], subject: Subject) -> float:
    if field == "certificate":
        return float(any(value.lower() in subject.certificates for value in values))
    known = {
        "country": subject.country,
        "parent": subject.parent_country or subject.country,
        "region": subject.region.lower(),
        "operator": subject.operator.lower(),
        "node": subject.node_id.hex(),
        "tier": subject.tier,
        "evidence": subject.evidence.name.lower(),
    }[field]
    if not known:
        return 0.5
    if field in ("tier", "evidence"):
        order = TIERS if field == "tier" else EVIDENCES
        ranks = [order.index(value) for value in values]
        rank = order.index(known)
        if comparison == ">=":
            return float(rank >= ranks[0])
        return float(rank <= ranks[0] if comparison == "<=" else rank in ranks)
    for value in values:
        wanted = value.lower()
        if field in ("country", "parent") and known in GROUPS.get(value, {value}):
            return 1
        if field == "node" and known.startswith(wanted):
            return 1
        if field in ("region", "operator") and (
            known == wanted or (wanted.endswith("*") and known.startswith(wanted[:-1]))
        ):
            return 1
    return 0


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, SUBJECTS)
def test_an_expression_means_what_a_plain_evaluator_says(
    expression: Expression, subject: Subject
) -> None:
    expected = {0: False, 0.5: None, 1: True}[brute(expression, subject)]
    assert truth(expression, subject) is expected
    assert (lacking(expression, subject) == ()) is (expected is True)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from(SCOPES), EXPRESSIONS, max_size=3),
    st.sampled_from(("", "gateway", "owner")),
    SUBJECTS,
)
def test_what_is_shown_reads_back_to_the_same_and_admits_the_same(
    scopes: dict[str, Expression], decrypt: str, subject: Subject
) -> None:
    rules = Rules(tuple((s, scopes[s]) for s in SCOPES if s in scopes), decrypt)
    text = show(rules)
    if len(text) > TEXT_CHARACTERS_MAX:
        return
    back = parse(text)
    assert show(back) == show(parse(show(back)))
    assert parse(show(back)) == back
    for scope in SCOPES:
        assert back.admits(scope, subject) is rules.admits(scope, subject)


def test_unknown_facts_never_admit() -> None:
    nobody = Subject()
    assert not parse("country not in US").admits("data", nobody)
    assert not parse("parent not in US").admits("data", nobody)
    assert parse("country not in US").admits("data", Subject(country="DE"))
    assert not parse("parent not in US").admits("data", Subject(country="DE", parent_country="US"))


def test_a_parent_that_is_not_said_is_the_country_itself() -> None:
    assert not parse("parent not in US").admits("data", Subject(country="US"))


def test_manifests_follow_the_data_unless_they_are_named() -> None:
    german = Subject(country="DE")
    assert not parse("country in FR").admits("manifests", german)
    assert parse("country in FR; manifests: anywhere").admits("manifests", german)
    assert show(parse("country in FR; manifests: country in FR")) == "country in FR"


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("cuntry in DE", "line 1, column 1", "country"),
        ("country in\n  DE, Germny", "line 2, column 7", "GERMANY|NORDICS|group|two letters|mean"),
        ("tier >= proo", "line 1, column 9", "did you mean pro"),
        ('operator in "a', "line 1, column 13", "end it"),
        ("country in DE or", "line 1, column 17", "it may be"),
        ("metadata: x", "line 1, column 11", "may be"),
        ("country in DE; country in AT", "line 1, column 16", "and"),
        ("country in ?", "line 1, column 12", "quotation"),
    ],
)
def test_an_error_says_where_and_what_may_stand_there(text: str, place: str, hint: str) -> None:
    with pytest.raises(AtollError, match=place) as caught:
        parse(text)
    assert re.search(hint, caught.value.hint)


def test_lengths_and_depths_are_bounded() -> None:
    with pytest.raises(AtollError, match="at most"):
        parse("country in DE or " * 400 + "anywhere")
    with pytest.raises(AtollError, match="nested deeper"):
        parse("(" * 40 + "anywhere" + ")" * 40)


def test_a_lack_is_told_with_the_fact() -> None:
    words = lack_words("node 3", "data", parse("country in DE and tier >= pro"), Subject("US"))
    assert words == [
        "node 3 does not satisfy `data: country in DE` (country is US)",
        "node 3 does not satisfy `data: tier >= pro` (tier is not known)",
    ]


def test_groups_are_made_of_countries_and_named_unlike_any() -> None:
    for name, members in GROUPS.items():
        assert members <= COUNTRIES
        assert name not in COUNTRIES
    assert len(GROUPS["EU"]) == 27
    assert len(COUNTRIES) == 249


def test_certificates_are_compared_without_regard_to_case() -> None:
    holder = replace(Subject(), certificates=frozenset({"iso27001"}))
    assert parse('certificate "ISO27001"').admits("data", holder)
    assert not parse('not certificate "iso27001"').admits("data", holder)
