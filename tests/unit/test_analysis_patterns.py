"""No pattern of the analysis can be made to run away: by construction, and under inputs made from its own signs.

The standard engine backtracks. It stays linear where no unbounded repetition stands inside another or has something
after it that can fail; bounded repetitions cost at most a constant at each place. Steps are counted, not seconds.
"""

import dataclasses
import importlib
import pkgutil
import random
import re
from collections.abc import Iterator
from re import _constants as codes  # type: ignore[attr-defined]  # the only parser that reads what re reads
from re import _parser as parser  # type: ignore[attr-defined]  # the same
from typing import Any

import pytest

import shared.analysis
from shared.analysis.question_form import MAX_CHARS
from shared.analysis.refusal_wording import REACH_CHARS
from tests.unit.regex_steps import Counter, TooMuchWork

_MOST_STEPS = 100_000
"""Of the bounded repetitions of one pattern, nested ones multiplied: possessive ones and atomic groups count once."""
_SHORT, _LONG = 60, 120
_MOST_REPEATS = 6
"""Bounds of repetitions while work is counted, so that short texts are longer than every bound."""
_MOST_WORK = 400_000
_MOST_WORK_WHEN_SHORT = 2_000_000
_MOST_GROWTH = 2.7
"""Twice the text: linear gives 2, a little more where the text's end is cheap; quadratic gives 4."""


def _patterns() -> dict[str, re.Pattern[Any]]:
    found: dict[str, re.Pattern[Any]] = {}
    for module_info in pkgutil.walk_packages(shared.analysis.__path__, "shared.analysis."):
        module = importlib.import_module(module_info.name)
        for name, value in vars(module).items():
            for number, pattern in enumerate(_inside(value)):
                found[f"{module_info.name.removeprefix('shared.analysis.')}.{name}[{number}]"] = pattern
    return found


def _inside(value: object) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            yield from _inside(getattr(value, each.name))
    elif isinstance(value, tuple | list | frozenset):
        for each in value:
            yield from _inside(each)
    elif isinstance(value, dict):
        yield from _inside(tuple(value.values()))


PATTERNS = _patterns()
SHORT = {
    name: PATTERNS.pop(name) for name in sorted(PATTERNS) if name.startswith(("question_form.", "refusal_wording."))
}
"""Patterns that are never asked about more than `question_form.MAX_CHARS`: there a square is bounded too. Those of
refusals look at `refusal_wording.REACH_CHARS`, from the text's beginning only."""
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)


def _parsed(pattern: re.Pattern[Any]) -> Any:
    return parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)


def _children(code: Any, argument: Any) -> Iterator[Any]:
    """The sequences directly inside a node."""
    if code in _REPEATS:
        yield argument[2]
    elif code is codes.SUBPATTERN:
        yield argument[3]
    elif code is codes.BRANCH:
        yield from argument[1]
    elif code in {codes.ASSERT, codes.ASSERT_NOT}:
        yield argument[1]
    elif code is codes.ATOMIC_GROUP:
        yield argument


def _faults(sequence: Any, *, repeated: bool = False, last: bool = True) -> Iterator[str]:
    """Unbounded repetitions inside a repetition, or before something that can fail."""
    nodes = list(sequence)
    for place, (code, argument) in enumerate(nodes):
        at_end = last and place == len(nodes) - 1
        unbounded = code in _REPEATS and argument[1] == codes.MAXREPEAT
        if unbounded and repeated:
            yield "an unbounded repetition inside a repetition"
        if unbounded and code is not codes.POSSESSIVE_REPEAT and not at_end:
            yield "an unbounded repetition before something that can fail"
        inner = repeated or (code in _REPEATS and argument[1] > 1)
        for child in _children(code, argument):
            yield from _faults(child, repeated=inner, last=at_end)


def _steps(sequence: Any) -> int:
    """A bound on the ways to match the bounded repetitions of a sequence from one place."""
    total = 1
    for code, argument in sequence:
        inner = sum(_steps(child) for child in _children(code, argument)) if code is codes.BRANCH else 1
        if code in _REPEATS:
            low, high, child = argument
            ways = 1 if code is codes.POSSESSIVE_REPEAT or high == codes.MAXREPEAT else int(high) - int(low) + 1
            inner = ways * _steps(child)
        elif code is not codes.BRANCH and code is not codes.ATOMIC_GROUP:
            inner = max([1, *(_steps(child) for child in _children(code, argument))])
        total *= max(1, inner)
    return total


def _alphabet(sequence: Any) -> set[str]:
    """A character for every literal, class and range of a pattern."""
    found: set[str] = set()
    samples = {codes.CATEGORY_DIGIT: "7", codes.CATEGORY_WORD: "k", codes.CATEGORY_SPACE: " "}
    for code, argument in sequence:
        if code in {codes.LITERAL, codes.NOT_LITERAL}:
            found.add(chr(argument))
        elif code is codes.IN:
            for kind, value in argument:
                if kind is codes.LITERAL:
                    found.add(chr(value))
                elif kind is codes.RANGE:
                    found |= {chr(value[0]), chr(value[1])}
                elif kind is codes.CATEGORY:
                    found.add(samples.get(value, "-"))
        for child in _children(code, argument):
            found |= _alphabet(child)
    return found


def test_the_patterns_are_found():
    names = {name.partition("[")[0] for name in PATTERNS}
    assert {"text_kind._CODE_LINE", "answer_length._ASKED", "page_counts._TREE", "code_signs.CODE_SIGNS"} <= names
    assert len(PATTERNS) > 50


@pytest.mark.parametrize("name", PATTERNS)
def test_no_repetition_can_run_away(name: str):
    assert list(_faults(_parsed(PATTERNS[name]))) == []


@pytest.mark.parametrize("name", PATTERNS)
def test_bounded_repetitions_stay_few(name: str):
    assert _steps(_parsed(PATTERNS[name])) <= _MOST_STEPS


@pytest.mark.parametrize(
    ("pattern", "faults"),
    [(r"(?:a+)+b", 3), (r"(?:a|b*)*$", 3), (r"\d+x", 1), (r"[a-z]{2,9}\.x", 0), (r"x\d+", 0), (r"\d++x", 0)],
)
def test_the_walk_sees_what_it_must(pattern: str, faults: int):
    assert len(list(_faults(_parsed(re.compile(pattern))))) == faults


def _units(name: str, pattern: re.Pattern[Any]) -> list[str]:
    """What hostile texts are made of: the pattern's own signs, in random order, one by one, all in a row."""
    rng = random.Random(name)
    alphabet = sorted(_alphabet(_parsed(pattern)) | {"a", "1", " "})
    units = ["".join(rng.choices(alphabet, k=rng.randrange(1, 10))) for _ in range(4)]
    return [*units, *rng.sample(alphabet, min(3, len(alphabet))), "".join(alphabet[:40])]


def test_refusals_are_looked_for_in_short_texts_only():
    assert REACH_CHARS <= MAX_CHARS


@pytest.mark.parametrize("name", SHORT)
def test_patterns_for_short_texts_are_quick_on_the_longest_of_them(name: str):
    for unit in _units(name, SHORT[name])[:4]:
        text = (unit * MAX_CHARS)[:MAX_CHARS]
        assert Counter(SHORT[name], text, most_repeats=MAX_CHARS, limit=_MOST_WORK_WHEN_SHORT).search_all(), repr(unit)


def _runs_away(pattern: re.Pattern[Any], unit: str) -> bool:
    """Whether twice the text takes far more than twice the steps."""
    texts = [(unit * (size // len(unit) + 1))[:size] for size in (_SHORT, _LONG)]
    try:
        short, long = (Counter(pattern, text, _MOST_REPEATS, limit=_MOST_WORK).search_all() for text in texts)
    except TooMuchWork:
        return True
    return long / short > _MOST_GROWTH


@pytest.mark.parametrize("name", PATTERNS)
def test_work_grows_with_the_text_and_not_with_its_square(name: str):
    assert [unit for unit in _units(name, PATTERNS[name]) if _runs_away(PATTERNS[name], unit)] == []


@pytest.mark.parametrize(
    ("pattern", "unit", "away"),
    [
        (r"(?:a+)+b", "a", True),
        (r"\d+x", "1", True),
        (r"\d++x", "1", True),  # no way back, but every place begins anew
        (r"(?:a|b|ab)*$", "abc", False),
        (r"(?:ab|a|b)*x", "ab", True),
        (r"a{1,6}b", "a", False),
        (r"(?<!x)(?:ab|cd){0,3}?$", "abcd", False),
    ],
)
def test_the_count_shows_what_runs_away(pattern: str, unit: str, away: bool):
    assert _runs_away(re.compile(pattern), unit) is away


@pytest.mark.parametrize("name", PATTERNS)
def test_the_counter_finds_what_the_engine_finds(name: str):
    pattern = PATTERNS[name]
    for unit in _units(name, pattern)[:4]:
        text = unit * 3
        counter = Counter(pattern, text, most_repeats=10_000, limit=10 * _MOST_WORK)
        found = pattern.search(text.encode("utf-8", "replace") if isinstance(pattern.pattern, bytes) else text)
        starts = (at for at in range(len(text) + 1) if counter.ends_at(at) is not None)
        assert next(starts, None) == (None if found is None else found.start()), repr(text)
