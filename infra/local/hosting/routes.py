"""The route table: compiled once at start, then one walk down a tree per request.

Like the Azure Functions host: paths are compared without regard to case, a trailing slash is ignored, and a route
whose methods do not include the request's is no match at all, so the answer is 404 and not 405
(https://github.com/Azure/azure-functions-host/issues/10098).

Unlike it: literal text goes before parameters, as everywhere else in ASP.NET Core. Azure tries functions in
alphabetical order of their names (https://github.com/Azure/azure-functions-host/issues/9876), so of two overlapping
routes it may take the other one. `RouteTable.conflicts` names each such pair, and the host prints them at start.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote

from infra.local.hosting.errors import IndexingFailed
from infra.local.hosting.templates import CONSTRAINED_CATCH_ALL, LITERAL, Capture, Segment, parse_template

Target = TypeVar("Target")

_ANY = "*"


@dataclass(frozen=True, slots=True)
class Route(Generic[Target]):
    """A function's place in the table.

    Attributes:
        name: of the function.
        template: with the route prefix.
        methods: upper case; empty means all.
        target: what the table hands back.
    """

    name: str
    template: str
    methods: frozenset[str]
    target: Target


@dataclass(frozen=True, slots=True)
class _Leaf(Generic[Target]):
    target: Target
    names: tuple[str, ...]
    defaults: tuple[tuple[str, str], ...]


_Leaves = dict[str, _Leaf[Target]]


@dataclass(slots=True)
class _Node(Generic[Target]):
    literals: dict[str, "_Node[Target]"] = field(default_factory=dict)
    parameters: dict[tuple[int, str], tuple[Capture, "_Node[Target]"]] = field(default_factory=dict)
    catch_alls: dict[tuple[int, str], tuple[Capture, _Leaves[Target]]] = field(default_factory=dict)
    leaves: _Leaves[Target] = field(default_factory=dict)

    def sort(self) -> None:
        """Put lower ranks first, keeping the order of insertion within a rank."""
        self.parameters = dict(sorted(self.parameters.items(), key=lambda item: item[0][0]))
        self.catch_alls = dict(sorted(self.catch_alls.items(), key=lambda item: item[0][0]))
        for child in (*self.literals.values(), *(child for _, child in self.parameters.values())):
            child.sort()


class Match(NamedTuple, Generic[Target]):
    """What a request found: the target and the route values, decoded."""

    target: Target
    path_params: dict[str, str]


class RouteTable(Generic[Target]):
    """Finds the function for a method and a path.

    Args:
        routes: in any order.

    Raises:
        IndexingFailed: a template is malformed; the message names the function.
    """

    def __init__(self, routes: Iterable[Route[Target]]) -> None:
        self._root: _Node[Target] = _Node()
        self._literal: dict[str, _Leaves[Target]] = {}
        ordered = sorted(routes, key=lambda route: route.name.upper())
        parsed = [(route, _parse(route)) for route in ordered]
        for route, segments in parsed:
            for variant in _variants(segments):
                self._add(route, variant, segments[len(variant) :])
        self._root.sort()
        self.conflicts: tuple[str, ...] = tuple(_conflicts(parsed))

    def match(self, method: str, path: str, raw_path: bytes = b"") -> Match[Target] | None:
        """The function for a request, or None.

        Args:
            method: upper case.
            path: percent-decoded.
            raw_path: as sent. ASP.NET leaves `%2F` inside a segment undecoded, so it must be seen here.
        """
        if (leaves := self._literal.get(path.lower())) and (leaf := leaves.get(method) or leaves.get(_ANY)):
            return Match(leaf.target, dict(leaf.defaults))
        if b"%2" in raw_path and b"%2f" in raw_path.lower():
            segments = [_unquote_segment(piece) for piece in raw_path.decode("ascii", "replace").split("/")]
        else:
            segments = path.split("/")
        if segments and segments[0] == "":
            del segments[0]
        if segments and segments[-1] == "":
            del segments[-1]
        return _walk(self._root, segments, 0, method, ())

    def _add(self, route: Route[Target], segments: tuple[Segment, ...], left_out: tuple[Segment, ...]) -> None:
        node, names = self._root, tuple(name for segment in segments for name in segment.names)
        defaults = tuple((segment.names[0], segment.default) for segment in left_out if segment.default is not None)
        leaf = _Leaf(route.target, names, defaults)
        methods = route.methods or {_ANY}
        if all(segment.rank == LITERAL for segment in segments):
            leaves = self._literal.setdefault("/" + "/".join(segment.text for segment in segments), {})
            for method in methods:
                leaves.setdefault(method, leaf)
        for segment in segments:
            key = (segment.rank, segment.text)
            if segment.rank == LITERAL:
                node = node.literals.setdefault(segment.text, _Node())
            elif segment.rank < CONSTRAINED_CATCH_ALL:
                node = node.parameters.setdefault(key, (segment.capture, _Node()))[1]
            else:
                leaves = node.catch_alls.setdefault(key, (segment.capture, {}))[1]
                for method in methods:
                    leaves.setdefault(method, leaf)
                return
        for method in methods:
            node.leaves.setdefault(method, leaf)


def _walk(
    node: _Node[Target], segments: list[str], depth: int, method: str, values: tuple[str, ...]
) -> Match[Target] | None:
    if depth == len(segments):
        if leaf := node.leaves.get(method) or node.leaves.get(_ANY):
            return _found(leaf, values)
    else:
        segment = segments[depth]
        child = node.literals.get(segment.lower())
        if child and (found := _walk(child, segments, depth + 1, method, values)):
            return found
        if segment:
            for capture, child in node.parameters.values():
                captured = capture(segment)
                if captured is not None and (found := _walk(child, segments, depth + 1, method, values + captured)):
                    return found
    rest = "/".join(segments[depth:])
    for capture, leaves in node.catch_alls.values():
        leaf = leaves.get(method) or leaves.get(_ANY)
        if leaf and (captured := capture(rest)) is not None:
            return _found(leaf, values + captured if rest else values)
    return None


def _found(leaf: _Leaf[Target], values: tuple[str, ...]) -> Match[Target]:
    # An empty catch-all gives no value, so there may be one value fewer than names.
    return Match(leaf.target, dict(leaf.defaults) | dict(zip(leaf.names, values, strict=False)))


def _unquote_segment(piece: str) -> str:
    return "%2F".join(unquote(part) for part in piece.replace("%2f", "%2F").split("%2F"))


def _parse(route: Route[Target]) -> tuple[Segment, ...]:
    try:
        return parse_template(route.template)
    except ValueError as error:
        raise IndexingFailed(f"Function {route.name}: {error}.") from error


def _variants(segments: tuple[Segment, ...]) -> Iterator[tuple[Segment, ...]]:
    """The template and its shorter forms: without its optional parts, from the end."""
    yield segments
    while segments and segments[-1].optional:
        segments = segments[:-1]
        yield segments


def _conflicts(parsed: list[tuple[Route[Target], tuple[Segment, ...]]]) -> Iterator[str]:
    """Pairs that Azure, which tries functions by name, may decide otherwise; `parsed` is in that order."""
    for (first, early), (second, late) in combinations(parsed, 2):
        if first.methods and second.methods and not first.methods & second.methods:
            continue
        if not any(_overlap(a, b) for a in _variants(early) for b in _variants(late)):
            continue
        early_ranks, late_ranks = [s.rank for s in early], [s.rank for s in late]
        if late_ranks < early_ranks:
            yield (
                f"Route {first.template} of {first.name} hides {second.template} of {second.name} in Azure, which tries"
                " functions in alphabetical order of their names; this host prefers the more specific route. Rename one"
                " function or constrain the parameter."
            )
        elif late_ranks == early_ranks:
            yield (
                f"Routes {first.template} of {first.name} and {second.template} of {second.name} overlap:"
                f" {first.name} answers for both."
            )


def _overlap(first: tuple[Segment, ...], second: tuple[Segment, ...]) -> bool:
    """Whether some path fits both; errs towards yes for two parameters with constraints."""
    for catch_all, other in ((first, second), (second, first)):
        if catch_all and catch_all[0].rank >= CONSTRAINED_CATCH_ALL:
            is_literal = all(segment.rank == LITERAL for segment in other)
            return not is_literal or catch_all[0].capture("/".join(segment.text for segment in other)) is not None
    if not first or not second:
        return not first and not second
    a, b = first[0], second[0]
    if a.rank == LITERAL and b.rank == LITERAL:
        fits = a.text == b.text
    elif a.rank == LITERAL:
        fits = b.capture(a.text) is not None
    else:
        fits = b.rank != LITERAL or a.capture(b.text) is not None
    return fits and _overlap(first[1:], second[1:])
