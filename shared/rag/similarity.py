"""Which texts are alike, and what they are about: over unit vectors and words, without a model.

- Similarity is the cosine of two vectors; what counts as near depends on the model that made them.
- Clusters are made by complete linkage: every two texts of a cluster are at least as similar as asked, so no chain of
  neighbours joins what is not alike.
- Key phrases are ranked by the C-value (Frantzi, Ananiadou, Mima: Automatic recognition of multi-word terms, 2000): how
  often a run of words that mean something is said, less how often it is only a part of a longer one.
- Labels of clusters weigh phrases as BERTopic does (Grootendorst, 2022, class-based TF-IDF): often in the cluster and
  seldom in the others.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.rag.terms import query_terms, text_terms

Matrix = NDArray[np.float32]
_Terms = tuple[str, ...]

_MOST_WORDS: Final = 4
"""Of a phrase; longer runs are mostly titles and lists."""
_MOST_CHARACTERS: Final = 6
"""Of a phrase in a script without spaces, where a character counts as a word."""
_ONCE: Final = 0.5
"""What a phrase that is said only once counts for: most runs of words are no terms."""
_BREAK: Final = re.compile(r"[^\w\s'\u2019-]|\n|\s['\u2019-]|['\u2019-]\s")
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]{2,}")
_WORD: Final = re.compile(r"[^\W_]+(?:_+[^\W_]+)*")
_LEAST_LETTERS: Final = 3
_NUMBER: Final = re.compile(r"[\d\W_]+")
_PRECISION: Final = 4


@dataclass(frozen=True, slots=True)
class KeyPhrase:
    """A phrase as it first stands in its text; the best of a text has score 1."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """Texts that are alike, by their places, in order.

    Attributes:
        cohesion: cosine of its two texts that are the least alike; 1 for one text.
        centre: place of the text that is the most like the others.
    """

    members: tuple[int, ...]
    cohesion: float
    centre: int


def matrix_of(vectors: Sequence[bytes]) -> Matrix:
    """Little-endian single-precision vectors as rows of unit length; one without length or with NaN becomes zero.

    Raises:
        ValueError: their lengths differ.
    """
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("vectors of one model have one length")
    rows = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1) if vectors else np.zeros((0, 0))
    finite: NDArray[np.float64] = np.nan_to_num(rows.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(finite, axis=1, keepdims=True)
    unit = np.divide(finite, lengths, out=np.zeros_like(finite), where=lengths > 0)
    single: Matrix = unit.astype(np.float32)
    return single


def pairwise(rows: Matrix) -> Matrix:
    """Cosine of every two rows, in [-1, 1]: symmetric, with ones on the diagonal."""
    products = rows @ rows.T
    found = np.clip((products + products.T) / 2, -1.0, 1.0).astype(np.float32)
    np.fill_diagonal(found, 1.0)
    return found


def nearest(similarity: Matrix, count: int) -> list[list[tuple[int, float]]]:
    """For each text its `count` nearest others, the nearest first; of equals the one that stands first."""
    found: list[list[tuple[int, float]]] = []
    for place, row in enumerate(similarity):
        order = [int(other) for other in np.argsort(-row, kind="stable") if other != place][:count]
        found.append([(other, float(row[other])) for other in order])
    return found


def clusters(similarity: Matrix, threshold: float) -> tuple[Cluster, ...]:
    """The texts in groups in which every two are at least `threshold` alike; the largest first, single texts included.

    The two groups that are the most alike are joined until none may be; so the result depends on nothing but the
    similarities and, among equals, on the order of the texts.
    """
    count = len(similarity)
    linkage = similarity.astype(np.float64).copy()
    np.fill_diagonal(linkage, -np.inf)
    groups: dict[int, list[int]] = {place: [place] for place in range(count)}
    while len(groups) > 1:
        first, second = divmod(int(np.argmax(linkage)), count)
        if linkage[first, second] < threshold:
            break
        groups[first] += groups.pop(second)
        # Complete linkage: as alike as their least alike members.
        linkage[first] = np.minimum(linkage[first], linkage[second])
        linkage[:, first] = linkage[first]
        linkage[second] = linkage[:, second] = -np.inf
        linkage[first, first] = -np.inf
    made = [_cluster(sorted(members), similarity) for members in groups.values()]
    return tuple(sorted(made, key=lambda cluster: (-len(cluster.members), cluster.members)))


def _cluster(members: list[int], similarity: Matrix) -> Cluster:
    inside = similarity[np.ix_(members, members)]
    return Cluster(tuple(members), float(inside.min()), members[int(inside.sum(axis=1).argmax())])


def key_phrases(text: str, count: int) -> tuple[KeyPhrase, ...]:
    """The phrases that say the most of a text, the best first; of equals the one that stands first."""
    times, shown = _counted(text)
    longer: Counter[_Terms] = Counter()
    said_in_longer: Counter[_Terms] = Counter()
    for terms, often in times.items():
        for size in range(1, len(terms)):
            for part in {terms[start : start + size] for start in range(len(terms) - size + 1)}:
                longer[part] += 1
                said_in_longer[part] += often
    scores = {
        terms: math.log2(len(terms) + 1)
        * (often - said_in_longer[terms] / max(1, longer[terms]))
        * (1.0 if often > 1 else _ONCE)
        for terms, often in times.items()
    }
    return _best({terms: score for terms, score in scores.items() if score > 0}, shown, count)


def topic_labels(
    texts: Sequence[str], groups: Sequence[Sequence[int]], count: int
) -> tuple[tuple[KeyPhrase, ...], ...]:
    """For each group of texts the phrases that tell it from the other groups, the best first.

    Args:
        texts: all texts.
        groups: places of each group's texts.
        count: most of a group.
    """
    shown: dict[_Terms, str] = {}
    counted: list[Counter[_Terms]] = []
    for members in groups:
        found: Counter[_Terms] = Counter()
        for place in members:
            # A text that repeats itself is one voice.
            grams = {terms: surface for terms, surface, _ in _grams(texts[place])}
            found.update(grams.keys())
            shown = grams | shown
        counted.append(found)
    overall: Counter[_Terms] = Counter()
    for found in counted:
        overall.update(found)
    average = sum(overall.values()) / max(1, len(groups))
    return tuple(
        _best(
            {
                terms: math.log2(len(terms) + 1) * often * math.log(1 + average / overall[terms])
                for terms, often in found.items()
            },
            shown,
            count,
        )
        for found in counted
    )


def _counted(text: str) -> tuple[Mapping[_Terms, int], Mapping[_Terms, str]]:
    """Phrases with how often they are said and how they are first written; parts of others only when said again."""
    times: Counter[_Terms] = Counter()
    shown: dict[_Terms, str] = {}
    whole: set[_Terms] = set()
    for terms, surface, is_whole in _grams(text):
        times[terms] += 1
        shown.setdefault(terms, surface)
        if is_whole:
            whole.add(terms)
    return {terms: often for terms, often in times.items() if often > 1 or terms in whole}, shown


def _best(scores: Mapping[_Terms, float], shown: Mapping[_Terms, str], count: int) -> tuple[KeyPhrase, ...]:
    # Sorting is stable: of equals, the one that was said first comes first.
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    chosen: list[tuple[_Terms, float]] = []
    for terms, score in ranked:
        if len(chosen) == count:
            break
        if not any(_holds(known, terms) or _holds(terms, known) for known, _ in chosen):
            chosen.append((terms, score))
    return tuple(KeyPhrase(shown[terms], round(score / chosen[0][1], _PRECISION)) for terms, score in chosen)


def _holds(whole: _Terms, part: _Terms) -> bool:
    size = len(part)
    return any(whole[start : start + size] == part for start in range(len(whole) - size + 1))


def _grams(text: str) -> Iterator[tuple[_Terms, str, bool]]:
    """Every phrase inside the runs of words that mean something, as it is written, and whether it is a whole run."""
    # Of a text that only asks, every word would be left.
    meaning = query_terms(text).keys() & text_terms(text).keys()
    for stretch in _BREAK.split(text):
        run: list[tuple[str, int, int]] = []
        for found in _WORD.finditer(stretch):
            if _UNSPACED.match(found.group()):
                continue
            # The first term of a word is the whole of it; its parts, of an identifier, come after.
            (term, *_), start, end = query_terms(found.group()) or ("",), found.start(), found.end()
            joins = bool(run) and not stretch[run[-1][2] : start].strip("'\u2019- ")
            if run and not (joins and term in meaning):
                yield from _inside(run, stretch)
                run = []
            if term in meaning:
                run.append((term, start, end))
        yield from _inside(run, stretch)
    for unspaced in _UNSPACED.finditer(text):
        run = [(text[place], place, place + 1) for place in range(*unspaced.span())]
        yield from _inside(run, text, least=2, most=_MOST_CHARACTERS)


def _inside(
    run: list[tuple[str, int, int]], source: str, *, least: int = 1, most: int = _MOST_WORDS
) -> Iterator[tuple[_Terms, str, bool]]:
    for size in range(least, min(len(run), most) + 1):
        for first in range(len(run) - size + 1):
            part = run[first : first + size]
            surface = source[part[0][1] : part[-1][2]]
            is_phrase = least > 1 or (len(surface) >= _LEAST_LETTERS and not _NUMBER.fullmatch(surface))
            if is_phrase:
                yield tuple(term for term, _, _ in part), surface, size == len(run)
