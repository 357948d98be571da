"""What of the passages goes into a context: the best of them that fit, in the order in which they are read.

Chunks of a document that touch or overlap become one passage, so nothing is said twice and nothing is torn: what they
share is counted once, and that is room for more. A passage that says what a better one says is left out, unless it says
it with other figures or names: those are what contradictions are made of.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from shared.domain.documents import Chunk, Passage

TokenCounter = Callable[[str], int]

_SAME: Final = 0.8
"""Share of its runs of three words that stand in a better passage too, when a passage says nothing new."""
_WORDS: Final = re.compile(r"\w+")
_TELLING: Final = re.compile(r"[A-Z\u00c0-\u00de][^\W\d_]+|\d[\d.,:/-]*")
"""Names and figures."""


def without_repetition(passages: Sequence[Passage]) -> list[Passage]:
    """The passages without those that a better one repeats word for word, or nearly."""
    kept: list[tuple[Passage, _Sayings]] = []
    for passage in passages:
        said = _sayings(passage.chunk.text)
        if not any(_repeats(said, known) for _, known in kept):
            kept.append((passage, said))
    return [passage for passage, _ in kept]


def pack(passages: Sequence[Passage], *, budget_tokens: int, count_tokens: TokenCounter) -> list[Passage]:
    """The passages that fit, joined where they touch, each document's in its own order.

    Args:
        passages: the best first.
        budget_tokens: of all texts and prefixes together.
        count_tokens: counts them.
    """
    chosen: list[Passage] = []
    packed: list[Passage] = []
    for passage in passages:
        tried = _joined([*chosen, passage])
        if sum(count_tokens(joined.chunk.full_text) for joined in tried) <= budget_tokens:
            chosen, packed = [*chosen, passage], tried
    return packed


def _joined(passages: Sequence[Passage]) -> list[Passage]:
    """Passages in reading order, those of a document that touch as one; documents by their best passage."""
    documents: dict[str, list[Passage]] = {}
    for passage in passages:
        documents.setdefault(passage.document_id, []).append(passage)
    return [joined for document in documents.values() for joined in _runs(document)]


def _runs(document: Iterable[Passage]) -> Iterable[Passage]:
    run: Passage | None = None
    for passage in sorted(document, key=lambda passage: (passage.chunk.start, passage.chunk.end)):
        if run is not None and _touches(run.chunk, passage.chunk):
            run = _both(run, passage)
            continue
        if run is not None:
            yield run
        run = passage
    if run is not None:
        yield run


def _touches(first: Chunk, second: Chunk) -> bool:
    # The text must be where its offsets say, or the seam would be a guess.
    return second.start <= first.end and all(len(chunk.text) == chunk.end - chunk.start for chunk in (first, second))


def _both(first: Passage, second: Passage) -> Passage:
    one, other = first.chunk, second.chunk
    text = one.text + other.text[max(one.end - other.start, 0) :] if other.end > one.end else one.text
    chunk = replace(
        one,
        text=text,
        end=max(one.end, other.end),
        tokens=one.tokens + other.tokens,
        label=max(one.label, other.label),
    )
    best = max(first, second, key=lambda passage: passage.score)
    return replace(best, chunk=chunk)


@dataclass(frozen=True, slots=True)
class _Sayings:
    """What a text says: its runs of three words, and its names and figures."""

    runs: frozenset[tuple[str, ...]]
    telling: frozenset[str]


def _sayings(text: str) -> _Sayings:
    words = _WORDS.findall(text.casefold())
    runs = zip(words, words[1:], words[2:], strict=False) if len(words) > 2 else [tuple(words)]  # noqa: PLR2004 - a run
    return _Sayings(frozenset(runs), frozenset(_TELLING.findall(text)))


def _repeats(said: _Sayings, known: _Sayings) -> bool:
    return len(said.runs & known.runs) >= _SAME * len(said.runs) and said.telling <= known.telling
