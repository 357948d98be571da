"""What a record must look like so that every store can hold it, and how one that does not is mended.

One row that a store refuses would hold up the whole batch around it, so a hostile model name or a vendor's absurd
token count must not get that far. Money is never touched.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

from shared.domain.records import AttemptRecord, RequestRecord
from shared.domain.replies import Usage

MAX_TEXT_CHARS = 256
"""Of every name and identifier: two of them in any script (4 bytes a character) fit a PostgreSQL index entry."""
MAX_MESSAGE_CHARS = 1_000
MAX_TAG_KEY_CHARS = 64
MAX_TAG_VALUE_CHARS = 512
MAX_TAGS_BYTES = 24_576
"""Of all tags as escaped JSON, so that a record fits a queue message whatever its caller wrote into them."""
MAX_RECEIPT_BYTES = 12_288
"""Of a decision's receipt as escaped JSON, for the same reason."""
OMITTED_RECEIPT = '{"omitted":"too_large","v":1}'
"""What is left of a receipt that no store could hold; whoever writes receipts says more before it comes to that."""
MAX_INTEGER = 2**63 - 1
"""What a bigint holds."""

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_Row = TypeVar("_Row", RequestRecord, AttemptRecord, Usage)


def storable(record: RequestRecord) -> RequestRecord:
    """The record, mended where some store could not hold it; the same object when there is nothing to mend.

    NULs (PostgreSQL) and halves of surrogate pairs (UTF-8) become U+FFFD, texts are cut at their bound, tags are
    sorted by key, unique and bounded, floats that are not finite are dropped, integers end at what a bigint holds. A
    receipt that is too large becomes `OMITTED_RECEIPT`.

    Raises:
        ValueError: the id is not a canonical UUID, an instant is naive, or a cost is negative or not finite: defects of
            whoever made the record.
    """
    if not _UUID.fullmatch(record.id):
        raise ValueError(f"id: {record.id[:64]!r} is not a UUID in its canonical form")
    instants = [record.end_time, record.start_time, *[attempt.started_at for attempt in record.attempts]]
    if any(instant.tzinfo is None for instant in instants):
        raise ValueError(f"record {record.id}: an instant without an offset")
    costs = [record.cost_usd, record.saved_usd, *[attempt.cost_usd for attempt in record.attempts]]
    if any(not cost.is_finite() or cost < 0 for cost in costs):
        raise ValueError(f"record {record.id}: a cost that is negative or not finite")
    return _mend(record)


def _mend(row: _Row) -> _Row:
    changes = {}
    for name, mend in _RULES[type(row)]:
        value = getattr(row, name)
        mended = mend(value)
        if mended is not value:
            changes[name] = mended
    return replace(row, **changes) if changes else row


def _optional_text(value: str | None, limit: int = MAX_TEXT_CHARS) -> str | None:
    return None if value is None else _text(value, limit)


def _text(value: str, limit: int = MAX_TEXT_CHARS) -> str:
    if len(value) <= limit and value.isascii() and "\0" not in value:
        return value
    whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    clean = whole.replace("\0", _REPLACEMENT)[:limit]
    return value if clean == value else clean


def _integer(value: int) -> int:
    return value if 0 <= value <= MAX_INTEGER else min(max(value, 0), MAX_INTEGER)


def _float(value: float | None, instead: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else instead


def _tags(value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    if not value:
        return value
    clean = sorted({_text(key, MAX_TAG_KEY_CHARS): _text(word, MAX_TAG_VALUE_CHARS) for key, word in value}.items())
    sizes = accumulate(len(json.dumps(tag)) for tag in clean)
    tags = tuple(tag for tag, size in zip(clean, sizes, strict=True) if size <= MAX_TAGS_BYTES)
    return value if tags == value else tags


def _receipt(value: str | None) -> str | None:
    return value if value is None or receipt_fits(value) else OMITTED_RECEIPT


def receipt_fits(receipt: str) -> bool:
    """Whether every store and queue can hold a receipt."""
    # An escaped character takes up to twelve bytes; most receipts are far too short for that to matter.
    if len(receipt) > MAX_RECEIPT_BYTES // 12 and len(json.dumps(receipt)) > MAX_RECEIPT_BYTES:
        return False
    return receipt.startswith('{"') and receipt.endswith("}") and _text(receipt, MAX_RECEIPT_BYTES) == receipt


def _attempts(value: tuple[AttemptRecord, ...]) -> tuple[AttemptRecord, ...]:
    mended = tuple([_mend(attempt) for attempt in value])
    return value if all(new is old for new, old in zip(mended, value, strict=True)) else mended


_BY_TYPE: Mapping[Any, Callable[[Any], Any]] = {
    str: _text,
    str | None: _optional_text,
    int: _integer,
    float: partial(_float, instead=0.0),
    float | None: partial(_float, instead=None),
    Usage: _mend,
    tuple[tuple[str, str], ...]: _tags,
    tuple[AttemptRecord, ...]: _attempts,
}
_BY_NAME: Mapping[str, Callable[[Any], Any]] = {
    "error_message": partial(_optional_text, limit=MAX_MESSAGE_CHARS),
    "receipt": _receipt,
}
_RULES: Mapping[type, tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    cls: tuple(
        (field.name, _BY_NAME.get(field.name) or _BY_TYPE[field.type])
        for field in fields(cls)
        if field.name in _BY_NAME or field.type in _BY_TYPE
    )
    for cls in (RequestRecord, AttemptRecord, Usage)
}
"""Ids, instants, money, flags and enumerations have no rule: they are checked or cannot be wrong."""
