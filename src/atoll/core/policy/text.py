"""The policy language: ``parse`` reads it, ``show`` writes its one canonical form.

``parse(show(rules)) == rules``. Keywords and countries may be written in any case. Errors say line
and column, what was found and what may stand there.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from atoll.core.countries import COUNTRIES, GROUPS, is_place
from atoll.core.errors import AtollError, Kind
from atoll.core.policy.model import (
    ANYWHERE,
    DECRYPTERS,
    EVIDENCES,
    FIELDS,
    NODE_HEX_MIN,
    ORDERED,
    SCOPES,
    SETS,
    TIERS,
    All,
    Anywhere,
    Expression,
    Not,
    Rules,
    Some,
    Subject,
    Test,
    all_of,
    fact,
    negation_of,
    some_of,
)

TEXT_CHARACTERS_MAX = 4096
DEPTH_MAX = 32
"""Parentheses and negations within each other."""
VALUES_MAX = 300
"""Values of one list."""
VALUE_CHARACTERS_MAX = 128
_KEYWORDS = frozenset(("and", "or", "not", "in", "is", "decrypt", "by", "anywhere"))
_TOKEN = re.compile(
    r"(?P<space>\s+|\#[^\n]*)"
    r'|(?P<text>"(?:[^"\\\n]|\\["\\])*")'
    r"|(?P<word>[A-Za-z0-9_][A-Za-z0-9_.*-]*)"
    r"|(?P<sign>>=|<=|=|,|;|:|\(|\))"
)
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.*-]*\Z")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """``word``, ``text``, ``sign`` or ``end``."""
    value: str
    place: int

    @property
    def lower(self) -> str:
        return self.value.lower() if self.kind == "word" else ""

    @property
    def shown(self) -> str:
        return "the end" if self.kind == "end" else repr(self.value)


def parse(text: str) -> Rules:
    """Read a policy. Raises ``BAD_REQUEST`` with line and column of what cannot be."""
    if len(text) > TEXT_CHARACTERS_MAX:
        raise AtollError(
            Kind.BAD_REQUEST,
            "read policy",
            f"a policy has at most {TEXT_CHARACTERS_MAX} characters, not {len(text)}",
        )
    return _Parser(text).rules()


class _Parser:
    """Reads one text by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._cut())
        self._at = 0
        self._depth = 0

    def _cut(self) -> Iterator[_Token]:
        place = 0
        while place < len(self._text):
            match = _TOKEN.match(self._text, place)
            if match is None:
                found = self._text[place]
                if found == '"':
                    self._refuse(place, "this quotation does not end on its line", 'end it with "')
                self._refuse(place, f"{found!r} means nothing here", "put names in quotation marks")
            kind = str(match.lastgroup)
            if kind == "text":
                value = re.sub(r"\\(.)", r"\1", match.group()[1:-1])
                yield _Token(kind, value, place)
            elif kind != "space":
                yield _Token(kind, match.group(), place)
            place = match.end()
        yield _Token("end", "", len(self._text))

    def _refuse(self, place: int, message: str, hint: str) -> NoReturn:
        line = self._text.count("\n", 0, place) + 1
        column = place - self._text.rfind("\n", 0, place)
        raise AtollError(
            Kind.BAD_REQUEST,
            "read policy",
            f"line {line}, column {column}: {message}",
            hint=hint,
        )

    # --- tokens -----------------------------------------------------------------------------

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _ahead(self, steps: int) -> _Token:
        return self._tokens[min(self._at + steps, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._now
        if token.kind != "end":
            self._at += 1
        return token

    def _took(self, value: str) -> bool:
        """Take a keyword or sign if it is next."""
        token = self._now
        if token.kind in ("word", "sign") and token.value.lower() == value:
            self._at += 1
            return True
        return False

    # --- clauses ----------------------------------------------------------------------------

    def rules(self) -> Rules:
        """Read clauses to the end."""
        scopes: dict[str, Expression] = {}
        decrypt = ""
        while self._now.kind != "end":
            token = self._now
            if self._took("decrypt"):
                if decrypt:
                    self._refuse(token.place, "who can decrypt is said twice", "say it once")
                decrypt = self._decrypter()
            else:
                scope = self._scope()
                if scope in scopes:
                    self._refuse(token.place, f"{scope} is said twice", "join both with `and`")
                scopes[scope] = self._some()
            self._between()
        found = tuple((s, scopes[s]) for s in SCOPES if s in scopes)
        return Rules(tuple(pair for pair in found if _says_something(pair, scopes)), decrypt)

    def _between(self) -> None:
        """Stand between two clauses, or at the end."""
        if self._took(";") or self._now.kind == "end" or self._now.lower == "decrypt":
            return
        if self._now.kind == "word" and self._ahead(1).value == ":":
            return
        self._refuse(
            self._now.place,
            f"{self._now.shown} cannot follow",
            "go on with `and`, `or`, or `;` and a further clause",
        )

    def _scope(self) -> str:
        if self._ahead(1).kind != "sign" or self._ahead(1).value != ":":
            return "data"
        token = self._take()
        self._take()
        if token.lower not in SCOPES:
            self._refuse(token.place, f"there is no {token.shown} to rule", _nearest(token, SCOPES))
        return token.lower

    def _decrypter(self) -> str:
        self._took("by")
        token = self._take()
        if token.lower not in DECRYPTERS:
            self._refuse(
                token.place, f"{token.shown} is nobody who decrypts", "say `gateway` or `owner`"
            )
        return token.lower

    # --- expressions ------------------------------------------------------------------------

    def _some(self) -> Expression:
        parts = [self._all()]
        while self._took("or"):
            parts.append(self._all())
        return some_of(parts)

    def _all(self) -> Expression:
        parts = [self._one()]
        while self._took("and"):
            parts.append(self._one())
        return all_of(parts)

    def _one(self) -> Expression:
        token = self._now
        if self._depth >= DEPTH_MAX:
            self._refuse(token.place, f"nested deeper than {DEPTH_MAX}", "write it flatter")
        self._depth += 1
        try:
            if self._took("not"):
                return negation_of(self._one())
            if self._took("("):
                inner = self._some()
                if not self._took(")"):
                    self._refuse(self._now.place, f"{self._now.shown} for `)`", "close it")
                return inner
            if self._took("anywhere"):
                return ANYWHERE
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Expression:
        token = self._take()
        field = token.lower
        if field not in FIELDS:
            self._refuse(token.place, f"there is no fact {token.shown}", _nearest(token, FIELDS))
        if field in ORDERED:
            for sign in (">=", "<="):
                if self._took(sign):
                    return Test(field, sign, (self._value(field),))
        negated = self._took("is") and self._took("not")
        negated = (not negated and self._took("not")) or negated
        if not self._took("in"):
            self._took("=")
        values = [self._value(field)]
        while self._took(","):
            values.append(self._value(field))
            if len(values) > VALUES_MAX:
                self._refuse(token.place, f"a list has at most {VALUES_MAX} values", "shorten it")
        test = Test(field, "in", tuple(dict.fromkeys(values)))
        return Not(test) if negated else test

    def _value(self, field: str) -> str:
        token = self._take()
        if token.kind not in ("word", "text") or token.lower in _KEYWORDS or not token.value:
            self._refuse(token.place, f"{token.shown} for a value of {field}", _example(field))
        value = token.value
        if len(value) > VALUE_CHARACTERS_MAX or not value.isprintable():
            self._refuse(token.place, f"no {field} is like that", _example(field))
        if field in ("country", "parent"):
            value = value.upper()
            if not is_place(value):
                self._refuse(
                    token.place,
                    f"{token.shown} is no country or group",
                    f"two letters of ISO 3166, or one of {', '.join(GROUPS)}"
                    if len(value) == 2
                    else _nearest(token, (*GROUPS, *COUNTRIES)),
                )
        elif field in ORDERED:
            value = value.lower()
            words = TIERS if field == "tier" else EVIDENCES
            if value not in words:
                self._refuse(token.place, f"{token.shown} is no {field}", _nearest(token, words))
        elif field == "node":
            value = value.lower().removeprefix("n-")
            if not re.fullmatch(f"[0-9a-f]{{{NODE_HEX_MIN},64}}", value):
                self._refuse(token.place, f"{token.shown} is no node", _example(field))
        elif field == "region":
            value = value.lower()
        return value


def _says_something(pair: tuple[str, Expression], scopes: dict[str, Expression]) -> bool:
    """Say whether a clause differs from what holds without it."""
    scope, expression = pair
    if scope == "manifests" and scopes.get("data", ANYWHERE) != ANYWHERE:
        return expression != scopes["data"]
    return expression != ANYWHERE


def _nearest(token: _Token, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(token.value.lower(), [w.lower() for w in words], 1, 0.6)
    if near:
        return f"did you mean {next(w for w in words if w.lower() == near[0])}?"
    shown = words if len(words) < 20 else (*GROUPS, "or two letters of ISO 3166")
    return f"it may be {', '.join(shown)}"


def _example(field: str) -> str:
    return {
        "country": "as `country in DE, AT` or `country in EU`",
        "parent": "as `parent not in US`",
        "region": "as `region in eu-central, eu-*`",
        "operator": 'as `operator in "Harbour Ltd"`',
        "certificate": 'as `certificate "ISO27001"`',
        "node": f"as `node in n-0123456789`: at least {NODE_HEX_MIN} hex digits of its id",
        "tier": f"one of {', '.join(TIERS)}",
        "evidence": f"one of {', '.join(EVIDENCES)}",
    }[field]


# --- the canonical form --------------------------------------------------------------------------


def show(rules: Rules) -> str:
    """Return a policy's canonical text, on one line; ``anywhere`` for one that asks nothing."""
    clauses = [
        show_expression(expression)
        if scope == "data"
        else f"{scope}: {show_expression(expression)}"
        for scope, expression in rules.scopes
    ]
    if rules.decrypt:
        clauses.append(f"decrypt by {rules.decrypt}")
    return "; ".join(clauses) or "anywhere"


def show_expression(expression: Expression) -> str:
    """Return an expression's canonical text."""
    match expression:
        case Anywhere():
            return "anywhere"
        case Test():
            return _show_test(expression, negated=False)
        case Not(Test(_, "in", _) as test):
            return _show_test(test, negated=True)
        case Not(part):
            return f"not {_inner(part, simple=(Test, Anywhere))}"
        case All(parts):
            return " and ".join(_inner(part, simple=(Test, Not, Anywhere)) for part in parts)
        case Some(parts):
            return " or ".join(_inner(part, simple=(Test, Not, All, Anywhere)) for part in parts)


def _inner(part: Expression, simple: tuple[type, ...]) -> str:
    shown = show_expression(part)
    return shown if isinstance(part, simple) else f"({shown})"


def _show_test(test: Test, *, negated: bool) -> str:
    values = ", ".join(_show_value(test.field, value) for value in test.values)
    if test.comparison != "in":
        return f"{test.field} {test.comparison} {values}"
    if negated:
        return f"{test.field} not in {values}"
    if test.field == "certificate" and len(test.values) == 1:
        return f"certificate {values}"
    return f"{test.field} in {values}"


def _show_value(field: str, value: str) -> str:
    if field in SETS and field in ("operator", "certificate"):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if not _PLAIN.match(value) or value.lower() in _KEYWORDS:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value


def lack_words(who: str, scope: str, rules: Rules, subject: Subject) -> list[str]:
    """Say in words what a party lacks for a scope of a policy; nothing where it is admitted."""
    return [
        f"{who} does not satisfy `{scope}: {show_expression(part)}`{_because(part, subject)}"
        for part in rules.lacking(scope, subject)
    ]


def _because(part: Expression, subject: Subject) -> str:
    test = part.part if isinstance(part, Not) else part
    if not isinstance(test, Test):
        return ""
    return f" ({test.field} is {fact(test.field, subject) or 'not known'})"
