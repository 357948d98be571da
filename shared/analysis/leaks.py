"""Whether an answer repeats the system text, by runs of words that both have.

Words are compared without case and punctuation, so a leak that is reworded a little still has runs; one that is
translated or encoded has none, and is not found.
"""

import re
from collections.abc import Iterator
from typing import Final

_WORD: Final = re.compile(r"\w+")
_RUN_WORDS: Final = 8
"""Two texts rarely share eight words in a row by chance; set phrases are shorter."""
_LEAST_WORDS: Final = 16
"""Of a repetition that is taken out: a sentence or two, not a courtesy that the system text asked for."""
LEAK_SHARE: Final = 0.3
"""Share of the system text's runs from which on an answer counts as a leak."""
_HOLD_CHARS: Final = 240
"""Of a stream's end, when it could be the beginning of a repetition: twice `_LEAST_WORDS` words of usual length."""


class LeakFinder:
    """Knows a system text.

    Args:
        system: the text; one shorter than a repetition cannot leak.
    """

    def __init__(self, system: str) -> None:
        words = [word.lower() for word in _WORD.findall(system)]
        self._runs = frozenset(hash(tuple(words[i : i + _RUN_WORDS])) for i in range(len(words) - _RUN_WORDS + 1))
        self._words = frozenset(words)
        self.can_leak = len(words) >= _LEAST_WORDS

    def share(self, answer: str) -> float:
        """Share of the system text's runs of words that the answer has, in [0, 1]."""
        if not self.can_leak:
            return 0.0
        words = [word.lower() for word in _WORD.findall(answer)]
        seen = {hash(tuple(words[i : i + _RUN_WORDS])) for i in range(len(words) - _RUN_WORDS + 1)}
        return len(seen & self._runs) / len(self._runs)

    def safe_length(self, text: str) -> int:
        """How much of a text that goes on cannot be part of a repetition that is still to come."""
        if not self.can_leak:
            return len(text)
        words = list(_WORD.finditer(text))
        # A word that could go on, and all words before it that the system text has.
        index = len(words) - 1
        while index >= 0 and (index == len(words) - 1 or words[index][0].lower() in self._words):
            index -= 1
        first = words[index + 1].start() if index + 1 < len(words) else len(text)
        return first if len(text) - first <= _HOLD_CHARS else self._beyond_hold(text, first)

    def _beyond_hold(self, text: str, first: int) -> int:
        """A long run of the system text's words: up to a repetition under way, else all but its end."""
        last = next(iter(list(self.repetitions(text))[::-1]), None)
        if last is not None and len(text) - last[1] <= _HOLD_CHARS and len(text) - last[0] <= 16 * _HOLD_CHARS:
            return max(first, last[0])
        return len(text) - _HOLD_CHARS

    def repetitions(self, text: str) -> Iterator[tuple[int, int]]:
        """Where a text repeats the system text at some length."""
        if not self.can_leak:
            return
        words = list(_WORD.finditer(text))
        plain = [word[0].lower() for word in words]
        start: int | None = None
        last = -1
        for index in range(len(words)):
            is_run = hash(tuple(plain[index : index + _RUN_WORDS])) in self._runs
            if is_run:
                start = index if start is None else start
                last = index + _RUN_WORDS - 1
            elif start is not None and index > last:
                if last - start + 1 >= _LEAST_WORDS:
                    yield words[start].start(), words[last].end()
                start = None
        if start is not None and last - start + 1 >= _LEAST_WORDS:
            yield words[start].start(), words[last].end()
