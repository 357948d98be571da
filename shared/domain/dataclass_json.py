"""Dataclasses as JSON values and back, by their field types: small, and exact.

A dataclass is an object of those fields that differ from their defaults; one inside a list is an array of its fields in
order, without the defaults at its end. Reading is strict: unknown fields and values of another type are refused, so
nothing is dropped silently. A field may be added with a default at the end of its class: older texts still read.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, TypeVar, cast

_T = TypeVar("_T")
_Write = Callable[[Any], Any]
_Read = Callable[[Any], Any]


def to_values(row: Any) -> dict[str, Any]:
    """A dataclass as JSON values.

    Raises:
        TypeError: a field's type has no JSON form here.
    """
    return _form(type(row)).write(row)


def from_values(cls: type[_T], values: object) -> _T:
    """A dataclass from what `to_values` made of it.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type; the message names it.
    """
    return cast("_T", _form(cls).read(values))


class _Form:
    """How one dataclass is written and read."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls
        hints = typing.get_type_hints(cls)
        self._fields = tuple(
            (field.name, _default(field), _writer(hints[field.name]), _reader(hints[field.name]))
            for field in fields(cls)
        )
        self._readers: Mapping[str, _Read] = {name: read for name, _, _, read in self._fields}

    def write(self, row: Any) -> dict[str, Any]:
        values = {}
        for name, default, write, _ in self._fields:
            value = getattr(row, name)
            if value != default:
                values[name] = write(value)
        return values

    def write_row(self, row: Any) -> list[Any]:
        values = []
        kept = 0
        for name, default, write, _ in self._fields:
            value = getattr(row, name)
            values.append(write(value))
            if value != default:
                kept = len(values)
        return values[:kept]

    def read(self, values: object) -> Any:
        if not isinstance(values, dict):
            raise ValueError(f"{self._cls.__name__}: not an object")  # noqa: TRY004 - one exception for all bad texts
        return self._made({name: self._field(name, value) for name, value in values.items()})

    def read_row(self, values: object) -> Any:
        if not isinstance(values, list) or len(values) > len(self._fields):
            raise ValueError(f"{self._cls.__name__}: not an array of at most {len(self._fields)} fields")
        names = [name for name, _, _, _ in self._fields[: len(values)]]
        return self._made({name: self._field(name, value) for name, value in zip(names, values, strict=True)})

    def _field(self, name: str, value: object) -> Any:
        read = self._readers.get(name)
        if read is None:
            raise ValueError(f"{self._cls.__name__}.{str(name)[:64]}: unknown field")
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{self._cls.__name__}.{name}: {error}") from error

    def _made(self, values: dict[str, Any]) -> Any:
        try:
            return self._cls(**values)
        except TypeError as error:
            raise ValueError(f"{self._cls.__name__}: {error}") from error


_FORMS: dict[type[Any], _Form] = {}
_MISSING = object()


def _form(cls: type[Any]) -> _Form:
    form = _FORMS.get(cls)
    if form is None:
        form = _FORMS[cls] = _Form(cls)
    return form


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    # Nothing equals a fresh object, so a field without a default is always written.
    return _MISSING if field.default is dataclasses.MISSING else field.default


def _writer(kind: Any) -> _Write:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        write = _writer(_inner(arguments))
        return lambda value: None if value is None else write(value)
    if origin is tuple:
        return _tuple_writer(arguments)
    if origin is frozenset:
        write = _writer(arguments[0])
        return lambda value: sorted([write(item) for item in value])
    if isinstance(kind, type) and is_dataclass(kind):
        return lambda value: _form(kind).write(value)
    if kind is Decimal:
        return str
    if kind is datetime:
        return datetime.isoformat
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: value.value
    if kind in _PLAIN:
        return _same
    raise TypeError(f"{kind} has no JSON form here")


def _tuple_writer(arguments: tuple[Any, ...]) -> _Write:
    if len(arguments) == 2 and arguments[1] is ...:  # noqa: PLR2004 - tuple[X, ...]
        write = _row_form(arguments[0])[0]
        return lambda value: [write(item) for item in value]
    writers = [_writer(argument) for argument in arguments]
    return lambda value: [write(item) for write, item in zip(writers, value, strict=True)]


def _row_form(kind: Any) -> tuple[_Write, _Read]:
    if isinstance(kind, type) and is_dataclass(kind):
        form = _form(kind)
        return form.write_row, form.read_row
    return _writer(kind), _reader(kind)


def _reader(kind: Any) -> _Read:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        read = _reader(_inner(arguments))
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is frozenset:
        read = _reader(arguments[0])
        return lambda value: frozenset(read(item) for item in _list(value))
    if isinstance(kind, type) and is_dataclass(kind):
        return lambda value: _form(kind).read(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    return _READERS[kind]


def _tuple_reader(arguments: tuple[Any, ...]) -> _Read:
    if len(arguments) == 2 and arguments[1] is ...:  # noqa: PLR2004 - tuple[X, ...]
        read = _row_form(arguments[0])[1]
        return lambda value: tuple([read(item) for item in _list(value)])
    readers = [_reader(argument) for argument in arguments]

    def read_all(value: Any) -> tuple[Any, ...]:
        items = _list(value)
        if len(items) != len(readers):
            raise ValueError(f"not {len(readers)} values")
        return tuple([read(item) for read, item in zip(readers, items, strict=True)])

    return read_all


def _inner(arguments: tuple[Any, ...]) -> Any:
    inner = [argument for argument in arguments if argument is not types.NoneType]
    if len(inner) != 1:
        raise TypeError(f"a union of {arguments} has no JSON form here")
    return inner[0]


def _same(value: Any) -> Any:
    return value


def _exactly(kind: type) -> _Read:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"not a {kind.__name__}")
        return value

    return read


def _number(value: Any) -> float:
    if type(value) not in {int, float}:
        raise ValueError("not a number")
    return float(value)


def _instant(value: Any) -> datetime:
    return datetime.fromisoformat(_text(value))


def _amount(value: Any) -> Decimal:
    try:
        return Decimal(_text(value))
    except InvalidOperation:
        raise ValueError("not an amount") from None


_text = _exactly(str)
_list = _exactly(list)
_PLAIN = frozenset({str, int, float, bool})
_READERS: Mapping[Any, _Read] = {
    str: _text,
    int: _exactly(int),
    float: _number,
    bool: _exactly(bool),
    Decimal: _amount,
    datetime: _instant,
}
