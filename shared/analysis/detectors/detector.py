"""What a detector is, and the one pass over a text that says which of them have to look at all."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import re2

from shared.domain.security import SecurityLevel

Hit = tuple[int, int, SecurityLevel, float]
"""Start, end, level, confidence."""

_MAX_MEMORY_BYTES = 64 * 2**20
"""Of the automaton's states, which are made as texts need them; the patterns in use need less than one."""


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds one kind of content.

    Attributes:
        triggers: RE2 patterns, case-insensitive, of which at least one occurs in every text that holds a hit. They are
            short and plain: they run over every text.
        find: the hits of a text in their order, in time linear in its length.
        is_structural: whether a hit is known by its own form, whatever stands around it. Only such detectors look
            into disguised and joined text, where the words around are none.
    """

    kind: str
    triggers: tuple[str, ...]
    find: Callable[[str], Iterator[Hit]]
    is_structural: bool = False


class Triggers:
    """All triggers in one automaton: a text is read once, however many there are.

    Texts must have a UTF-8 form (`encodable`).

    Args:
        by_owner: triggers of each owner; owners are known by their places.
    """

    def __init__(self, by_owner: Sequence[Sequence[str]]) -> None:
        options = re2.Options()
        options.case_sensitive = False
        options.max_mem = _MAX_MEMORY_BYTES
        self._set = re2.Set.SearchSet(options)
        self._owners: list[int] = []
        for owner, triggers in enumerate(by_owner):
            for trigger in triggers:
                self._set.Add(trigger)
                self._owners.append(owner)
        # Matches every text: an answer without it means that the automaton gave up.
        self._always = len(self._owners)
        self._set.Add("")
        self._set.Compile()

    def fired(self, text: str) -> list[int]:
        """Places of the owners that must look at the text, in their order."""
        found = set(self._set.Match(text) or ())
        if self._always not in found:
            return sorted(set(self._owners))
        found.discard(self._always)
        return sorted({self._owners[match] for match in found})


def fast(pattern: str, *, ignore_case: bool = True) -> re2._Regexp:
    """A pattern for whole texts, without look-around: several times as fast there as the standard library's.

    What it finds is looked at closer, with patterns that may need more, where it was found.
    """
    options = re2.Options()
    options.case_sensitive = not ignore_case
    return re2.compile(pattern, options)


def settled(pattern: str) -> str:
    """A pattern for the standard engine whose runs of word characters are possessive.

    What follows such a run is never a word character, so a shorter one is never needed: tried nevertheless, they cost
    the square of the text. RE2, which never tries twice, has no such sign.
    """
    return pattern.replace(r"\w*", r"\w*+").replace(r"\w+", r"\w++")


def at_anchors(anchor: re2._Regexp, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Matches of a pattern that begin where an anchor does, none within another."""
    end = 0
    for place in anchor.finditer(text):
        match = pattern.match(text, place.start()) if place.start() >= end else None
        if match is not None:
            end = match.end()
            yield match


def matches(
    pattern: re.Pattern[str], level: SecurityLevel, confidence: float = 1.0, group: int | str = 0
) -> Callable[[str], Iterator[Hit]]:
    """A `Detector.find` that takes every match of a pattern; the hit is one of its groups."""

    def find(text: str) -> Iterator[Hit]:
        for match in pattern.finditer(text):
            yield match.start(group), match.end(group), level, confidence

    return find


def encodable(text: str) -> str:
    """The text with question marks for halves of surrogate pairs, which have no UTF-8 form; places stay the same."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def words_around(text: str, start: int, end: int, before: int, after: int = 0) -> str:
    """The text near a place, cut to so many characters before and after it; the place itself is blank."""
    return f"{text[max(0, start - before) : start]} \0 {text[end : end + after] if after else ''}"
