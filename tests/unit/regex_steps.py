"""A backtracking matcher that counts its steps: the work of `re` on a pattern and a text, on any machine alike.

It walks the same parse tree as the standard engine, tries alternatives in the same order and knows none of its shortcuts,
so its count is an upper bound. Repetitions are held to `most_repeats`, so that short texts show how work grows once they
are longer than every bound.
"""

import re
from collections.abc import Callable, Iterator
from re import _constants as codes  # type: ignore[attr-defined]  # the only parser that reads what re reads
from re import _parser as parser  # type: ignore[attr-defined]  # the same
from typing import Any

_SINGLE = {codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN}
_CATEGORIES = {
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_NOT_DIGIT: lambda char: not char.isdecimal(),
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    codes.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
    codes.CATEGORY_NOT_WORD: lambda char: not (char.isalnum() or char == "_"),
}
Ends = Iterator[int]


class TooMuchWork(Exception):
    """A search took more steps than it may."""


class Counter:
    """Counts the steps of one search of a whole text."""

    def __init__(self, pattern: re.Pattern[Any], text: str, most_repeats: int, limit: int) -> None:
        self.steps = 0
        self._limit = limit
        self._text = text
        self._fold = bool(pattern.flags & re.IGNORECASE)
        self._lines = bool(pattern.flags & re.MULTILINE)
        self._all = bool(pattern.flags & re.DOTALL)
        self._most = most_repeats
        self._groups: dict[int, tuple[int, int]] = {}
        self._tree = list(parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG))

    def search_all(self) -> int:
        """The steps of finding every match, one after the other."""
        at = 0
        while at <= len(self._text):
            end = self.ends_at(at)
            at = at + 1 if end is None else max(end, at + 1)
        return self.steps

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self._limit:
            raise TooMuchWork

    def ends_at(self, at: int) -> int | None:
        """Where the match that begins at a place ends."""
        return next(self._sequence(self._tree, 0, at), None)

    def _sequence(self, nodes: list[Any], number: int, at: int) -> Ends:
        if number == len(nodes):
            yield at
            return
        for end in self._node(nodes[number], at):
            yield from self._sequence(nodes, number + 1, end)

    def _node(self, node: Any, at: int) -> Ends:  # noqa: C901, PLR0912 - one case for each kind of node
        code, argument = node
        self._step()
        if code in _SINGLE:
            if self._matches(node, at):
                yield at + 1
        elif code in {codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT}:
            yield from self._repeat(code, argument, at)
        elif code is codes.SUBPATTERN:
            for end in self._sequence(list(argument[3]), 0, at):
                if argument[0] is not None:
                    self._groups[argument[0]] = at, end
                yield end
        elif code is codes.BRANCH:
            for branch in argument[1]:
                yield from self._sequence(list(branch), 0, at)
        elif code is codes.ATOMIC_GROUP:
            yield from self._first(self._sequence(list(argument), 0, at))
        elif code in {codes.ASSERT, codes.ASSERT_NOT}:
            found = any(
                True for start in self._starts(argument, at) for _ in self._sequence(list(argument[1]), 0, start)
            )
            if found is (code is codes.ASSERT):
                yield at
        elif code is codes.AT:
            if self._stands(argument, at):
                yield at
        elif code is codes.GROUPREF:
            start, end = self._groups.get(argument, (0, 0))
            if self._text.startswith(self._text[start:end], at):
                yield at + end - start
        else:
            raise AssertionError(f"the counter does not know {code}")

    def _starts(self, argument: Any, at: int) -> list[int]:
        """Where a look-around begins: behind it, as far back as its width, which is fixed."""
        direction, tree = argument
        start = at if direction > 0 else at - tree.getwidth()[0]
        return [start] if start >= 0 else []

    def _first(self, ends: Ends) -> Ends:
        end = next(ends, None)
        if end is not None:
            yield end

    def _repeat(self, code: Any, argument: tuple[int, int, Any], at: int) -> Ends:
        low, high, child = argument
        low = min(low, self._most)
        most = max(low, min(int(high), self._most)) if high != codes.MAXREPEAT else len(self._text) + 1
        nodes = list(child)
        if len(nodes) == 1 and nodes[0][0] in _SINGLE:
            ends = self._run(nodes[0], low, most, at, lazy=code is codes.MIN_REPEAT)
        else:
            ends = self._times(nodes, low, most, at, lazy=code is codes.MIN_REPEAT)
        yield from self._first(ends) if code is codes.POSSESSIVE_REPEAT else ends

    def _run(self, node: Any, low: int, most: int, at: int, *, lazy: bool) -> Ends:
        length = 0
        while length < most and self._matches(node, at + length):
            length += 1
            self._step()
        for count in range(low, length + 1) if lazy else range(length, low - 1, -1):
            self._step()
            yield at + count

    def _times(self, nodes: list[Any], low: int, most: int, at: int, *, lazy: bool) -> Ends:
        if lazy and low <= 0:
            yield at
        if most > 0:
            for end in self._sequence(nodes, 0, at):
                if end > at:
                    yield from self._times(nodes, low - 1, most - 1, end, lazy=lazy)
        if not lazy and low <= 0:
            yield at

    def _matches(self, node: Any, at: int) -> bool:
        code, argument = node
        if at >= len(self._text):
            return False
        char = self._text[at]
        forms = {char, char.lower(), char.upper()} if self._fold else {char}
        if code is codes.ANY:
            return self._all or char != "\n"
        if code is codes.IN:
            return self._in_class(argument, forms)
        same = any(ord(form[0]) == argument for form in forms)
        return same is (code is codes.LITERAL)

    def _in_class(self, items: list[Any], forms: set[str]) -> bool:
        negated = items[0][0] is codes.NEGATE
        tests: dict[Any, Callable[[Any, str], bool]] = {
            codes.LITERAL: lambda value, form: ord(form[0]) == value,
            codes.RANGE: lambda value, form: value[0] <= ord(form[0]) <= value[1],
            codes.CATEGORY: lambda value, form: _CATEGORIES[value](form[0]),
        }
        found = any(tests[kind](value, form) for kind, value in items if kind is not codes.NEGATE for form in forms)
        return found is not negated

    def _stands(self, where: Any, at: int) -> bool:
        text = self._text
        match where:
            case codes.AT_BEGINNING:
                return at == 0 or (self._lines and text[at - 1] == "\n")
            case codes.AT_BEGINNING_STRING:
                return at == 0
            case codes.AT_END:
                return at == len(text) or text[at:] == "\n" or (self._lines and text[at] == "\n")
            case codes.AT_END_STRING:
                return at == len(text)
            case _:
                before, after = (
                    0 <= place < len(text) and (text[place].isalnum() or text[place] == "_") for place in (at - 1, at)
                )
                return (before != after) is (where is codes.AT_BOUNDARY)
