"""How well requests are read: `make eval-analysis` prints precision, recall and F1 of every class of every facet.

The gate (test_analysis_gate.py) holds the same figures to thresholds; tests/bench/analysis_cost.py prints what it costs.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from shared.analysis.features import analyse
from shared.domain.features import RequestFeatures
from tests.evals.analysis_items import Item, load_blind_items, load_items

UNKNOWN = "unknown"
_BINS = 10


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Of one class: how often it is right where said, how often said where right, and in how many items it is right."""

    precision: float
    recall: float
    support: int

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, slots=True)
class FacetScore:
    """Of one facet. Items may have several classes (formats) or none."""

    classes: dict[str, ClassScore]
    accuracy: float
    accuracy_hard: float
    items: int

    @property
    def macro_f1(self) -> float:
        """Mean over the classes that occur in the labels."""
        scores = [score.f1 for score in self.classes.values() if score.support]
        return sum(scores) / len(scores)


@dataclass(frozen=True, slots=True)
class Doubt:
    """How the classifier abstains, and how true its probabilities are.

    Attributes:
        coverage: share of the items with a task for which a task is said.
        accuracy_when_said: among those.
        calibration_error: expected calibration error over ten bins of the first probability (Naeini et al. 2015).
    """

    coverage: float
    accuracy_when_said: float
    calibration_error: float


Reading = tuple[Item, RequestFeatures]
_FACETS: dict[str, tuple[str, Callable[[RequestFeatures], object]]] = {
    "category": ("category", lambda features: features.category.value),
    "content type": ("content_type", lambda features: features.content_type),
    "formats": ("formats", lambda features: features.content_formats),
    "language": ("language", lambda features: features.language),
    "security level": ("security", lambda features: features.security_level.label),
    "findings": ("findings", lambda features: sorted({finding.kind for finding in features.findings})),
    "complexity": ("complexity", lambda features: features.complexity_level.value),
    "attachment type": ("detected", lambda features: features.attachments[0].detected_mime_type),
    "attachment mismatch": ("mismatch", lambda features: str(features.attachments[0].mismatch).lower()),
}
"""Facet: the label's key, and what the analysis says."""


BLIND_FACETS = ("category", "complexity", "language")
"""What the blind items have labels for."""


@cache
def readings() -> tuple[Reading, ...]:
    """Every item with its analysis."""
    return tuple((item, analyse(item.request)) for item in load_items())


@cache
def blind_readings() -> tuple[Reading, ...]:
    """Every blind item with its analysis."""
    return tuple((item, analyse(item.request)) for item in load_blind_items())


def facet_score(facet: str, *, blind: bool = False) -> FacetScore:
    """The score of a facet over all items that have a label for it."""
    key, said = _FACETS[facet]
    read = blind_readings() if blind else readings()
    pairs = [(_as_set(i.labels[key]), _as_set(said(f)), i.hard) for i, f in read if key in i.labels]
    names = sorted(set().union(*(true | found for true, found, _ in pairs)))
    return FacetScore(
        classes={name: _class_score(name, pairs) for name in names},
        accuracy=_share(true == found for true, found, _ in pairs),
        accuracy_hard=_share(true == found for true, found, hard in pairs if hard),
        items=len(pairs),
    )


def doubt() -> Doubt:
    """Abstention and calibration of the category."""
    labelled = [(i.labels["category"], f) for i, f in readings() if "category" in i.labels]
    tasks = [(true, f) for true, f in labelled if true != UNKNOWN]
    said = [(true, f) for true, f in tasks if f.category.value != UNKNOWN]
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for true, features in labelled:
        confidence = features.category_confidence
        bins[min(_BINS - 1, int(confidence * _BINS))].append((confidence, features.category.value == true))
    error = sum(abs(sum(c - right for c, right in part)) for part in bins) / len(labelled)
    return Doubt(len(said) / len(tasks), _share(f.category.value == true for true, f in said), error)


def _as_set(value: object) -> frozenset[str]:
    if isinstance(value, list | tuple):
        return frozenset(map(str, value))
    return frozenset((str(value).lower() if isinstance(value, bool) else str(value),))


def _class_score(name: str, pairs: Sequence[tuple[frozenset[str], frozenset[str], bool]]) -> ClassScore:
    both = sum(name in true and name in found for true, found, _ in pairs)
    said = sum(name in found for _, found, _ in pairs)
    support = sum(name in true for true, _, _ in pairs)
    return ClassScore(both / said if said else 0.0, both / support if support else 0.0, support)


def _share(hits: Iterable[bool]) -> float:
    found = list(hits)
    return sum(found) / len(found) if found else 1.0


def table(facet: str, *, blind: bool = False) -> str:
    """The figures of a facet as text."""
    score = facet_score(facet, blind=blind)
    accuracy = f"accuracy {score.accuracy:.3f} (hard ones {score.accuracy_hard:.3f})"
    lines = [
        f"{facet}: {score.items} items, {accuracy}, macro F1 {score.macro_f1:.3f}",
        f"    {'':28} precision  recall      F1   items",
    ]
    lines += [
        f"    {name[:28]:28} {of.precision:9.3f} {of.recall:7.3f} {of.f1:7.3f} {of.support:7}"
        for name, of in score.classes.items()
    ]
    return "\n".join(lines)


def report() -> str:
    """Everything but the timing."""
    found = doubt()
    abstention = (
        f"category doubt: says a task for {found.coverage:.3f} of the items that have one, right in "
        f"{found.accuracy_when_said:.3f} of those; expected calibration error {found.calibration_error:.3f}"
    )
    apart = [f"blind items, {table(facet, blind=True)}" for facet in BLIND_FACETS]
    return "\n\n".join((*map(table, _FACETS), abstention, *apart))


if __name__ == "__main__":
    sys.stdout.write(f"{report()}\n")
