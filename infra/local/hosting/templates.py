"""Route templates of ASP.NET Core, parsed: `models/{id:int?}`, `files/{name}.{extension}`, `proxy/{*rest}`.

Source: https://learn.microsoft.com/aspnet/core/fundamentals/routing#route-templates
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from infra.local.hosting.constraints import Constraint, parse_constraint

Capture = Callable[[str], tuple[str, ...] | None]
"""The route values a path segment gives, or None when it does not fit."""

LITERAL, CONSTRAINED, PARAMETER, CONSTRAINED_CATCH_ALL, CATCH_ALL = range(1, 6)
"""Ranks of segments: the lower one is tried first (ASP.NET Core's inbound route precedence)."""

_BRACED = re.compile(r"\{((?:[^{}]|\{\{|\}\})*)\}")


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a template between slashes.

    Attributes:
        text: as written; literals in lower case, because ASP.NET ignores case in paths.
        rank: its place in the order of precedence.
        names: the route values it gives.
        capture: what takes them from a path segment (from the rest of the path, for a catch-all).
        optional: whether a path may end before it.
        default: the value when the path does.
    """

    text: str
    rank: int
    names: tuple[str, ...] = ()
    capture: Capture = lambda _segment: ()
    optional: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    constraints: tuple[Constraint, ...]
    catch_all: bool
    optional: bool
    default: str | None

    def accepts(self, value: str) -> bool:
        return all(constraint(value) for constraint in self.constraints)


def parse_template(template: str) -> tuple[Segment, ...]:
    """Parse a whole template, without its leading slash.

    Raises:
        ValueError: braces, names, constraints or the order of optional parts are wrong; the message quotes the part.
    """
    segments = tuple(_parse_segment(text) for text in _split(template) if text)
    names = [name.lower() for segment in segments for name in segment.names]
    if len(names) != len(set(names)):
        raise ValueError(f"the route {template!r} names a parameter twice")
    for segment, following in pairwise(segments):
        if segment.rank >= CONSTRAINED_CATCH_ALL:
            raise ValueError(f"the route {template!r} goes on after its catch-all")
        if segment.optional and not following.optional and following.rank < CONSTRAINED_CATCH_ALL:
            raise ValueError(f"the route {template!r} has a required part after an optional one")
    return segments


def _split(template: str) -> list[str]:
    """Cut at slashes outside braces: a regex constraint may hold one."""
    pieces, depth = [""], 0
    for character in template.strip("/"):
        depth += (character == "{") - (character == "}")
        if character == "/" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces


def _parse_segment(text: str) -> Segment:
    parts = _BRACED.split(text)
    literals, inner = parts[::2], parts[1::2]
    if any("{" in literal or "}" in literal for literal in literals):
        raise ValueError(f"the braces of the route part {text!r} do not match")
    if not inner:
        return Segment(text.lower(), LITERAL)
    parameters = [_parse_parameter(part, text) for part in inner]
    if len(parameters) == 1 and not any(literals):
        return _single(text, parameters[0])
    if any(parameter.catch_all or parameter.optional for parameter in parameters):
        raise ValueError(f"the route part {text!r} mixes text with a catch-all or optional parameter")
    return Segment(text, CONSTRAINED, tuple(p.name for p in parameters), _mixed_capture(literals, parameters))


def _single(text: str, parameter: _Parameter) -> Segment:
    def capture(value: str) -> tuple[str, ...] | None:
        return (value,) if parameter.accepts(value) else None

    rank = CATCH_ALL if parameter.catch_all else PARAMETER
    return Segment(
        text,
        rank - 1 if parameter.constraints else rank,
        (parameter.name,),
        capture,
        parameter.optional or parameter.default is not None,
        parameter.default,
    )


def _mixed_capture(literals: list[str], parameters: list[_Parameter]) -> Capture:
    """Text and parameters in one segment: each takes as much as it can, from the left, as in ASP.NET."""
    pattern = re.compile("(.+)".join(re.escape(literal) for literal in literals), re.IGNORECASE | re.DOTALL)

    def capture(value: str) -> tuple[str, ...] | None:
        match = pattern.fullmatch(value)
        if match is None or not all(p.accepts(v) for p, v in zip(parameters, match.groups(), strict=True)):
            return None
        return match.groups()

    return capture


def _parse_parameter(inner: str, whole: str) -> _Parameter:
    inner = inner.replace("{{", "{").replace("}}", "}")
    stars = len(inner) - len(inner.lstrip("*"))
    head, *constraint_texts = _split_constraints(inner[stars:])
    optional = False
    default: str | None = None
    last = constraint_texts[-1] if constraint_texts else head
    if last.endswith("?"):
        optional, last = True, last[:-1]
    elif "=" in last and not last.startswith("regex("):
        last, _, default = last.partition("=")
    if constraint_texts:
        constraint_texts[-1] = last
    else:
        head = last
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", head):
        raise ValueError(f"the route part {whole!r} has no valid parameter name")
    constraints = tuple(parse_constraint(text) for text in constraint_texts)
    return _Parameter(head, constraints, stars > 0, optional, default)


def _split_constraints(text: str) -> list[str]:
    """Cut at colons outside parentheses: `id:regex(^a:b$):minlength(3)`."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == ":" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces
