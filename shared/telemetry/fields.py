"""What may leave in a field: short values. Ids, codes and numbers are short; content is not."""

import math
from collections.abc import Mapping

FieldValue = str | float | bool | None

MAX_VALUE_CHARACTERS = 256


def field_text(value: object) -> str:
    """A value as text, or a note of its length when it is too long to be an id or a code.

    A long text is replaced, not shortened: its beginning would be content too.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"<omitted: {len(text)} characters>"


def field_texts(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields as Application Insights takes custom dimensions: texts, without those that are None."""
    return {name: field_text(value) for name, value in fields.items() if value is not None}


def json_fields(fields: Mapping[str, object]) -> dict[str, FieldValue]:
    """Fields for a JSON line: numbers and booleans stay what they are, unless JSON has no word for them."""
    return {
        name: value
        if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
        else field_text(value)
        for name, value in fields.items()
        if value is not None
    }
