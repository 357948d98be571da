"""A small valid instance of a JSON Schema, always the same one: tool arguments and structured answers.

Covers what vendors accept for tools and structured output: type (also a list, also upper case as in Google's Schema),
properties, required, enum, const, items, prefixItems, minItems, maxItems, uniqueItems, minimum, maximum,
exclusiveMinimum, exclusiveMaximum, multipleOf, anyOf/oneOf (first branch), allOf, $ref with $defs or definitions,
format, minLength, maxLength. `pattern`, `not` and `if` are not read.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

_MAX_DEPTH = 24
_WITHIN: Mapping[str, Callable[[float, float], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}
_TURNS = (math.floor, math.ceil)
_FORMATS = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "duration": "PT1H",
    "email": "simulated@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class UnsupportedSchema(ValueError):
    """No instance can be built; the message says where."""


def instance_of(schema: Mapping[str, Any], text: str = "simulated") -> Any:
    """Build an instance.

    Args:
        schema: the root schema; references are resolved in it.
        text: what free strings say.

    Raises:
        UnsupportedSchema: a reference leads nowhere, or nothing finite satisfies it.
    """
    return _Builder(schema, text).build(schema, 0)


class _Builder:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text

    def build(self, schema: Any, depth: int) -> Any:
        if schema is True:
            return self._text
        if not isinstance(schema, Mapping):
            raise UnsupportedSchema("a schema must be an object")
        if depth > _MAX_DEPTH:
            raise UnsupportedSchema("the schema refers to itself without an end")
        schema = self._flatten(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return self._string(schema)
        if kind in {"integer", "number"}:
            return _number(schema, whole=kind == "integer")
        return {"boolean": True, "null": None}.get(kind, self._text)

    def _flatten(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Resolve a reference and fold the chosen branches into one schema."""
        for _ in range(_MAX_DEPTH):
            if "$ref" in schema or "ref" in schema:
                target = self._resolve(schema.get("$ref") or schema["ref"])
                schema = {**target, **{k: v for k, v in schema.items() if k not in {"$ref", "ref", "$defs"}}}
                continue
            for word in ("anyOf", "oneOf", "any_of"):
                if schema.get(word):
                    rest = {k: v for k, v in schema.items() if k != word}
                    schema = _joined(rest, schema[word][0])
                    break
            else:
                if not schema.get("allOf"):
                    return schema
                joined = {k: v for k, v in schema.items() if k != "allOf"}
                for part in schema["allOf"]:
                    joined = _joined(joined, self._flatten(part))
                schema = joined
        raise UnsupportedSchema("references go in a circle")

    def _resolve(self, reference: Any) -> Mapping[str, Any]:
        target: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise UnsupportedSchema(f"reference {reference!r} does not point into the schema")
        for step in reference.lstrip("#").strip("/").split("/"):
            if step:
                name = step.replace("~1", "/").replace("~0", "~")
                target = target.get(name) if isinstance(target, Mapping) else None
        if not isinstance(target, Mapping):
            raise UnsupportedSchema(f"reference {reference!r} leads nowhere")
        return target

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Required properties; all of them where none is required, as long as they end."""
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = schema.get("required")
        result: dict[str, Any] = {}
        if required:
            for name in required:
                result[name] = self.build(properties.get(name, True), depth + 1)
            return result
        for name, part in properties.items():
            try:
                result[name] = self.build(part, depth + 1)
            except UnsupportedSchema:
                continue
        return result

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least = max(int(schema.get("minItems", schema.get("min_items", 0)) or 0), 0)
        most = schema.get("maxItems", schema.get("max_items"))
        result = [self.build(part, depth + 1) for part in schema.get("prefixItems", ())]
        items = schema.get("items", True)
        wanted = max(least, 1 if items is not True and items is not False else 0)
        if most is not None:
            wanted = max(min(wanted, int(most)), least)
        while len(result) < wanted:
            try:
                item = self.build(items, depth + 1)
            except UnsupportedSchema:
                if least > len(result):
                    raise
                break
            result.append(_different(item, result) if schema.get("uniqueItems") else item)
        return result

    def _string(self, schema: Mapping[str, Any]) -> str:
        known = _FORMATS.get(str(schema.get("format", "")))
        text = known if known is not None else self._text
        least = int(schema.get("minLength", schema.get("min_length", 0)) or 0)
        most = schema.get("maxLength", schema.get("max_length"))
        if len(text) < least:
            text = (text + " " + self._text * math.ceil(least / max(1, len(self._text))))[:least]
        return text if most is None else text[: int(most)]


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if kind:
        return str(kind).lower()
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema or "multipleOf" in schema:
        return "number"
    return "string"


def _joined(first: Mapping[str, Any], second: Any) -> dict[str, Any]:
    if not isinstance(second, Mapping):
        return dict(first)
    joined = {**first, **second}
    if "properties" in first and "properties" in second:
        joined["properties"] = {**first["properties"], **second["properties"]}
    if "required" in first and "required" in second:
        joined["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return joined


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """The first of a few likely numbers that is within all bounds."""
    step = schema.get("multipleOf") or (1 if whole else 0)
    bounds = {name: schema[name] for name in _WITHIN if schema.get(name) is not None}
    likely: list[float] = [1, *bounds.values()]
    likely += [value + shift for value in bounds.values() for shift in (1, -1)]
    likely.append(sum(bounds.values()) / max(1, len(bounds)))
    if step:
        likely = [(turn(value / step) + shift) * step for value in likely for turn in _TURNS for shift in (0, 1, -1)]
    for value in likely:
        if all(_WITHIN[name](value, bound) for name, bound in bounds.items()):
            return int(value) if whole else value
    raise UnsupportedSchema("no number satisfies the bounds")


def _different(item: Any, taken: list[Any]) -> Any:
    """A variant of an item that is not among those taken."""
    if isinstance(item, dict) and item:
        key = next(iter(item))
        return {**item, key: _different(item[key], [one[key] for one in taken])}
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        if item in taken:
            raise UnsupportedSchema("cannot make the items differ")
        return item
    candidate, number = item, 0
    while candidate in taken:
        number += 1
        candidate = f"{item} {number}" if isinstance(item, str) else item + number
    return candidate
