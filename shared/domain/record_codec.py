"""Request records as JSON: what waits in the spill queue and lies in the journal.

The form is the dataclasses' own field names; instants are ISO 8601, money is a decimal string, so a record comes back
exactly as it went in. A document carries its version. Fields may be added to records with a default and without a new
version: a reader fills in what is missing and refuses what it does not know, so nothing is dropped silently.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from shared.domain.records import AttemptRecord, RequestRecord, RequestStatus
from shared.domain.replies import Usage

FORMAT_VERSION = 1
MAX_DOCUMENT_BYTES = 48 * 1024
"""A storage queue's message holds 64 KiB, and Base64 makes four bytes of three."""

_Row = TypeVar("_Row", RequestRecord, AttemptRecord, Usage)


def encode(records: Sequence[RequestRecord]) -> str:
    """One ASCII document of several records.

    Raises:
        ValueError: a float is not finite; `shared.domain.record_bounds.storable` mends that.
    """
    return _envelope([_encode_one(record) for record in records])


def encode_within(records: Sequence[RequestRecord], max_bytes: int = MAX_DOCUMENT_BYTES) -> list[str]:
    """As few documents as hold all records in their order, none longer than `max_bytes`.

    Raises:
        ValueError: a record alone is longer, or `encode` would refuse it. No record is ever shortened to fit.
    """
    documents = []
    batch: list[str] = []
    room = empty = max_bytes - len(_envelope([]))
    for record in records:
        encoded = _encode_one(record)
        if len(encoded) > empty:
            raise ValueError(f"record {record.id} takes {len(encoded)} bytes; a document holds {empty}")
        if batch and len(encoded) + 1 > room:
            documents.append(_envelope(batch))
            batch, room = [], empty
        batch.append(encoded)
        room -= len(encoded) + 1
    return [*documents, _envelope(batch)] if batch else documents


def _encode_one(record: RequestRecord) -> str:
    return json.dumps(to_document(record), allow_nan=False, separators=(",", ":"))


def _envelope(encoded: Sequence[str]) -> str:
    return f'{{"v":{FORMAT_VERSION},"records":[{",".join(encoded)}]}}'


def decode(document: str | bytes) -> tuple[RequestRecord, ...]:
    """Read a document of `encode`.

    Raises:
        ValueError: not JSON, of an unknown version, or a field is missing, unknown or of the wrong type; the message
            names it.
    """
    body = json.loads(document)
    if not isinstance(body, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one exception for all bad documents
    check_version(body.get("v"))
    records = body.get("records")
    if not isinstance(records, list):
        raise ValueError("records: not a list")  # noqa: TRY004 - as above
    return tuple(from_document(record) for record in records)


def check_version(version: object) -> None:
    """Refuse a document that this code cannot read.

    Raises:
        ValueError: any version but `FORMAT_VERSION`.
    """
    if isinstance(version, bool) or version != FORMAT_VERSION:
        raise ValueError(f"v: record format {version!r} is unknown; this version reads {FORMAT_VERSION}")


def to_document(record: RequestRecord) -> dict[str, Any]:
    """A record as JSON values."""
    return _write(record)


def from_document(document: object) -> RequestRecord:
    """A record from JSON values.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type; the message names it.
    """
    return _read(RequestRecord, document)


def _write(row: RequestRecord | AttemptRecord | Usage) -> dict[str, Any]:
    return {name: _WRITERS.get(kind, _same)(getattr(row, name)) for name, kind in _FIELDS[type(row)].items()}


def _read(cls: type[_Row], document: object) -> _Row:
    if not isinstance(document, dict):
        raise ValueError(f"{cls.__name__}: not an object")  # noqa: TRY004 - one exception for all bad documents
    kinds = _FIELDS[cls]
    values = {}
    for name, value in document.items():
        if name not in kinds:
            raise ValueError(f"{cls.__name__}.{str(name)[:64]}: unknown field")
        try:
            values[name] = _READERS[kinds[name]](value)
        except (ValueError, ArithmeticError) as error:
            raise ValueError(f"{cls.__name__}.{name}: {error}") from error
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from error


def _same(value: Any) -> Any:
    return value


def _exactly(kind: type) -> Callable[[Any], Any]:
    """A reader that takes values of one type (a bool is no int) as they are."""

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"not a {kind.__name__}")
        return value

    return read


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _number(value: Any) -> float:
    if type(value) not in {int, float}:
        raise ValueError("not a number")
    return float(value)


def _instant(value: Any) -> datetime:
    instant = datetime.fromisoformat(_text(value))
    if instant.tzinfo is None:
        raise ValueError("an instant without an offset")
    return instant


def _money(value: Any) -> Decimal:
    amount = Decimal(_text(value))
    if not amount.is_finite():
        raise ValueError("not a finite amount")
    return amount


def _tags(value: Any) -> tuple[tuple[str, str], ...]:
    tags = []
    for tag in _list(value):
        key, word = _list(tag)
        tags.append((_text(key), _text(word)))
    return tuple(tags)


_text = _exactly(str)
_list = _exactly(list)

_FIELDS: Mapping[type, Mapping[str, Any]] = {
    cls: {field.name: field.type for field in fields(cls)} for cls in (RequestRecord, AttemptRecord, Usage)
}
_WRITERS: Mapping[Any, Callable[[Any], Any]] = {
    Decimal: str,
    datetime: datetime.isoformat,
    Usage: _write,
    tuple[tuple[str, str], ...]: lambda tags: [list(tag) for tag in tags],
    tuple[AttemptRecord, ...]: lambda attempts: [_write(attempt) for attempt in attempts],
    tuple[str, ...]: list,
}
"""By field type; everything else is JSON already."""
_READERS: Mapping[Any, Callable[[Any], Any]] = {
    str: _text,
    str | None: _optional(_text),
    int: _exactly(int),
    float: _number,
    float | None: _optional(_number),
    bool: _exactly(bool),
    datetime: _instant,
    Decimal: _money,
    RequestStatus: RequestStatus,
    Usage: lambda value: _read(Usage, value),
    tuple[tuple[str, str], ...]: _tags,
    tuple[AttemptRecord, ...]: lambda value: tuple(_read(AttemptRecord, attempt) for attempt in _list(value)),
    tuple[str, ...]: lambda value: tuple(_text(word) for word in _list(value)),
}
"""By field type; a new kind of field fails the codec's own test until it has its reader."""
