"""Dataclasses as JSON values: small, exact, strict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import pytest

from shared.domain.dataclass_json import from_values, to_values


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


@dataclass(frozen=True)
class Inner:
    name: str
    count: int = 0
    note: str | None = None


@dataclass(frozen=True)
class Outer:
    at: datetime
    amount: Decimal = Decimal(0)
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    ratio: float = 0.0
    on: bool = False
    inner: Inner | None = None
    rows: tuple[Inner, ...] = ()
    pair: tuple[str, Inner] | None = None
    names: frozenset[str] = field(default_factory=frozenset)
    sizes: tuple[Size, ...] = ()


AT = datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC)
FULL = Outer(
    AT,
    Decimal("1.50"),
    inner=Inner("a", 1, "n"),
    rows=(Inner("a"), Inner("b", 2), Inner("c", note="x"), Inner("d", 0, "")),
    pair=("p", Inner("q", 3)),
    names=frozenset({"b", "a"}),
    sizes=(Size.SMALL,),
    ratio=0.1,
    on=True,
)


def test_defaults_are_left_out_and_rows_end_with_their_last_value() -> None:
    assert to_values(Outer(AT)) == {"at": "2026-11-23T12:00:00.000001+00:00"}
    assert to_values(FULL) == {
        "at": "2026-11-23T12:00:00.000001+00:00",
        "amount": "1.50",
        "inner": {"name": "a", "count": 1, "note": "n"},
        "rows": [["a"], ["b", 2], ["c", 0, "x"], ["d", 0, ""]],
        "pair": ["p", {"name": "q", "count": 3}],
        "names": ["a", "b"],
        "sizes": [1],
        "ratio": 0.1,
        "on": True,
    }


@pytest.mark.parametrize("row", [FULL, Outer(AT)])
def test_what_was_written_is_read_back(row: Outer) -> None:
    assert from_values(Outer, to_values(row)) == row
    assert str(from_values(Outer, to_values(FULL)).amount) == "1.50"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "Outer: not an object"),
        ({}, "Outer: "),
        ({"at": 1}, "Outer.at: not a str"),
        ({"surprise": 1}, "Outer.surprise: unknown field"),
        ({"on": 1}, "Outer.on: not a bool"),
        ({"ratio": True}, "Outer.ratio: not a number"),
        ({"amount": "x"}, "Outer.amount: not an amount"),
        ({"colour": "blue"}, "Outer.colour"),
        ({"size": 2}, "Outer.size"),
        ({"rows": {}}, "Outer.rows: not a list"),
        ({"rows": ["a"]}, "Outer.rows: Inner: not an array of at most 3 fields"),
        ({"rows": [[]]}, "Outer.rows: Inner: "),
        ({"rows": [["a", "b"]]}, "Outer.rows: Inner.count: not a int"),
        ({"pair": ["a"]}, "Outer.pair: not 2 values"),
        ({"inner": {"name": None}}, "Outer.inner: Inner.name: not a str"),
    ],
)
def test_anything_else_is_refused_by_name(values: Any, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        from_values(Outer, values)
    assert message in str(refusal.value)


@dataclass
class Unwritable:
    mapping: Mapping[str, str]


@dataclass
class Ambiguous:
    either: int | str


@pytest.mark.parametrize("row", [Unwritable({}), Ambiguous(1)])
def test_a_type_without_a_form_is_found_when_it_is_first_used(row: object) -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        to_values(row)
