"""An answer on its way to the caller: values back in the places of placeholders, secrets and the system text out.

Works on stream events; a whole answer goes through as the events that it is made of, so both are treated alike. Only
what could still become something is held back: the beginning of a placeholder, a word that could be a secret, a few
words that could be the system text's.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from shared.analysis.leaks import LeakFinder
from shared.analysis.redaction import LONGEST_PLACEHOLDER, PLACEHOLDER, Placeholders
from shared.analysis.security import Scanner
from shared.domain.replies import (
    CitationFound,
    Finished,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)

_MAX_HELD_CHARS: Final = 4096
"""Of a word without a gap; a longer one is no token but a picture, and its front is let go."""
_MAX_KEY_CHARS: Final = 16 * 1024
"""Of a private key, or of a signed token."""
_OPENERS: Final = re.compile(
    r"(?:<|&(?:l(?:t;?)?)?|\\(?:u(?:0(?:0(?:3[cC]?)?)?)?)?)[A-Z0-9_]{0,70}+(?:&(?:g(?:t)?)?|\\(?:u(?:0(?:0(?:3)?)?)?)?)?\Z"
)
_KEY_HEAD: Final = "-----BEGIN"
_KEY_FOOT: Final = re.compile(r"-----END [A-Z0-9 ]{0,64}-----")
_NAMED_KEY: Final = re.compile(r"secret_?access_?key[\"'\s:=>]{0,8}[A-Za-z0-9/+]{0,40}\Z", re.IGNORECASE)
"""A key that is known by the name before it."""
_JWT_HEAD: Final = re.compile(r"eyJ[\w-]{8,}+\.eyJ", re.ASCII)
"""The beginning of the one kind of token that can be longer than most."""
_MAX_NAMED_CHARS: Final = 80
SYSTEM_TEXT: Final = "system_text"
"""The kind of what repeats the system text."""


@dataclass(frozen=True, slots=True)
class FilterRules:
    """What is done to an answer.

    Attributes:
        placeholders: what is put back; None: nothing.
        secrets: finds credentials that are to be taken out; None: none is.
        is_known: whether a credential was in the request; what the caller wrote may come back.
        leaks: finds repetitions of the system text that are to be taken out; None: none is.
        text_is_json: the answer was asked for as JSON, so a value must not end the string that it stands in.
    """

    placeholders: Placeholders | None = None
    secrets: Scanner | None = None
    is_known: Callable[[str], bool] = lambda _value: False
    leaks: LeakFinder | None = None
    text_is_json: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return (
            self.secrets is not None or self.leaks is not None or bool(self.placeholders and self.placeholders.values)
        )


class AnswerFilter:
    """Filters the events of one answer.

    Args:
        rules: what is done.
    """

    def __init__(self, rules: FilterRules) -> None:
        self._rules = rules
        self._text = _Channel(rules, in_json=rules.text_is_json)
        self._thinking = _Channel(rules)
        self._calls: dict[int, _Channel] = {}

    @property
    def removed(self) -> Counter[str]:
        """What was taken out so far, by kind."""
        channels = (self._text, self._thinking, *self._calls.values())
        return sum((channel.removed for channel in channels), Counter())

    def take(self, event: StreamEvent) -> Iterator[StreamEvent]:
        """What the caller gets for an event; the last one must be a `Finished`."""
        match event:
            case TextDelta(text=text):
                yield from self._others(self._text)
                yield from _if_text(TextDelta(self._text.push(text)))
            case ThinkingDelta():
                yield from self._others(self._thinking)
                told = self._thinking.push(event.text)
                if event.signature is not None or event.redacted:
                    told += self._thinking.flush()
                if told or event.signature is not None or event.redacted:
                    yield replace(event, text=told)
            case ToolCallDelta():
                channel = self._calls.setdefault(event.index, _Channel(self._rules, in_json=True))
                yield from self._others(channel)
                yield replace(event, arguments_fragment=channel.push(event.arguments_fragment))
            case CitationFound(citation=citation):
                moved = self._text.moved
                yield CitationFound(replace(citation, start=moved(citation.start), end=moved(citation.end)))
            case Finished():
                yield from self._others(None)
                yield event
            case _:
                yield event

    def _others(self, current: "_Channel | None") -> Iterator[StreamEvent]:
        """What was held back elsewhere: nothing of it can go on once another part of the answer has begun."""
        if self._text is not current and self._text.held:
            yield from _if_text(TextDelta(self._text.flush()))
        if self._thinking is not current and self._thinking.held:
            yield ThinkingDelta(self._thinking.flush())
        for index, channel in self._calls.items():
            if channel is not current and channel.held:
                yield ToolCallDelta(index, arguments_fragment=channel.flush())


def _if_text(delta: TextDelta) -> tuple[TextDelta, ...]:
    return (delta,) if delta.text else ()


@dataclass(slots=True)
class _Channel:
    """One text that arrives in pieces."""

    rules: FilterRules
    in_json: bool = False
    held: str = ""
    removed: Counter[str] = field(default_factory=Counter)
    _swallowing: bool = False
    _in: int = 0
    _out: int = 0
    _shifts: list[tuple[int, int]] = field(default_factory=list)

    def push(self, piece: str) -> str:
        """Take a piece; returns what can be told."""
        held = self.held + piece
        if self._swallowing:
            held = held.lstrip(_WORD_CHARS)
            self._swallowing = not held
        safe = self._safe(held)
        self.held = held[safe:]
        return self._told(held[:safe])

    def flush(self) -> str:
        """The rest: nothing comes after it."""
        held, self.held = self.held, ""
        self._swallowing = False
        return self._told(held)

    def moved(self, place: int | None) -> int | None:
        """Where a character of the model's text stands in what is told."""
        if place is None or not self._shifts:
            return place
        index = bisect_right(self._shifts, (place, 2**62)) - 1
        return place if index < 0 else place + self._shifts[index][1]

    def _safe(self, held: str) -> int:
        """How much of it cannot become part of anything."""
        safe = len(held)
        if self.rules.secrets is not None:
            safe = self._before_secret(held)
        if self.rules.leaks is not None:
            safe = min(safe, self.rules.leaks.safe_length(held))
        if self.rules.placeholders is not None and self.rules.placeholders.values:
            opener = _OPENERS.search(held, max(0, len(held) - LONGEST_PLACEHOLDER))
            safe = safe if opener is None else min(safe, opener.start())
            # Whole ones are not to be cut in two either.
            for placeholder in PLACEHOLDER.finditer(held, max(0, safe - LONGEST_PLACEHOLDER)):
                if placeholder.start() < safe < placeholder.end():
                    safe = placeholder.start()
        return safe

    def _before_secret(self, held: str) -> int:
        """How much of it lies before what could be a credential still under way."""
        head = held.rfind(_KEY_HEAD)
        foot = None if head < 0 else _KEY_FOOT.search(held, head)
        if head >= 0 and foot is None and len(held) - head < _MAX_KEY_CHARS:
            return head
        named = _NAMED_KEY.search(held, max(0, len(held) - _MAX_NAMED_CHARS))
        whole = 0 if foot is None else foot.end()
        word = whole + len(held[whole:].rstrip(_WORD_CHARS)) if named is None else named.start()
        if len(held) - word <= (_MAX_KEY_CHARS if _JWT_HEAD.search(held, word) else _MAX_HELD_CHARS):
            return word
        if self.rules.secrets is not None and self.rules.secrets.certain(held[word:]):
            self._swallowing = True
            return len(held)
        return len(held) - _MAX_HELD_CHARS // 2

    def _told(self, text: str) -> str:
        pieces: list[str] = []
        done = 0
        for start, end, instead in sorted(self._replacements(text), key=lambda found: found[:2]):
            if start < done:
                continue
            pieces += [text[done:start], instead]
            self._out += start - done + len(instead)
            self._shifts.append((self._in + end, self._out - self._in - end))
            done = end
        self._in += len(text)
        self._out += len(text) - done
        return "".join((*pieces, text[done:]))

    def _replacements(self, text: str) -> Iterator[tuple[int, int, str]]:
        rules = self.rules
        if rules.secrets is not None:
            for kind, (start, end, _, _) in rules.secrets.certain(text):
                if not rules.is_known(text[start:end]):
                    self.removed[kind] += 1
                    yield start, end, f"[REDACTED:{kind}]"
        if rules.leaks is not None:
            for start, end in rules.leaks.repetitions(text):
                self.removed[SYSTEM_TEXT] += 1
                yield start, end, f"[REDACTED:{SYSTEM_TEXT}]"
        if rules.placeholders is not None:
            yield from rules.placeholders.found(text, in_json=self.in_json)


_WORD_CHARS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+/=~%:?&@;"
"""What credentials and the names before them are written with."""
