"""What an answer cites, and how much of it stands in what it cites.

A sentence's passages are those whose numbers stand in it or, where it has none, those that its paragraph cites. It is
supported when its figures stand in them, and so do its words and its meaning: the share of its words that they hold
and, where that is not nearly all, the mean of it and of the nearness of their nearest sentence, is `SUPPORT_FROM` or
more. That tells what a passage is about from what it is not about; it does not tell a claim from its denial.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.domain.documents import Citation, Passage
from shared.rag.terms import query_terms, text_terms

Encode = Callable[[str], NDArray[np.float32]]
"""The meaning of a sentence as a vector."""

SUPPORT_FROM: Final = 0.45
"""Measured on claims about scientific papers (docs/rag.md): 83% reach it with a paper that they are about, 2% with any
other one."""
_NEARLY_ALL: Final = 0.9
"""Share of words from which on no vector would change the verdict."""
_COMPARED: Final = 3
"""Sentences of a passage whose vectors are compared: those that share the most words."""
_LEAST_TERMS: Final = 2
"""A sentence with fewer words that mean something claims nothing."""
_MOST_QUOTED: Final = 2
"""Sentences of a quote."""
_MOST_SENTENCES: Final = 200
"""Of an answer that are looked at."""
_MOST_SENTENCE_CHARS: Final = 2000

_NUMBERS: Final = r"\d{1,3}(?:\s?[,;\u2013-]\s?\d{1,3}){0,20}"
_MARKER: Final = re.compile(rf"(?:\[({_NUMBERS})\](?!\()|\u3010({_NUMBERS})\u3011)")
_MARKED: Final = re.compile(rf"\s?{_MARKER.pattern}")
_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|vs|etc|No|Nr|Fig|Abb|Sec|Eq|ca|bzw|approx|e\.g|i\.e|z\.B|d\.h|u\.a|[A-Z])\.)$"
)
_SENTENCE_END: Final = re.compile(
    rf"(?:[.!?\u2026][\"'\u201d\u2019)*_]*(?:\s?{_MARKER.pattern})*(?=\s|$)"
    rf"|[\u3002\uff01\uff1f][\u201d\u300d\u300f]*(?:\s?{_MARKER.pattern})*|\n+)"
)
_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_FIGURE: Final = re.compile(r"\d(?:[\d.,\u2019\u00a0]*\d)")
_SEPARATORS: Final = re.compile(r"[.,\u2019\u00a0]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer.

    Attributes:
        start, end: in characters of the answer.
        text: without markers.
        cited: numbers of the passages that stand for it.
        support: in [0, 1]; 0 when it cites nothing.
        supported: whether that is enough.
    """

    start: int
    end: int
    text: str
    cited: tuple[int, ...]
    support: float = 0.0
    supported: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an answer rests on.

    Attributes:
        citations: one for each passage that is cited, in the order of the numbers; quotes stand in their documents.
        unknown_markers: numbers that the answer cites and no passage has.
        groundedness: share of the sentences that are supported; None when none claims anything.
        sentences: those that claim something.
    """

    citations: tuple[Citation, ...] = ()
    unknown_markers: tuple[int, ...] = ()
    groundedness: float | None = None
    sentences: tuple[Sentence, ...] = field(default=(), repr=False)


def evidence_of(answer: str, passages: Sequence[Passage], encode: Encode | None = None) -> Evidence:
    """Check an answer against the passages that it was made from.

    Args:
        answer: with markers.
        passages: as they were numbered, from 1.
        encode: nearness of meaning; without it words alone count.
    """
    read = {number: _Readable(passage) for number, passage in enumerate(passages, 1)}
    said = sentences_of(answer)
    numbers = {number for sentence in said for number in sentence.cited}
    citations = tuple(read[number].citation(number, said) for number in sorted(numbers & read.keys()))
    claims = [_judged(sentence, read, encode) for sentence in said if _claims(sentence.text)]
    groundedness = sum(claim.supported for claim in claims) / len(claims) if claims else None
    return Evidence(citations, tuple(sorted(numbers - read.keys())), groundedness, tuple(claims))


def _claims(text: str) -> bool:
    """Whether a sentence says something of the matter: questions, and remarks in brackets, do not."""
    is_remark = text.startswith(("(", "[")) and text.endswith((")", "]"))
    return not is_remark and not text.endswith(("?", "\uff1f")) and len(query_terms(text)) >= _LEAST_TERMS


def sentences_of(answer: str) -> list[Sentence]:
    """The sentences of an answer with what they cite; code is left out."""
    masked = _CODE.sub(lambda found: " " * len(found.group()), answer)
    found: list[Sentence] = []
    for start, end in _spans(masked, _PARAGRAPH):
        inside = [
            (first, last, _cited(masked[first:last]))
            for first, last in _sentence_spans(masked, start, end)
            if masked[first:last].strip()
        ]
        shared = tuple(dict.fromkeys(number for *_, numbers in inside for number in numbers))
        for first, last, numbers in inside:
            text = " ".join(_MARKED.sub("", masked[first:last][:_MOST_SENTENCE_CHARS]).split())
            found.append(Sentence(first, last, text, numbers or shared))
            if len(found) == _MOST_SENTENCES:
                return found
    return found


def _cited(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for found in _MARKER.finditer(text):
        for part in re.split(r"\s?[,;]\s?", found[1] or found[2]):
            first, _, last = re.sub(r"\s?[\u2013-]\s?", "-", part).partition("-")
            numbers += range(int(first), min(int(last or first), int(first) + 20) + 1)
    return tuple(dict.fromkeys(numbers))


def _spans(text: str, border: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    ends = [0, *(found.end() for found in border.finditer(text)), len(text)]
    return ((start, end) for start, end in pairwise(ends) if start < end)


def _sentence_spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for found in _SENTENCE_END.finditer(text, start, end):
        if found.group()[0] == "." and _ABBREVIATION.search(text, max(begin, found.start() - 8), found.start() + 1):
            continue
        yield begin, found.end()
        begin = found.end()
    yield begin, end


class _Readable:
    """A passage in the forms that sentences are held against."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        chunk = passage.chunk
        self.terms = text_terms(chunk.text, chunk.prefix).keys()
        self.figures = figures_of(chunk.full_text)
        self._spans = [
            (start, end)
            for start, end in _sentence_spans(chunk.text, 0, len(chunk.text))
            if chunk.text[start:end].strip()
        ]
        self._vectors: dict[tuple[int, int], NDArray[np.float32]] = {}

    def nearness(self, vector: NDArray[np.float32], terms: AbstractSet[str], encode: Encode) -> float:
        """Cosine of its nearest sentence, at least 0."""
        text = self.passage.chunk.text
        ranked = sorted(self._spans, key=lambda span: -len(terms & text_terms(text[span[0] : span[1]]).keys()))
        for span in ranked[:_COMPARED]:
            if span not in self._vectors:
                self._vectors[span] = encode(text[span[0] : span[1]])
        return max((_cosine(vector, self._vectors[span]) for span in ranked[:_COMPARED]), default=0.0)

    def citation(self, number: int, sentences: Sequence[Sentence]) -> Citation:
        """The citation of this passage, with the part of it that says what the sentences say."""
        said = [sentence.text for sentence in sentences if number in sentence.cited]
        start, end = self._quoted(said)
        chunk = self.passage.chunk
        quote = chunk.text[start:end]
        trimmed = quote.strip()
        start += quote.find(trimmed)
        return Citation(
            marker=f"[{number}]",
            document_id=self.passage.document_id,
            title=self.passage.title,
            source=self.passage.source,
            page=chunk.page,
            start=chunk.start + start,
            end=chunk.start + start + len(trimmed),
            quote=trimmed,
        )

    def _quoted(self, said: Sequence[str]) -> tuple[int, int]:
        """One or two neighbouring sentences that hold the most of what is said."""
        text = self.passage.chunk.text
        wanted: Mapping[str, float] = query_terms(" ".join(said))
        best, best_score = (0, len(text)), -1.0
        for first in range(len(self._spans)):
            for last in range(first, min(first + _MOST_QUOTED, len(self._spans))):
                start, end = self._spans[first][0], self._spans[last][1]
                held = text_terms(text[start:end]).keys()
                # A second sentence must bring something.
                score = sum(weight for term, weight in wanted.items() if term in held) - 0.5 * (last - first)
                if score > best_score:
                    best, best_score = (start, end), score
        return best


def _judged(sentence: Sentence, read: Mapping[int, _Readable], encode: Encode | None) -> Sentence:
    cited = [read[number] for number in sentence.cited if number in read]
    if not cited:
        return sentence
    terms = query_terms(sentence.text).keys()
    held = frozenset[str]().union(*(passage.terms for passage in cited))
    words = len(terms & held) / len(terms)
    support = words
    if encode is not None and words < _NEARLY_ALL:
        vector = encode(sentence.text)
        support = (words + max(passage.nearness(vector, terms, encode) for passage in cited)) / 2
    known = frozenset[str]().union(*(passage.figures for passage in cited))
    supported = support >= SUPPORT_FROM and figures_of(sentence.text) <= known
    return Sentence(sentence.start, sentence.end, sentence.text, sentence.cited, round(support, 4), supported)


def figures_of(text: str) -> frozenset[str]:
    """Numbers of two digits and more, without separators: a wrong one is wrong however well the words fit."""
    return frozenset(_SEPARATORS.sub("", figure) for figure in _FIGURE.findall(text))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return max(0.0, float(one @ other) / lengths) if lengths > 0 else 0.0
