"""The schema generator: its instances are checked by a validator written apart from it."""

import re
from typing import Any

import pytest

from infra.local.simulator.schema_instance import UnsupportedSchema, instance_of

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
_SHAPES = {
    "date": r"\d{4}-\d\d-\d\d",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "email": r"[^@ ]+@[^@ ]+",
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "uri": r"https?://\S+",
    "ipv4": r"\d+(\.\d+){3}",
}


def violations(schema: Any, value: Any, root: Any) -> list[str]:  # noqa: C901, PLR0912 - one check a keyword
    """What of a JSON Schema a value breaks."""
    if schema is True:
        return []
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#").strip("/").split("/"):
            target = target[step] if step else target
        return violations(target, value, root)
    found = [
        word for word in ("anyOf", "oneOf") if word in schema and all(violations(b, value, root) for b in schema[word])
    ]
    for part in schema.get("allOf", ()):
        found += violations(part, value, root)
    if "const" in schema and value != schema["const"]:
        found.append("const")
    if "enum" in schema and value not in schema["enum"]:
        found.append("enum")
    kinds = schema.get("type")
    if kinds:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        fits = [
            isinstance(value, _TYPES[k.lower()]) and (isinstance(value, bool) == (k.lower() == "boolean"))
            for k in kinds
        ]
        if not any(fits):
            found.append(f"type {kinds}")
    if isinstance(value, dict):
        found += [f"required {name}" for name in schema.get("required", ()) if name not in value]
        properties = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        for name, item in value.items():
            found += (
                violations(properties.get(name, more), item, root)
                if properties.get(name, more) is not False
                else ["additional"]
            )
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9):
            found.append("items count")
        if schema.get("uniqueItems") and len({repr(item) for item in value}) != len(value):
            found.append("unique")
        prefix = schema.get("prefixItems", [])
        for item, part in zip(value, prefix, strict=False):
            found += violations(part, item, root)
        for item in value[len(prefix) :]:
            found += violations(schema.get("items", True), item, root)
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9):
            found.append("length")
        if schema.get("format") in _SHAPES and not re.fullmatch(_SHAPES[schema["format"]], value):
            found.append("format")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            found.append("bounds")
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            found.append("exclusiveMinimum")
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            found.append("exclusiveMaximum")
        if "multipleOf" in schema and value % schema["multipleOf"]:
            found.append("multipleOf")
    return found


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "object": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]},
    "no required": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}},
    "nested": {
        "type": "object",
        "properties": {"in": {"type": "object", "properties": {"n": {"type": "null"}}, "required": ["n"]}},
        "required": ["in"],
        "additionalProperties": False,
    },
    "upper case": {"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "items": {"type": "NUMBER"}}}},
    "enum": {"type": "string", "enum": ["red", "green"]},
    "const": {"const": {"kind": 3}},
    "type list": {"type": ["null", "integer"], "minimum": 4},
    "only null": {"type": ["null"]},
    "min items": {"type": "array", "items": {"type": "string"}, "minItems": 3},
    "unique strings": {"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
    "unique numbers": {"type": "array", "items": {"type": "integer", "minimum": 7}, "minItems": 3, "uniqueItems": True},
    "unique objects": {
        "type": "array",
        "items": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
        "minItems": 2,
        "uniqueItems": True,
    },
    "max items": {"type": "array", "items": {"type": "string"}, "maxItems": 0},
    "prefix items": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "string"}],
        "items": {"type": "null"},
    },
    "minimum": {"type": "integer", "minimum": 18, "maximum": 18},
    "below one": {"type": "number", "maximum": -2.5},
    "between": {"type": "number", "minimum": 0, "maximum": 0.5},
    "exclusive": {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7},
    "exclusive real": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "multiple": {"type": "integer", "minimum": 11, "multipleOf": 10},
    "multiple below": {"type": "integer", "maximum": 25, "minimum": 16, "multipleOf": 20},
    "min length": {"type": "string", "minLength": 400},
    "max length": {"type": "string", "maxLength": 4},
    "formats": {
        "type": "object",
        "properties": {name: {"type": "string", "format": name} for name in _SHAPES},
        "required": list(_SHAPES),
    },
    "any of": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "string"}]},
    "any of with base": {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "anyOf": [{"properties": {"b": {"type": "integer"}}, "required": ["b"]}, {"required": ["a"]}],
    },
    "one of": {"oneOf": [{"type": "null"}, {"type": "string"}]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ]
    },
    "reference": {
        "$defs": {"color": {"enum": ["blue"]}},
        "type": "object",
        "properties": {"c": {"$ref": "#/$defs/color"}},
        "required": ["c"],
    },
    "definitions": {"definitions": {"x": {"type": "integer"}}, "type": "array", "items": {"$ref": "#/definitions/x"}},
    "recursive": TREE,
    "no type, properties": {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "no type, items": {"items": {"type": "integer"}, "minItems": 1},
    "no type, bounds": {"minimum": 9},
    "required without schema": {"type": "object", "required": ["anything"]},
    "empty": {},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_instances_satisfy_their_schema_and_never_change(schema: dict[str, Any]) -> None:
    instance = instance_of(schema, "[simulated] (quality: good)")
    assert violations(schema, instance, schema) == []
    assert instance == instance_of(schema, "[simulated] (quality: good)")


def test_free_strings_say_what_they_are_told() -> None:
    schema = {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]}
    assert instance_of(schema, "(quality: poor)") == {"note": "(quality: poor)"}


def test_an_optional_property_without_end_is_left_out() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}, "name": {"type": "string"}}}
    instance = instance_of(schema)
    assert violations(schema, instance, schema) == []
    assert instance["name"] == "simulated"


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"$ref": "https://example.com/s"}, "does not point"),
        ({"$ref": "#"}, "circle"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "without an end"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 3, "uniqueItems": True}, "differ"),
        ({"type": "integer", "minimum": 1, "maximum": 4, "multipleOf": 5}, "bounds"),
        ({"type": "array", "items": 3, "minItems": 1}, "must be an object"),
    ],
)
def test_what_has_no_instance_is_refused_with_its_reason(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedSchema, match=named):
        instance_of(schema)
