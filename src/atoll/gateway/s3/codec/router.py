"""From method, level and query names to the operation, compiled from the model."""

from collections.abc import Mapping
from dataclasses import dataclass

from atoll.gateway.s3.codec.model import Model, Operation
from atoll.gateway.s3.errors import S3Error, invalid_argument
from atoll.gateway.s3.quirks import UNROUTED

ROUTES_REMEMBERED_MAX = 4096
COPY_HEADER = "x-amz-copy-source"


@dataclass(frozen=True, slots=True)
class _Route:
    operation: Operation
    wanted: frozenset[str]
    """Query tokens that must be there: literals (``name`` or ``name=value``) and required."""
    literal_names: frozenset[str]
    copy: bool


class Router:
    """Finds the operation of a request, or says exactly why there is none."""

    def __init__(self, model: Model) -> None:
        self._routes: dict[tuple[str, str], list[_Route]] = {}
        self._fixed: dict[tuple[str, str], Operation] = {}
        self._literals: set[str] = set()
        self._tokens: set[str] = set()
        self._found: dict[tuple[str, str, frozenset[str], bool], Operation] = {}
        for operation in model.operations.values():
            if operation.fixed_path:
                self._fixed[(operation.method, operation.fixed_path)] = operation
            elif operation.name not in UNROUTED:
                self._add(model, operation)
        for routes in self._routes.values():
            routes.sort(key=lambda route: (-len(route.wanted) - route.copy, route.operation.name))

    def _add(self, model: Model, operation: Operation) -> None:
        literals = {f"{name}={value}" if value else name for name, value in operation.literals}
        required = set[str]()
        copy = False
        shape = model.shapes[operation.input] if operation.input else None
        for member in shape.members if shape else ():
            if member.name in (shape.required if shape else ()):
                if member.location == "querystring":
                    required.add(member.wire)
                copy = copy or member.wire == COPY_HEADER
        names = frozenset(name for name, _ in operation.literals)
        self._literals.update(names)
        self._tokens.update(literals | required)
        self._routes.setdefault((operation.method, operation.level), []).append(
            _Route(operation, frozenset(literals | required), names, copy)
        )

    def fixed(self, method: str, path: str) -> Operation | None:
        """Return the operation whose whole path is a constant, if this is one."""
        return self._fixed.get((method, path))

    def find(
        self, method: str, level: str, query: Mapping[str, str], has_copy_source: bool
    ) -> Operation:
        """Return the operation. Raises ``MethodNotAllowed`` or ``InvalidArgument``."""
        hits = []
        for name, value in query.items():
            if name in self._tokens:
                hits.append(name)
            elif name in self._literals:
                hits.append(f"{name}={value}")
        key = (method, level, frozenset(hits), has_copy_source)
        found = self._found.get(key)
        if found is None:
            found = self._search(method, level, key[2], has_copy_source, query)
            if len(self._found) < ROUTES_REMEMBERED_MAX:
                self._found[key] = found
        return found

    def _search(
        self,
        method: str,
        level: str,
        hits: frozenset[str],
        has_copy_source: bool,
        query: Mapping[str, str],
    ) -> Operation:
        for route in self._routes.get((method, level), ()):
            if route.wanted <= hits and (has_copy_source or not route.copy):
                self._check(route, hits, query)
                return route.operation
        raise S3Error("MethodNotAllowed", Method=method, ResourceType=level.upper())

    def _check(self, route: _Route, hits: frozenset[str], query: Mapping[str, str]) -> None:
        """Refuse a request whose query names another resource than the route found."""
        operation = route.operation
        if operation.method == "PUT" and operation.name in ("PutObject", "CopyObject"):
            for name in ("uploadId", "partNumber"):
                if name in hits:
                    raise invalid_argument(
                        name, query[name], "uploadId and partNumber belong together"
                    )
        for hit in hits:
            name = hit.partition("=")[0]
            if name in self._literals and name not in route.literal_names:
                if hit not in self._tokens:
                    raise invalid_argument(name, query[name])
                raise S3Error(
                    "MethodNotAllowed", Method=operation.method, ResourceType=name.upper()
                )
