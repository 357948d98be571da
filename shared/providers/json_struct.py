"""Plain JSON values <-> `google.protobuf.Value` and `Struct`, without the reflection of `json_format`."""

from collections.abc import Mapping
from typing import Any

_MAX_EXACT_INT = 2**53
"""Doubles hold every integer up to here, so a whole double below it was an integer in the JSON."""


MAX_DEPTH = 24
"""Levels of lists and objects that fit: each takes up to three of the hundred levels that protobuf parsers allow."""


def is_too_deep(value: Any) -> bool:
    """Whether a JSON value nests deeper than `MAX_DEPTH`."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                inner.extend(item.values())
            elif isinstance(item, list | tuple):
                inner.extend(item)
        if not inner:
            return False
        level = inner
    return True


def set_value(target: Any, value: Any) -> None:
    """Put a JSON value into a protobuf Value.

    Args:
        target: an empty `google.protobuf.Value`.
        value: None, bool, number, text, list or mapping with text keys.

    Raises:
        TypeError: anything else.
    """
    match value:
        case None:
            target.null_value = 0
        case bool():
            target.bool_value = value
        case int() | float():
            target.number_value = value
        case str():
            target.string_value = value
        case Mapping():
            target.struct_value.SetInParent()
            set_struct(target.struct_value, value)
        case list() | tuple():
            target.list_value.SetInParent()
            for item in value:
                set_value(target.list_value.values.add(), item)
        case _:
            raise TypeError(f"{type(value).__name__} is not a JSON value")


def set_struct(target: Any, value: Mapping[str, Any]) -> None:
    """Put a JSON object into a protobuf Struct."""
    for key, item in value.items():
        set_value(target.fields[key], item)


def plain_value(value: Any) -> Any:
    """The JSON value of a protobuf Value; whole numbers as ints, since protobuf made doubles of them."""
    kind = value.WhichOneof("kind")
    match kind:
        case "struct_value":
            return plain_struct(value.struct_value)
        case "list_value":
            return [plain_value(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _MAX_EXACT_INT else number
        case "string_value" | "bool_value":
            return getattr(value, kind)
        case _:
            return None


def plain_struct(struct: Any) -> dict[str, Any]:
    """The JSON object of a protobuf Struct."""
    return {key: plain_value(item) for key, item in struct.fields.items()}
