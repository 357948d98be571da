"""Inline constraints of ASP.NET Core routes, as Azure Functions applies them to route parameters.

Source: https://learn.microsoft.com/aspnet/core/fundamentals/routing#route-constraints
"""

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation

Constraint = Callable[[str], bool]
"""Whether a route value satisfies it."""

_INT32, _INT64 = 2**31, 2**63
_GUID = re.compile(
    r"[0-9a-f]{32}|\{[0-9a-f-]{36}\}|\([0-9a-f-]{36}\)|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE
)
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")


def parse_constraint(text: str) -> Constraint:
    """One constraint as it stands behind a colon: `int`, `length(3,8)`, `regex(^[a-z]+$)`.

    Raises:
        ValueError: there is no such constraint, or its arguments do not fit.
    """
    name, parenthesis, rest = text.partition("(")
    if not parenthesis:
        return _without_arguments(name)
    if not rest.endswith(")"):
        raise ValueError(f"the constraint {text!r} lacks its closing parenthesis")
    if name == "regex":
        return _regex(rest[:-1])
    try:
        bounds = [int(bound) for bound in rest[:-1].split(",")]
    except ValueError:
        raise ValueError(f"the constraint {text!r} takes whole numbers") from None
    return _with_bounds(text, name, bounds)


def _without_arguments(name: str) -> Constraint:
    try:
        return _SIMPLE[name.lower()]
    except KeyError:
        raise ValueError(f"there is no route constraint {name!r}") from None


def _regex(pattern: str) -> Constraint:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"the route constraint regex({pattern}) is no regular expression: {error}") from error
    return lambda value: compiled.search(value) is not None


def _with_bounds(text: str, name: str, bounds: list[int]) -> Constraint:
    match name.lower(), bounds:
        case "minlength", [least]:
            return lambda value: len(value) >= least
        case "maxlength", [most]:
            return lambda value: len(value) <= most
        case "length", [exactly]:
            return lambda value: len(value) == exactly
        case "length", [least, most]:
            return lambda value: least <= len(value) <= most
        case "min", [least]:
            return lambda value: _is_long(value) and int(value) >= least
        case "max", [most]:
            return lambda value: _is_long(value) and int(value) <= most
        case "range", [least, most]:
            return lambda value: _is_long(value) and least <= int(value) <= most
    raise ValueError(f"there is no route constraint {text!r}")


def _is_int(value: str) -> bool:
    return _WHOLE.fullmatch(value) is not None and -_INT32 <= int(value) < _INT32


def _is_long(value: str) -> bool:
    return _WHOLE.fullmatch(value) is not None and -_INT64 <= int(value) < _INT64


def _is_decimal(value: str) -> bool:
    try:
        return Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _is_float(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _is_datetime(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


_SIMPLE: dict[str, Constraint] = {
    "int": _is_int,
    "long": _is_long,
    "bool": lambda value: value.strip().lower() in {"true", "false"},
    "decimal": _is_decimal,
    "double": _is_float,
    "float": _is_float,
    "datetime": _is_datetime,
    "guid": lambda value: _GUID.fullmatch(value) is not None,
    "alpha": lambda value: value.isascii() and value.isalpha(),
    "required": lambda value: value.strip() != "",
}
