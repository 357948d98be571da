"""Sequences whose items are made when they are looked at: thousands of candidates cost nothing until explained."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
Columns = dict[str, list[Any]]
"""All items by field: lists of equal length, of values that JSON has."""


class LazySequence(Sequence[T], Generic[T]):
    """`length` items, item i made by `make(i)` each time it is asked for.

    Equal to any other lazy sequence or tuple with equal items. `columns` gives the fields of all items at once, without
    making them; which ones is up to the maker.
    """

    __slots__ = ("_length", "_make", "columns")
    __hash__ = None  # type: ignore[assignment]  # compared by items, which would all have to be made

    def __init__(self, length: int, make: Callable[[int], T], columns: Callable[[], Columns]) -> None:
        self._length = length
        self._make = make
        self.columns = columns

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self._make(i) for i in range(*index.indices(self._length)))
        position = index + self._length if index < 0 else index
        if not 0 <= position < self._length:
            raise IndexError(index)
        return self._make(position)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LazySequence | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return repr(tuple(self))
