"""What a retrieval was worth, question by question; means come with a confidence interval."""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CUT = 10
_RESAMPLED = 1_000


@dataclass(frozen=True)
class Judged:
    """One question's measures.

    Attributes:
        hit: K1, whether a labelled passage is among the first ten.
        coverage: K2, labelled passages among the first ten over as many as there could be.
        recall_5: share of the labelled passages among the first five.
        ndcg: normalised discounted cumulative gain of the first ten (Jaervelin and Kekaelaeinen 2002).
        reciprocal_rank: of the first labelled passage among the first ten.
    """

    hit: float
    coverage: float
    recall_5: float
    ndcg: float
    reciprocal_rank: float


def judge(ranking: Sequence[str], relevant: Mapping[str, int]) -> Judged:
    """Measure one ranking."""
    grades = [relevant.get(passage, 0) for passage in ranking[:CUT]]
    found = sum(grade > 0 for grade in grades)
    gain = sum(grade / math.log2(place + 2) for place, grade in enumerate(grades))
    ideal = sorted(relevant.values(), reverse=True)[:CUT]
    return Judged(
        float(found > 0),
        found / min(CUT, len(relevant)),
        sum(grade > 0 for grade in grades[:5]) / len(relevant),
        gain / sum(grade / math.log2(place + 2) for place, grade in enumerate(ideal)),
        next((1 / (place + 1) for place, grade in enumerate(grades) if grade), 0.0),
    )


def covered(spans: Iterable[tuple[str, int, int]], context: Sequence[tuple[str, int, int]]) -> float:
    """Share of the characters of evidence that stand in a context."""
    wanted = found = 0
    for document, start, end in spans:
        places = set(range(start, end))
        wanted += len(places)
        for other, first, last in context:
            if other == document:
                places -= set(range(max(first, start), min(last, end)))
        found += end - start - len(places)
    return found / wanted if wanted else 0.0


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Of the mean, 95%, by resampling questions (Efron's percentile bootstrap)."""
    if not values:
        return 0.0, 0.0
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(_RESAMPLED))
    return means[int(0.025 * _RESAMPLED)], means[int(0.975 * _RESAMPLED) - 1]


def told(values: Sequence[float]) -> str:
    """A mean with its interval, as it is printed."""
    low, high = interval(values)
    return f"{sum(values) / max(len(values), 1):.3f} [{low:.3f}, {high:.3f}]"
